"""BLEU-1 to BLEU-4 (Papineni et al. 2002), counted as pycocoevalcap does: the closest reference length, and tiny
numbers instead of zeros, so that values are equal to its to the last digits."""

import numpy as np

from src.metrics.caption.comparison import Comparison

ORDERS = 4
_SMALL, _TINY = 1e-9, 1e-15  # added to denominators and numerators


def bleu_statistics(comparison: Comparison) -> np.ndarray:
    """(L, 2 + 2·4): of each candidate its length, the closest reference length (the shorter of two that are as
    close), correct n-grams of order 1 to 4 (clipped by the reference that has most), and all its n-grams."""
    lengths = comparison.table.lengths
    mine = lengths[: comparison.n_left]
    theirs = lengths[comparison.right]
    distance = np.abs(theirs - lengths[comparison.left])
    scale = int(lengths.max(initial=0)) + 1
    closest = np.minimum.reduceat(distance * scale + theirs, comparison.starts) % scale if len(mine) else mine
    correct = [_clipped(comparison, n) for n in range(1, ORDERS + 1)]
    guessed = [comparison.ngrams.order(n).totals[: comparison.n_left] for n in range(1, ORDERS + 1)]
    return np.stack([mine, closest, *correct, *guessed], axis=1).astype(np.float64)


def bleu_of_sums(sums: np.ndarray) -> np.ndarray:
    """(..., 4) BLEU-1 to BLEU-4 of summed `bleu_statistics` (..., 10)."""
    correct, guessed = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
    precision = np.cumprod((correct + _TINY) / (guessed + _SMALL), axis=-1)
    return precision ** (1 / np.arange(1, ORDERS + 1)) * _brevity(sums[..., 0], sums[..., 1])[..., None]


def corpus_bleu(comparison: Comparison) -> np.ndarray:
    """(4,) BLEU-1 to BLEU-4 of a corpus, from 0 to 1: counts of all candidates together."""
    return bleu_of_sums(bleu_statistics(comparison).sum(axis=0))


def sentence_bleu(comparison: Comparison) -> np.ndarray:
    """(L, 4) BLEU of single candidates against all their references, smoothed: one is added to correct and to all
    n-grams of order 2 and higher (Lin and Och 2004, ORANGE), so that no 4-gram in common is not the end of it."""
    return _smoothed(bleu_statistics(comparison))


def pair_bleu(comparison: Comparison) -> np.ndarray:
    """(P, 4) smoothed BLEU of each pair, the right text as the only reference."""
    lengths = comparison.table.lengths
    correct = [comparison.matches(n) for n in range(1, ORDERS + 1)]
    guessed = [comparison.ngrams.order(n).totals[comparison.left] for n in range(1, ORDERS + 1)]
    return _smoothed(np.stack([lengths[comparison.left], lengths[comparison.right], *correct, *guessed], axis=1))


def _smoothed(statistics: np.ndarray) -> np.ndarray:
    correct, guessed = statistics[:, 2 : 2 + ORDERS].copy(), statistics[:, 2 + ORDERS :].copy()
    some = correct[:, 0] > 0
    correct[:, 1:] += 1
    guessed[:, 1:] += 1
    precision = np.cumprod(correct / np.maximum(guessed, 1), axis=1) ** (1 / np.arange(1, ORDERS + 1))
    return np.where(some, _brevity(statistics[:, 0], statistics[:, 1]), 0.0)[:, None] * precision


def _brevity(length: np.ndarray, reference: np.ndarray) -> np.ndarray:
    ratio = (length + _TINY) / (reference + _SMALL)
    return np.exp(np.minimum(0.0, 1 - 1 / ratio))


def _clipped(comparison: Comparison, n: int) -> np.ndarray:
    """(L,) n-grams of each candidate that a reference has, each as often as one reference has it at most."""
    shared = comparison.shared(n)
    text = comparison.ngrams.order(n).text
    most = np.zeros(len(text), np.int64)
    np.maximum.at(most, shared.entry, np.minimum(shared.left, shared.right))
    return np.bincount(text, most, minlength=comparison.n_left)[: comparison.n_left]
