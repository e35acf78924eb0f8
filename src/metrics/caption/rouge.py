"""ROUGE (Lin 2004): ROUGE-L as pycocoevalcap has it, and ROUGE-1, ROUGE-2 as F1 of n-grams."""

import numpy as np

from src.metrics.caption.comparison import Comparison

BETA = 1.2  # recall counts more than precision in ROUGE-L


def rouge_n(comparison: Comparison, n: int) -> np.ndarray:
    """(L,) F1 of n-grams, from 0 to 1, against the reference that gives most."""
    return comparison.best(pair_rouge_n(comparison, n))


def pair_rouge_n(comparison: Comparison, n: int) -> np.ndarray:
    """(P,) F1 of the n-grams of each pair; 0 where neither text has any."""
    totals = comparison.ngrams.order(n).totals
    return 2 * comparison.matches(n) / np.maximum(totals[comparison.left] + totals[comparison.right], 1)


def rouge_l(comparison: Comparison) -> np.ndarray:
    """(L,) ROUGE-L, from 0 to 1: precision and recall are each the best over the references, which may be two
    different ones, as pycocoevalcap has it. A candidate without tokens scores 0."""
    lengths, common = comparison.table.lengths, pair_common(comparison)
    precision = comparison.best(common / np.maximum(lengths[comparison.left], 1))
    recall = comparison.best(common / np.maximum(lengths[comparison.right], 1))
    return _weighted(precision, recall)


def pair_rouge_l(comparison: Comparison) -> np.ndarray:
    """(P,) ROUGE-L of each pair."""
    lengths, common = comparison.table.lengths, pair_common(comparison)
    return _weighted(
        common / np.maximum(lengths[comparison.left], 1), common / np.maximum(lengths[comparison.right], 1)
    )


def pair_common(comparison: Comparison) -> np.ndarray:
    """(P,) length of the longest common subsequence of each pair's tokens."""
    ids, offsets = comparison.table.ids.tolist(), comparison.table.offsets.tolist()
    left, right = comparison.left.tolist(), comparison.right.tolist()
    result = np.zeros(len(left))
    places: dict[int, int] = {}
    at, full = -1, 0
    for index, (one, other) in enumerate(zip(left, right, strict=True)):
        if one != at:
            at, places, bit = one, {}, 1
            for word in ids[offsets[one] : offsets[one + 1]]:
                places[word] = places.get(word, 0) | bit
                bit <<= 1
            full = bit - 1
        # Bit-parallel (Crochemore et al. 2001): a zero bit for each step of the subsequence.
        row = full
        for word in ids[offsets[other] : offsets[other + 1]]:
            if word in places:
                taken = row & places[word]
                row = (row + taken) | (row - taken)
        result[index] = full.bit_length() - (row & full).bit_count()
    return result


def _weighted(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    both = (precision > 0) & (recall > 0)
    below = np.where(both, recall + BETA**2 * precision, 1.0)
    return np.where(both, (1 + BETA**2) * precision * recall / below, 0.0)
