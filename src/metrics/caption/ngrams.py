"""Tokens as numbers, and how often each n-gram stands in each text: counted once for every metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

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
        number = {word: index for index, word in enumerate(dict.fromkeys(flat))}
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
        self._text = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
        self._end = np.repeat(tokens.offsets[1:], tokens.lengths)
        self._start = np.arange(len(tokens.ids))  # places where n-grams of the last order begin
        self._gram = tokens.ids  # their numbers
        self._orders: list[Ngrams] = []

    def order(self, n: int) -> Ngrams:
        while len(self._orders) < n:
            self._orders.append(self._next(len(self._orders) + 1))
        return self._orders[n - 1]

    def _next(self, n: int) -> Ngrams:
        tokens = self.tokens
        inside = self._start + n <= self._end[self._start]
        start = self._start[inside]
        # An n-gram is the (n-1)-gram at its beginning and its last token.
        keys = self._gram[inside] * max(len(tokens.words), 1) + tokens.ids[start + n - 1] if n > 1 else self._gram
        gram, first = _numbered(keys)
        self._start, self._gram = start, gram
        size = max(len(first), 1)
        entries, count = _runs(np.sort(self._text[start] * size + gram))
        text = entries // size
        totals = np.maximum(tokens.lengths - (n - 1), 0)
        return Ngrams(n, text, entries - text * size, count, start[first], totals)


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys as numbers 0, 1, … in rising order of key, and an index where each number stands."""
    order = np.argsort(keys)
    ranked = keys[order]
    new = np.empty(len(keys), bool)
    new[:1] = True
    np.not_equal(ranked[1:], ranked[:-1], out=new[1:])
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = np.cumsum(new) - 1
    return numbers, order[new]


def _runs(ranked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values of a sorted array, and how often each stands."""
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(ranked) else np.zeros(0, int)
    return ranked[starts], np.diff(np.append(starts, len(ranked)))
