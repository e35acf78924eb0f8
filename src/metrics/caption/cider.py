"""CIDEr and CIDEr-D (Vedantam, Zitnick and Parikh 2015): n-grams weighted by how few images they describe.

The names follow the paper. pycocoevalcap's class `Cider` computes what the paper calls CIDEr-D (clipped counts and a
penalty for another length, sigma 6), and leaderboards print it as "CIDEr": here it is `cider_d`. `cider` is the
paper's first form, a plain cosine. Both are on the scale of 0 to 10.
"""

from collections.abc import Callable

import numpy as np

from src.metrics.caption.comparison import Comparison

ORDERS = 4
SIGMA = 6.0
SCALE = 10.0

Idf = Callable[[Comparison, int], np.ndarray]  # of an order: (size,) weight of each of the comparison's n-grams


def own_idf(comparison: Comparison, n: int) -> np.ndarray:
    """log(images / images whose references hold the n-gram), of the very references that are compared with; an n-gram
    of none counts as of one. All weights of a single image are 0, and so are its scores."""
    return np.log(float(comparison.n_groups)) - np.log(np.maximum(comparison.documents(n), 1.0))


def cider_d(comparison: Comparison, idf: Idf = own_idf) -> np.ndarray:
    """(L,) CIDEr-D, the mean over the references; equal to pycocoevalcap's Cider."""
    return comparison.mean(pair_cider_d(comparison, idf))


def cider(comparison: Comparison, idf: Idf = own_idf) -> np.ndarray:
    """(L,) CIDEr without clipping and length penalty (the paper's equations 2 and 3)."""
    return comparison.mean(pair_cider(comparison, idf))


def pair_cider_d(comparison: Comparison, idf: Idf = own_idf) -> np.ndarray:
    """(P,) CIDEr-D of each pair (the paper's section 7)."""
    # pycocoevalcap measures length in bigrams; it differs from tokens where a text has one or none.
    lengths = comparison.ngrams.order(2).totals
    away = lengths[comparison.left] - lengths[comparison.right]
    return _mean_of_orders(comparison, idf, clip=True) * np.exp(-(away**2) / (2 * SIGMA**2))


def pair_cider(comparison: Comparison, idf: Idf = own_idf) -> np.ndarray:
    """(P,) CIDEr of each pair."""
    return _mean_of_orders(comparison, idf, clip=False)


def _mean_of_orders(comparison: Comparison, idf: Idf, *, clip: bool) -> np.ndarray:
    total = np.zeros(len(comparison.left))
    for n in range(1, ORDERS + 1):
        found, shared, weight = comparison.ngrams.order(n), comparison.shared(n), idf(comparison, n)
        squares = np.square(found.count * weight[found.gram])
        norm = np.sqrt(np.bincount(found.text, squares, minlength=len(found.totals)))
        left = np.minimum(shared.left, shared.right) if clip else shared.left
        product = comparison.sum_of_pairs(shared.pair, left * shared.right * np.square(weight[shared.gram]))
        norms = norm[comparison.left] * norm[comparison.right]
        total += np.divide(product, norms, out=np.zeros_like(total), where=norms > 0)
    return SCALE * total / ORDERS
