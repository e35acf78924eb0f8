"""Texts against texts: which are compared, and what n-grams each pair shares. Every n-gram metric starts here."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from src.metrics.caption.ngrams import Ngrams, NgramTable, TokenTable, runs, sorting


@dataclass(frozen=True, eq=False)
class Shared:
    """n-grams that both texts of a pair hold: (J,) int64 each.

    pair: which pair. entry: index of the left entry in the order's Ngrams. gram: the n-gram. left, right: its counts.
    """

    pair: np.ndarray
    entry: np.ndarray
    gram: np.ndarray
    left: np.ndarray
    right: np.ndarray


class Comparison:
    """Left texts against all right texts of their group; pairs are sorted by left text, then by right.

    Two kinds: `of_images`, each candidate (left) against the references (right) of its image; `within`, each text of
    a group against each, itself included.

    left, right: (P,) int64, number of either text of each pair in `table`. starts: (L,) int64, the first pair of each
    left text; every left text has pairs.
    """

    def __init__(self, texts: Sequence[Sequence[str]], left_group: np.ndarray, right_group: np.ndarray, *, both: bool):
        self.texts = texts
        self.both = both  # left and right texts are the same ones
        self.table = TokenTable.of(texts)
        self.ngrams = NgramTable(self.table)
        self.n_left = len(left_group)
        self._right_from = 0 if both else self.n_left
        sizes = np.bincount(right_group, minlength=int(left_group.max(initial=-1)) + 1)
        self._first_right = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._left_group, self._right_group = left_group, right_group
        per_left = sizes[left_group]
        self.starts = np.concatenate([[0], np.cumsum(per_left)]).astype(np.int64)[:-1]
        self.left = np.repeat(np.arange(self.n_left), per_left)
        within = np.arange(len(self.left)) - self.starts[self.left]
        self.right = within + self._first_right[left_group[self.left]] + self._right_from
        self._shared: dict[int, Shared] = {}

    @classmethod
    def of_images(
        cls, candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
    ) -> "Comparison":
        """Of N token lists, and the token lists of each image's references, at least one each."""
        sizes = [len(item) for item in references]
        groups = np.arange(len(candidates))
        texts = [*candidates, *chain.from_iterable(references)]
        return cls(texts, groups, np.repeat(groups, sizes), both=False)

    def like(self, texts: Sequence[Sequence[str]]) -> "Comparison":
        """The same pairs of other texts, which are parallel to `self.texts`."""
        return Comparison(texts, self._left_group, self._right_group, both=self.both)

    @classmethod
    def within(cls, groups: Sequence[Sequence[Sequence[str]]]) -> "Comparison":
        """Of the token lists of each group."""
        owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        return cls(list(chain.from_iterable(groups)), owner, owner, both=True)

    def shared(self, n: int) -> Shared:
        """What the pairs share at order n."""
        if n not in self._shared:
            self._shared[n] = self._join(self.ngrams.order(n))
        return self._shared[n]

    def matches(self, n: int) -> np.ndarray:
        """(P,) n-grams in common, each as often as in the text that has it less."""
        shared = self.shared(n)
        return self.sum_of_pairs(shared.pair, np.minimum(shared.left, shared.right))

    def sum_of_pairs(self, pair: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.bincount(pair, values, minlength=len(self.left))

    def best(self, values: np.ndarray) -> np.ndarray:
        """(L,) the highest of each left text's pairs."""
        return np.maximum.reduceat(values, self.starts) if len(values) else np.zeros(0)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """(L,) the mean of each left text's pairs."""
        pairs = np.bincount(self.left, minlength=self.n_left)
        return np.bincount(self.left, values, minlength=self.n_left) / np.maximum(pairs, 1)

    def documents(self, n: int) -> np.ndarray:
        """(size,) of each n-gram of order n, in how many groups' right texts it stands."""
        found = self.ngrams.order(n)
        right = found.text >= self._right_from
        keys = self._right_group[found.text[right] - self._right_from] * found.size + found.gram[right]
        return np.bincount(runs(keys)[0] % max(found.size, 1), minlength=found.size)

    @property
    def n_groups(self) -> int:
        return len(self._first_right) - 1

    def _join(self, found: Ngrams) -> Shared:
        """Left entries against right entries of the same group and n-gram."""
        cut = int(np.searchsorted(found.text, self._right_from))
        right = np.arange(cut, len(found.text))
        left = right if self.both else np.arange(cut)
        left_keys = self._left_group[found.text[left]] * found.size + found.gram[left]
        right_keys = self._right_group[found.text[right] - self._right_from] * found.size + found.gram[right]
        if self.both:
            order = sorting(left_keys)
            left, left_keys = left[order], left_keys[order]
            low, high = (np.searchsorted(left_keys, right_keys, side) for side in ("left", "right"))
            times = high - low
            partner = np.repeat(right, times)
            entry = left[np.arange(len(partner)) - np.repeat(np.cumsum(times) - times - low, times)]
        else:
            # One candidate a group: its entries are in order, and each is found once at most.
            at = np.minimum(np.searchsorted(left_keys, right_keys), max(len(left_keys) - 1, 0))
            same = left_keys[at] == right_keys if len(left_keys) else np.zeros(len(right), bool)
            entry, partner = at[same], right[same]
        text = found.text[entry]
        place = found.text[partner] - self._right_from - self._first_right[self._left_group[text]]
        pair = self.starts[text] + place
        return Shared(pair, entry, found.gram[entry], found.count[entry], found.count[partner])
