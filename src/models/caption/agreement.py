"""How alike captions are, by the character n-grams that they share: what a consensus among captions is counted in.

The F-measure of chrF (Popović 2015) in its symmetric form: precision and recall weigh alike, and the n-grams of all
lengths are counted together. Characters stand for Korean's stems and endings without a morphological analyser, so that
a network needs none when it answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LONGEST = 4
_BLOCK = 512  # rows of a similarity matrix computed at once


class Agreement:
    """Similarities among N texts, from 0 (no character shared) to 1 (the same n-grams, spaces left out)."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._rows = _occurrences(texts)
        self._sizes = np.asarray(self._rows.sum(axis=1), np.float32).reshape(-1)

    def among(self, chosen: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, n) float32 of the chosen texts, by index. 1 on the diagonal, 0 there for a text without characters."""
        rows, sizes = self._rows[chosen], self._sizes[chosen]
        return _f_measure(rows, sizes, rows, sizes)

    def means(self) -> np.ndarray:
        """(N,) float64: each text's mean similarity to all the others; 0 where there are no others."""
        count = len(self._sizes)
        sums = np.zeros(count)
        for start in range(0, count, _BLOCK):
            part = slice(start, min(start + _BLOCK, count))
            block = _f_measure(self._rows[part], self._sizes[part], self._rows, self._sizes)
            own = block[np.arange(part.stop - part.start), np.arange(part.start, part.stop)]
            sums[part] = block.sum(axis=1, dtype=np.float64) - own
        return sums / max(1, count - 1)


def _occurrences(texts: Sequence[str]) -> csr_matrix:
    """N×V of ones. The second occurrence of an n-gram in a text is a feature of its own, the third another: then the
    number of features that two texts share is the sum of the smaller of their two counts."""
    from scipy.sparse import csr_matrix

    known: dict[tuple[str, int], int] = {}
    columns: list[int] = []
    starts = [0]
    for text in texts:
        letters = "".join(text.split())
        seen: Counter[str] = Counter()
        for length in range(1, LONGEST + 1):
            for start in range(len(letters) - length + 1):
                gram = letters[start : start + length]
                seen[gram] += 1
                columns.append(known.setdefault((gram, seen[gram]), len(known)))
        starts.append(len(columns))
    ones = np.ones(len(columns), np.float32)
    return csr_matrix((ones, np.array(columns, np.int32), np.array(starts, np.int32)), (len(texts), max(1, len(known))))


def _f_measure(one: csr_matrix, one_sizes: np.ndarray, other: csr_matrix, other_sizes: np.ndarray) -> np.ndarray:
    shared = np.asarray((one @ other.T).todense(), np.float32)
    return 2 * shared / np.maximum(one_sizes[:, None] + other_sizes[None, :], 1)
