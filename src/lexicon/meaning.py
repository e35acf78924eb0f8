"""What a noun phrase means: its English terms, its open meanings, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from src.lexicon import grammar
from src.lexicon.entries import DATA, Entry, english_key, lexicon, read_rows
from src.lexicon.hangul import final_of
from src.lexicon.names import english_entry
from src.lexicon.phrases import Phrase
from src.lexicon.segment import Token
from src.lexicon.senses import is_kind_of, ranked, senses_of

CONFIDENCE = {"lexicon": 1.0, "english": 0.9, "compound": 0.6, "counter": 0.5, "unknown": 0.0}
# what is left of the confidence when a meaning is open, and when a slip was mended
OPEN, MENDED = 0.6, 0.8
PEOPLE_NOUNS = ("인원수", "머릿수", "명수")


@dataclass(frozen=True, slots=True)
class Choice:
    """One meaning that a word may have: its English terms (none where nothing visible is meant) and its Korean name."""

    english: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Target:
    """One object that a question names.

    word: as said, particles off, slips mended. lemma: the lexicon's name of it. english: detector terms, best first,
    attributes included ("red apple"); empty when the lexicon does not know the word. base: the same without attributes.
    choices: every meaning in order, where the question leaves it open or means nothing visible, else empty. source:
    lexicon, compound (a name put together from its parts), english (an English word), counter (only a counter was
    said) or unknown. confidence: 0 to 1, a rule of thumb for ordering, no probability. number, counter: "두 마리" is 2
    and 마리. category: the lexicon's subject.
    """

    word: str
    lemma: str = ""
    english: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    source: str = "unknown"
    confidence: float = 0.0
    number: int | None = None
    counter: str | None = None
    category: str = ""


def target_of(phrase: Phrase, tokens: list[Token]) -> Target:
    """What a phrase names; tokens is the whole question, whose other words tell meanings apart."""
    pieces = _without_measure(phrase)
    head = _without_particle(pieces[-1], phrase)
    pieces = [*pieces[:-1], head]
    target = Target(" ".join(_spelled(token) for token in pieces), number=phrase.number, counter=phrase.counter)
    if head.kind == "E":
        named = _english(target, head)
    elif head.kind == "N":
        around = "".join(" " + t.text if t.spaced else t.text for t in tokens if t.start != head.start)
        named = _korean(target, pieces, around)
    else:
        return target
    attributes = (*phrase.attributes, *named.attributes) if named.base else ()
    english = tuple(" ".join((*attributes, term)) for term in named.base)
    return replace(named, attributes=attributes, english=english)


def _without_measure(phrase: Phrase) -> list[Token]:
    """The nouns without a last one that only measures the one before it (피자 조각: pizza)."""
    *before, head = phrase.tokens
    if before and before[-1].entries and head.text in before[-1].entries[0].counters:
        return before
    return phrase.tokens


def _without_particle(head: Token, phrase: Phrase) -> Token:
    """The noun, or a shorter one with its particle where only that fits the counter (초가 몇 개: candle)."""
    short = head.text[:-1]
    particle = grammar.particles().get(head.text[-1])
    if head.kind != "N" or head.tag or phrase.particle or not phrase.counter or particle is None or not short:
        return head
    entries = lexicon().korean.get(short, ())
    fits = particle[1] == 0 or (particle[1] > 0) == bool(final_of(short[-1]))
    listed = {counter for entry in head.entries for counter in entry.counters}
    if fits and phrase.counter not in listed and any(phrase.counter in entry.counters for entry in entries):
        return replace(head, text=short, entries=entries)
    return head


def _english(target: Target, head: Token) -> Target:
    entry = english_entry(head.text)
    base = entry.english if entry else (english_key(head.text),)
    lemma, category = (entry.korean, entry.category) if entry else ("", "")
    return replace(
        target, base=base, lemma=lemma, category=category, source="english", confidence=CONFIDENCE["english"]
    )


def _korean(target: Target, pieces: list[Token], around: str) -> Target:
    head = pieces[-1]
    senses, settled = ranked(senses_of(head.text), target.counter, around)
    visible = [sense.entry for sense in senses if sense.entry is not None]
    best = senses[0].entry if settled else visible[0]
    confidence = CONFIDENCE["lexicon"] * (1.0 if settled else OPEN) * (MENDED if head.tag == "mended" else 1.0)
    choices: tuple[Choice, ...] = ()
    if not settled or best is None:
        choices = tuple(Choice(s.entry.english if s.entry else (), s.meaning) for s in senses)
    target = replace(target, source="lexicon", confidence=confidence, choices=choices)
    if best is None:
        return target
    target = replace(target, base=best.english, lemma=best.korean, category=best.category)
    for token in reversed(pieces[:-1]):
        target = _modified(target, token, best)
    return target


def _modified(target: Target, token: Token, head: Entry) -> Target:
    """What a noun before the head adds: a material, a kind, an owner (nothing), or the first half of a compound."""
    compound = {"source": "compound", "confidence": CONFIDENCE["compound"]}
    material = materials().get(token.text)
    if token.kind == "U":
        return replace(target, **compound)
    if token.kind == "E":
        return replace(target, base=tuple(f"{token.text.lower()} {term}" for term in target.base))
    if material and head.category not in ("plants", "animals", "people"):
        return replace(target, attributes=(material, *target.attributes))
    first = token.entries[0]
    if is_kind_of(first, head.english[0]):
        return replace(target, base=first.english, lemma=first.korean)
    if head.category == "body" or first is head:
        return target
    return replace(target, base=tuple(f"{first.english[0]} {term}" for term in target.base), **compound)


@lru_cache(maxsize=1)
def materials() -> dict[str, str]:
    """Nouns that say what the next noun is made of → English."""
    return {word: english for _, (word, english, kind) in read_rows(DATA / "attributes.tsv", 3) if kind == "material"}


def _spelled(token: Token) -> str:
    return lexicon().spellings.get(token.text, token.text) if token.kind == "N" else token.text


def counted_only(tokens: list[Token]) -> tuple[Target, ...]:
    """What the counter alone names, where nothing else does: "몇 명이야?" asks about people."""
    counter = next((str(token.value) for token in tokens if token.kind == "C"), None)
    if counter is None and any(token.text in PEOPLE_NOUNS for token in tokens):
        counter = "명"
    term = grammar.COUNTER_MEANS.get(counter or "")
    if term is None:
        return ()
    entry = lexicon().english[term]
    number = next((token.value for token in tokens if token.kind == "D" and isinstance(token.value, int)), None)
    return (
        Target(
            word=entry.korean,
            lemma=entry.korean,
            english=entry.english,
            base=entry.english,
            source="counter",
            confidence=CONFIDENCE["counter"],
            number=number,
            counter=counter,
            category=entry.category,
        ),
    )
