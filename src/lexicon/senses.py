"""Which meaning of a word is meant: the counter decides first (배 두 척: a ship), then the words around it."""

from __future__ import annotations

from collections.abc import Iterable

from src.lexicon.entries import Entry, Sense, lexicon

COUNTER_WEIGHT, GENERAL_WEIGHT, CUE_WEIGHT = 3.0, 1.0, 1.5
DECIDED = 1.0  # a meaning is settled when it leads by this much
GENERAL = "개"  # counts nearly anything, so it says little
# what these hold is eaten or drunk, whatever the row lists
CONTAINERS = frozenset(("상자", "박스", "봉지", "접시", "그릇", "바구니", "통", "팩", "컵", "잔", "병", "캔", "조각"))
EDIBLE = frozenset(("fruits", "vegetables", "food", "drinks"))


def senses_of(word: str) -> tuple[Sense, ...]:
    """Every meaning of a word (spelled without spaces), likeliest first; () for an unknown word."""
    known = lexicon()
    if word in known.senses:
        return known.senses[word]
    return tuple(Sense(word, e, e.korean, (), e.counters) for e in known.korean.get(word, ()))


def ranked(senses: Iterable[Sense], counter: str | None, around: str) -> tuple[list[Sense], bool]:
    """Meanings, best first, and whether the first is settled.

    counter is the one the question uses; around is the question without the word itself. A counter that a meaning lists
    weighs 3 (개, which counts nearly anything, 1; a meaning that does not list it loses as much), a cue 1.5. Equal
    meanings keep the order of homographs.tsv, and stay open.
    """
    scored = []
    for order, sense in enumerate(senses):
        score = sum(CUE_WEIGHT for cue in sense.cues if cue and cue in around)
        if counter:
            weight = GENERAL_WEIGHT if counter == GENERAL else COUNTER_WEIGHT
            held = counter in CONTAINERS and sense.entry is not None and sense.entry.category in EDIBLE
            score += weight if counter in sense.counters or held else -weight
        scored.append((-score, order, sense))
    scored.sort(key=lambda item: item[:2])
    settled = len(scored) < 2 or scored[1][0] - scored[0][0] >= DECIDED
    return [sense for *_, sense in scored], settled


def is_kind_of(entry: Entry, term: str) -> bool:
    """True where an entry is, by one or more steps of `broader`, a kind of the English term."""
    return term in broader_terms(entry)


def broader_terms(entry: Entry) -> list[str]:
    """The English terms that an entry is a kind of, nearest first, its subject's word last (진돗개: dog, animal)."""
    known = lexicon()
    terms: list[str] = []
    step: Entry | None = entry
    while step is not None and step.broader and step.broader not in terms:
        terms.append(step.broader)
        step = known.english.get(step.broader)
    word = known.categories[entry.category].word
    if word and word not in terms and word != entry.english[0]:
        terms.append(word)
    return terms
