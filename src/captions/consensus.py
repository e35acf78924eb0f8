"""Consensus among candidate captions: the expected utility of each when another of them is the truth.

Minimum Bayes risk decoding (Kumar & Byrne 2004, "Minimum Bayes-Risk Decoding for Statistical Machine Translation",
section 2; for neural models and a sentence metric as utility: Eikema & Aziz 2020, "Is MAP Decoding All You Need?",
section 6). The utility is the competition's metric, the candidates are both hypotheses and evidence.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def votes(scores: Array, temperature: float | None) -> Array:
    """Weights (n,) of an image's candidates as evidence, sum 1.

    scores: (n,) model scores in comparable units; NaN (no score known) weighs like the mean of the others.
    temperature: of a softmax over the scores; None gives every candidate the same weight.
    """
    if temperature is None or not np.isfinite(scores).any():
        return np.full(len(scores), 1.0 / max(len(scores), 1))
    filled = np.where(np.isfinite(scores), scores, scores[np.isfinite(scores)].mean())
    powers = np.exp((filled - filled.max()) / temperature)
    return powers / powers.sum()


def expected_utility(matrix: Array, weights: Array) -> Array:
    """Expected utility (n,) of each candidate over the others, which are weighted and renormalised.

    matrix: (n, n); [i, j] is the metric of candidate i against j as its only reference.
    weights: (n,), not negative; a candidate alone gets 0.

    A candidate's match with itself is left out: it is the best value that there is, so with it a candidate's own weight
    would count as agreement, and a metric such as CIDEr, whose value of a text against itself depends on its length,
    would favour texts for no reason that another candidate gives. What the model thinks of a candidate is a term of
    its own where candidates are chosen.
    """
    matrix, weights = np.asarray(matrix, dtype=float), np.asarray(weights, dtype=float)
    others = matrix @ weights - np.diagonal(matrix) * weights
    total = weights.sum() - weights
    return np.divide(others, total, out=np.zeros(len(weights)), where=total > 1e-12)


def consensus(metric: Any, groups: Sequence[Sequence[str]], weights: Sequence[Array], frequencies: Any = None) -> list:
    """Expected utilities (n,) of each image's candidates under a CaptionMetric; see expected_utility."""
    matrices = metric.pairwise(groups, frequencies)
    return [expected_utility(matrix, weight) for matrix, weight in zip(matrices, weights, strict=True)]


def medoid(metric: Any, texts: Sequence[str], frequencies: Any = None) -> str:
    """The text that the others resemble most under a CaptionMetric; of equals, the more frequent, then the earlier."""
    utilities = expected_utility(metric.pairwise([list(texts)], frequencies)[0], np.ones(len(texts)))
    counts = {text: texts.count(text) for text in set(texts)}
    best = max(range(len(texts)), key=lambda at: (round(float(utilities[at]), 9), counts[texts[at]], -at))
    return texts[best]
