"""chrF (Popović 2015): F of character n-grams up to order 6, recall weighted twice, as sacrebleu's chrF2."""

from collections.abc import Sequence

import numpy as np

from src.metrics.caption.comparison import Comparison

ORDERS = 6
BETA = 2


def characters(texts: Sequence[str]) -> list[str]:
    """Texts without their spaces: a text is a sequence of characters, which is what a Comparison takes."""
    return ["".join(text.split()) for text in texts]


def chrf_statistics(comparison: Comparison) -> np.ndarray:
    """(L, 18): n-grams of the candidate, of the reference and in common, order after order, for the reference that
    gives the highest score."""
    statistics = _pair_statistics(comparison)
    scores = chrf_of_sums(statistics)
    best = comparison.best(scores)
    first = np.flatnonzero(scores == best[comparison.left])
    _, at = np.unique(comparison.left[first], return_index=True)  # of equals the first, as sacrebleu
    return statistics[first[at]]


def chrf_of_sums(sums: np.ndarray) -> np.ndarray:
    """(...) chrF, from 0 to 100, of summed `chrf_statistics` (..., 18); orders that a side lacks do not count."""
    precision, recall, orders = np.zeros(sums.shape[:-1]), np.zeros(sums.shape[:-1]), np.zeros(sums.shape[:-1])
    for n in range(ORDERS):
        mine, theirs, common = (sums[..., 3 * n + column] for column in range(3))
        some = (mine > 0) & (theirs > 0)
        precision = precision + np.where(some, common / np.maximum(mine, 1), 0.0)
        recall = recall + np.where(some, common / np.maximum(theirs, 1), 0.0)
        orders = orders + some
    precision, recall = precision / np.maximum(orders, 1), recall / np.maximum(orders, 1)
    below = BETA**2 * precision + recall
    return np.where(below > 0, 100 * ((1 + BETA**2) * precision * recall / np.where(below > 0, below, 1.0)), 0.0)


def corpus_chrf(comparison: Comparison) -> float:
    """chrF of a corpus of characters, from 0 to 100: counts of all candidates together."""
    return float(chrf_of_sums(chrf_statistics(comparison).sum(axis=0)))


def pair_chrf(comparison: Comparison) -> np.ndarray:
    """(P,) chrF of each pair."""
    return chrf_of_sums(_pair_statistics(comparison))


def _pair_statistics(comparison: Comparison) -> np.ndarray:
    columns = []
    for n in range(1, ORDERS + 1):
        totals = comparison.ngrams.order(n).totals
        mine, theirs = totals[comparison.left], totals[comparison.right]
        columns += [np.where(theirs > 0, mine, 0), theirs, comparison.matches(n)]
    return np.stack(columns, axis=1).astype(np.float64)
