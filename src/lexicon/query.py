"""What a Korean question asks: which objects (in English, for a detector), to count, find, list or see whether they are
there.

`parse_query("강아지가 몇 마리야?")` gives the target 강아지 → dog, the intent "count" and the counter 마리. Nothing here
needs a network or a model; words that the lexicon lacks come back as targets without English for `resolve`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from src.lexicon import phrases
from src.lexicon.phrases import Phrase
from src.lexicon.segment import Token, segment

Intent = Literal["count", "find", "exists", "list"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One meaning that a word may have: its English terms (none where nothing visible is meant) and Korean name."""

    english: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Target:
    """One object that a question names.

    word: as said, particles off, slips mended. english: detector terms, best first, attributes included ("red apple");
    empty when the lexicon does not know the word. base: the same without attributes. choices: every meaning in order
    where the question leaves it open, else empty. source: lexicon, compound (an unknown first part), english (an English
    word), counter (only a counter was said) or unknown. confidence: 0 to 1, a rule of thumb for ordering, no probability.
    number, counter: "두 마리" as 2 and 마리.
    """

    word: str
    lemma: str
    english: tuple[str, ...]
    base: tuple[str, ...]
    attributes: tuple[str, ...]
    choices: tuple[Choice, ...]
    source: str
    confidence: float
    number: int | None
    counter: str | None
    category: str


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed question. targets is empty where everything is meant ("뭐가 있어?") or nothing was said.

    corrections: (as typed, as understood). ignored: nouns that were read and set aside (places, what a person wears).
    each: the answer is wanted per object or kind.
    """

    text: str
    targets: tuple[Target, ...]
    intent: Intent
    each: bool
    corrections: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...]

    @property
    def word(self) -> str:
        """The first object as said, "" without one."""
        return self.targets[0].word if self.targets else ""

    @property
    def english(self) -> tuple[str, ...]:
        """The first object's English terms, () without one."""
        return self.targets[0].english if self.targets else ()

    @property
    def counter(self) -> str | None:
        return next((t.counter for t in self.targets if t.counter), None)

    @property
    def number(self) -> int | None:
        return next((t.number for t in self.targets if t.number is not None), None)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The first object's open meanings, () where it has one."""
        return self.targets[0].choices if self.targets else ()


def parse_query(text: str) -> Query:
    """Read a question, in Korean, English or both.

    A bare noun ("강아지") and a question whose intent no word gives are "find": boxes hold the count as well.
    """
    tokens = segment(text)
    tokens = phrases.english_words(tokens)
    intent, each = intent_of(tokens)
    found, ignored, corrections = phrases.targets_of(tokens)
    targets = tuple(_target(phrase) for phrase in found)
    return Query(text, targets, intent, each, tuple(corrections), tuple(ignored))


def intent_of(tokens: list[Token]) -> tuple[Intent, bool]:
    """The intent and whether an answer per object is wanted. Counting outranks finding, finding outranks existence."""
    tags = [token.tag for token in tokens if token.kind in ("F", "D", "X") and token.tag]
    each = "each" in tags
    if "count" in tags or "number" in tags:
        return "count", each
    texts = [token.text for token in tokens]
    # "어디 있는지 보여줘" looks for it; "있는지 찾아줘" asks whether it is there
    where = any(t.startswith(("어디", "어딨", "위치", "있는곳", "있는위치", "좌표", "표시")) for t in texts)
    if "list" in tags:
        return "list", each
    if where:
        return "find", each
    if "exists" in tags:
        return "exists", each
    # "사과야?", "고양이인가요?" asks whether it is one
    last = next((token for token in reversed(tokens) if token.kind != "X"), None)
    if "find" not in tags and last is not None and last.kind == "J" and last.tag == "copula":
        return "exists", each
    return "find", each


def _target(phrase: Phrase) -> Target:
    return Target(
        word=phrase.word,
        lemma=phrase.lemma,
        english=tuple(" ".join((*phrase.attributes, term)) for term in phrase.english),
        base=phrase.english,
        attributes=tuple(phrase.attributes) if phrase.english else (),
        choices=tuple(Choice(english, meaning) for english, meaning in phrase.choices),
        source=phrase.source,
        confidence=phrase.confidence,
        number=phrase.number,
        counter=phrase.counter,
        category=phrase.category,
    )
