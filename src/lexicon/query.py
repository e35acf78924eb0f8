"""What a Korean question asks: which objects (in English, for a detector), and whether to count, find or list them or
to see whether they are there.

`parse_query("강아지가 몇 마리야?")` gives the target 강아지 (dog), the intent "count" and the counter 마리. Nothing
here needs a network or a model; words that the lexicon lacks come back as targets without English, for `resolve`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from src.lexicon.meaning import Choice, Target, counted_only, target_of
from src.lexicon.mending import english_words, mend, merge_unknown
from src.lexicon.phrases import phrases_of
from src.lexicon.segment import Token, segment

Intent = Literal["count", "find", "exists", "list"]
WHERE = ("어디", "어딨", "위치", "있는곳", "있는위치", "좌표", "표시")


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed question.

    targets: empty where everything is meant ("뭐가 있어?") or nothing was said. each: the answer is wanted per object
    or kind. corrections: (as typed, as understood). ignored: nouns that were read and set aside (a place, what a
    person wears, a thing excluded).
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
        """The first counter said."""
        return next((target.counter for target in self.targets if target.counter), None)

    @property
    def number(self) -> int | None:
        """The first number said ("두 마리 있어?": 2), None where "how many" is the question."""
        return next((target.number for target in self.targets if target.number is not None), None)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The first object's open meanings, () where it has one."""
        return self.targets[0].choices if self.targets else ()


def parse_query(text: str) -> Query:
    """Read a question, in Korean, English or both.

    A bare noun ("강아지"), or a question whose intent no word gives, is "find": its boxes hold the count as well.
    """
    tokens, corrections = mend(merge_unknown(english_words(segment(text))))
    intent, each = intent_of(tokens, asks=text.rstrip().endswith(("?", "？")))
    found = phrases_of(tokens)
    targets = tuple(target_of(phrase, tokens) for phrase in found if phrase.role == "target") or counted_only(tokens)
    ignored = tuple(phrase.text for phrase in found if phrase.role in ("place", "context", "excluded"))
    return Query(text, targets, intent, each, tuple(corrections), ignored)


def intent_of(tokens: list[Token], *, asks: bool) -> tuple[Intent, bool]:
    """The intent, and whether an answer per object is wanted. Counting outranks all else.

    asks: the text ends with a question mark; a question whose verb is unknown ("나사가 빠졌어?") asks whether it is so.
    """
    tags = [token.tag for token in tokens if token.kind in ("F", "D") and token.tag]
    each = "each" in tags
    if "count" in tags or "number" in tags:
        return "count", each
    if "list" in tags:
        return "list", each
    # "어디 있는지 보여줘" looks for it, "있는지 찾아줘" asks whether it is there
    if any(token.text.startswith(WHERE) for token in tokens if token.kind == "F"):
        return "find", each
    if "exists" in tags:
        return "exists", each
    last = tokens[-1] if tokens else None
    if "find" not in tags and last is not None:
        strange = asks and last.kind == "U" and any(token.kind == "N" for token in tokens)
        if strange or (last.kind == "J" and last.tag == "copula"):
            return "exists", each
    return "find", each
