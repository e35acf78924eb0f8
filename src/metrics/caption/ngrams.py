"""Tokens as numbers, and how often each n-gram stands in each text: counted once for every metric."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count

import numpy as np


@dataclass(frozen=True, eq=False)
class TokenTable:
    """M texts end to end.

    words: the V distinct tokens in order of first appearance. ids: (T,) int64 into words. offsets: (M + 1,) int64,
    text m is ids[offsets[m]:offsets[m + 1]].
    """

    words: list[str]
    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]]) -> "TokenTable":
        flat = list(chain.from_iterable(texts))
        number: dict[str, int] = defaultdict(count().__next__)
        ids = np.fromiter(map(number.__getitem__, flat), np.int64, len(flat))
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return cls(list(number), ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    @property
    def lengths(self) -> np.ndarray:
        """(M,) tokens of each text."""
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class Ngrams:
    """n-grams of one order. Entries are sorted by text, then by n-gram.

    text, gram, count: (E,) int64: text `text` holds n-gram `gram` (0 ≤ gram < size) `count` times.
    first: (size,) int64, a place in TokenTable.ids where each n-gram stands.
    totals: (M,) int64, n-grams of each text with repeats.
    """

    order: int
    text: np.ndarray
    gram: np.ndarray
    count: np.ndarray
    first: np.ndarray
    totals: np.ndarray

    @property
    def size(self) -> int:
        return len(self.first)


class NgramTable:
    """The n-grams of a TokenTable, order after order as they are asked for."""

    def __init__(self, tokens: TokenTable) -> None:
        self.tokens = tokens
        # Of each n-gram of the last order: where it begins, its text, its number.
        self._start = np.arange(len(tokens.ids))
        self._text = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
        self._gram = tokens.ids
        self._often = np.zeros(0, bool)  # of each number: stands in more places than one
        self._orders: list[Ngrams] = []

    def order(self, n: int) -> Ngrams:
        while len(self._orders) < n:
            self._orders.append(self._next(len(self._orders) + 1))
        return self._orders[n - 1]

    def _next(self, n: int) -> Ngrams:
        tokens = self.tokens
        if n == 1:
            first = np.zeros(len(tokens.words), np.int64)
            first[tokens.ids] = self._start
        else:
            # An n-gram begins where an (n-1)-gram does, but for the last of each text.
            inside = np.flatnonzero(self._text[1:] == self._text[:-1])
            before = self._gram[inside]
            self._start, self._text = self._start[inside], self._text[inside]
            # It is that (n-1)-gram and its last token. What begins with one that stands nowhere else stands nowhere
            # else either, and need not be looked for.
            often = self._often[before]
            at, alone = np.flatnonzero(often), np.flatnonzero(~often)
            numbers, found = _numbered(before[at] * len(tokens.words) + tokens.ids[self._start[at] + (n - 1)])
            self._gram = np.empty(len(before), np.int64)
            self._gram[at] = numbers
            self._gram[alone] = np.arange(len(found), len(found) + len(alone))
            first = np.concatenate([self._start[at[found]], self._start[alone]])
        self._often = np.bincount(self._gram, minlength=len(first)) > 1
        bits = len(first).bit_length()
        entries, times = runs(self._text << bits | self._gram)
        gram = entries & (1 << bits) - 1
        return Ngrams(n, entries >> bits, gram, times, first, np.maximum(tokens.lengths - (n - 1), 0))


def runs(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys in rising order, and how often each stands. Sorts `keys` in place."""
    keys.sort()
    starts = _changes(keys)
    return keys[starts], np.diff(starts, append=len(keys))


def sorting(keys: np.ndarray) -> np.ndarray:
    """The order that sorts (N,) int64 keys from 0 on; of equals the first stays first."""
    bits = max(len(keys) - 1, 1).bit_length()
    if int(keys.max(initial=0)).bit_length() + bits > 63:
        return np.argsort(keys, kind="stable")
    # Values sort some three times as fast as indices: each key takes its index along in its low bits.
    packed = keys << bits | np.arange(len(keys))
    packed.sort()
    return packed & (1 << bits) - 1


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys as numbers 0, 1, … in rising order of key, and the first index where each number stands."""
    order = sorting(keys)
    starts = _changes(keys[order])
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(keys)))
    return numbers, order[starts]


def _changes(ranked: np.ndarray) -> np.ndarray:
    """Where each new value begins in a sorted array."""
    new = np.ones(len(ranked), bool)
    np.not_equal(ranked[1:], ranked[:-1], out=new[1:])
    return np.flatnonzero(new)
