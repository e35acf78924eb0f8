"""Typing slips: the known word whose keystrokes are nearest to those of an unknown one, if it is near enough.

Distances are counted in keystrokes of the two-set keyboard (Damerau-Levenshtein, a neighbouring or shifted key at half
price), because that is where slips happen: 강아쥐 is one key more than 강아지. Limits are strict, since a word that the
lexicon lacks is far more often a word than a slip: nothing is done to one syllable, two syllables allow one cheap key.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from itertools import combinations

from src.lexicon.entries import lexicon
from src.lexicon.hangul import key_cost, keystrokes

INSERT = 0.8
SWAP = 0.6
MARGIN = 0.15  # the runner-up must be this much dearer
VOWELS = frozenset("koiOjpuPhynbml")


def limit(word: str) -> float:
    """The dearest correction that a word allows, by its number of syllables."""
    return (0.0, 0.0, 0.5, 1.0, 1.0, 1.6)[min(len(word), 5)]


def correct(word: str) -> tuple[str, float] | None:
    """(the known word, the cost) of an unknown word that is a slip; None when none is near or two are equally near."""
    return _correct(word)


@lru_cache(maxsize=4096)
def _correct(word: str) -> tuple[str, float] | None:
    allowed = limit(word)
    if allowed <= 0:
        return None
    keys = keystrokes(word)
    index = _index()
    candidates = set(index.get(keys, ()))
    for shorter in _shorter(keys, 2 if len(word) >= 5 else 1):
        candidates.update(index.get(shorter, ()))
    found = []
    for candidate in candidates:
        if len(candidate) == 2 and keystrokes(candidate)[0] != keys[0] and len(word) == 2:
            continue
        cost = distance(keys, keystrokes(candidate))
        if cost <= min(allowed, limit(candidate)) + 1e-9:
            found.append((cost, candidate))
    if not found:
        return None
    found.sort()
    best = lexicon().korean[found[0][1]]
    rivals = [cost for cost, other in found[1:] if lexicon().korean[other] != best]
    if rivals and rivals[0] - found[0][0] < MARGIN:
        return None
    return found[0][1], found[0][0]


def distance(one: str, other: str) -> float:
    """The cost of turning one string of keystrokes into another."""
    rows = [[0.0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i in range(len(one) + 1):
        rows[i][0] = i * INSERT
    for j in range(len(other) + 1):
        rows[0][j] = j * INSERT
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            change = _change(one[i - 1], other[j - 1])
            best = min(rows[i - 1][j] + INSERT, rows[i][j - 1] + INSERT, rows[i - 1][j - 1] + change)
            if (
                i > 1
                and j > 1
                and one[i - 1] == other[j - 2]
                and one[i - 2] == other[j - 1]
                and one[i - 1] != one[i - 2]
            ):
                best = min(best, rows[i - 2][j - 2] + SWAP)
            rows[i][j] = best
    return rows[-1][-1]


def _change(one: str, other: str) -> float:
    cost = key_cost(one, other)
    # a vowel taken for another is the usual misspelling (컴퓨타, 넥타리), a vowel for a consonant is not
    if cost == 1.0 and one in VOWELS and other in VOWELS:
        return 0.8
    return cost


def _shorter(keys: str, drops: int) -> set[str]:
    out = set()
    for count in range(1, drops + 1):
        for places in combinations(range(len(keys)), count):
            out.add("".join(key for place, key in enumerate(keys) if place not in places))
    return out


@lru_cache(maxsize=1)
def _index() -> dict[str, tuple[str, ...]]:
    """Keystrokes of known words, whole and with one key left out → the words. Built on first need."""
    index: dict[str, list[str]] = defaultdict(list)
    for word in lexicon().korean:
        if limit(word) <= 0:
            continue
        keys = keystrokes(word)
        index[keys].append(word)
        for shorter in _shorter(keys, 1):
            index[shorter].append(word)
    return {keys: tuple(words) for keys, words in index.items()}
