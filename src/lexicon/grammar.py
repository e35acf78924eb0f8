"""The words of a Korean question that name no object: particles, numbers, counters, question and request forms.

The words stand in data/grammar.tsv; here they become forms: the spellings with all their endings, and what they mean to
a query.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

from src.lexicon.entries import DATA, read_rows
from src.lexicon.hangul import BIEUP, NIEUN, RIEUL, final_of, with_final

# kind (F function word, R attributive verb), cost (a known noun of two syllables costs 1), tag. The tags: count, find,
# exists, list: an intent. number: a noun that means "how many" after an object. scene: the picture itself. place:
# where; the noun before it is a place. each: an answer per object. exclude: not the one before. and: joins two objects.
# thing: anything at all. rel: describes the noun after it. say: asks for an answer.
Function = tuple[str, float, str]
COSTS = {"place": 0.6, "scene": 0.6, "number": 0.5, "thing": 0.8, "and": 0.5, "rel": 0.5, "": 0.6}
USUAL_COST = 0.4

TENS = {"열": 10, "스물": 20, "서른": 30, "마흔": 40, "쉰": 50}
# before a counter, and alone
BOUND = {"한": 1, "두": 2, "세": 3, "네": 4, "다섯": 5, "여섯": 6, "일곱": 7, "여덟": 8, "아홉": 9}
FREE = {"하나": 1, "둘": 2, "셋": 3, "넷": 4, "다섯": 5, "여섯": 6, "일곱": 7, "여덟": 8, "아홉": 9, "열": 10}
SPECIAL = {"스무": 20, "서": 3, "석": 3, "너": 4, "넉": 4}
# a counter that names what it counts, for "몇 명이야?" without an object
COUNTER_MEANS = {"명": "person", "사람": "person", "분": "person", "마리": "animal"}


@lru_cache(maxsize=1)
def words() -> dict[tuple[str, str], list[str]]:
    """(kind, tag) → words, as data/grammar.tsv has them."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for _, (kind, tag, text) in read_rows(DATA / "grammar.tsv", 3):
        found[kind, tag] += text.split()
    return dict(found)


@lru_cache(maxsize=1)
def particles() -> dict[str, tuple[str, int]]:
    """Particle → (role, shape): shape 1 goes after a final consonant only, −1 after a vowel only, 0 after either."""
    forms: dict[str, tuple[str, int]] = {}
    for (kind, role), found in words().items():
        for word in found if kind == "particle" else ():
            forms.setdefault(word.rstrip("+-"), (role, {"+": 1, "-": -1}.get(word[-1], 0)))
    return forms


def numbers() -> dict[str, tuple[int, bool]]:
    """Native Korean numbers up to 59 → (value, whether a counter must follow: 한, but not 하나)."""
    forms = {word: (value, True) for word, value in (BOUND | SPECIAL).items()}
    forms |= {word: (value, False) for word, value in FREE.items()}
    for tens, value in TENS.items():
        forms[tens] = (value, False)
        forms |= {tens + unit: (value + n, False) for unit, n in (BOUND | FREE).items() if n < 10}
    return forms


def counters(known: set[str]) -> dict[str, str]:
    """Spelling → counter: 마리, and what speech makes of it with the copula (마린가요, 마립니까, 갤까).

    known: the counters of the lexicon's rows; those of grammar.tsv come on top.
    """
    every = known | set(words()["counter", ""])
    forms = {counter: counter for counter in every}
    contractions = (
        (NIEUN, ("가", "가요", "지", "지요", "데", "가여")),
        (BIEUP, ("니까", "니다")),
        (RIEUL, ("까", "까요")),
    )
    for counter in every:
        for final, endings in contractions if not final_of(counter[-1]) else ():
            stem = counter[:-1] + with_final(counter[-1], final)
            forms |= {stem + ending: counter for ending in endings}
    return forms


def functions() -> dict[str, list[Function]]:
    """Every function word and phrase, without its spaces, with what it means to a query."""
    forms: dict[str, list[Function]] = {}

    def add(found: list[str], tag: str, kind: str = "F") -> None:
        function = (kind, COSTS.get(tag, USUAL_COST), tag)
        for word in found:
            if function not in forms.setdefault(word, []):
                forms[word].append(function)

    for (kind, tag), found in words().items():
        if kind == "word":
            add(found, tag)
        elif kind == "relative":
            add(found, tag, "R")
        elif kind == "stem":
            add([stem + ending for stem in found for ending in words()["ending", tag]], tag)
        elif kind == "verb":
            add([verb + request for verb in found for request in words()["request", ""]], tag)
    return forms
