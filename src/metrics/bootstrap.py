"""How sure a measured metric is: percentile intervals from resampled images."""

from typing import Any

import numpy as np

from src.errors import ProjectError
from src.metrics.ranking import CONFUSION_KERNELS, RANKING_KERNELS, Ranking, rank_scores
from src.metrics.registry import get_metric

_CELLS = 4_000_000  # resamples × distinct scores handled at once; bounds memory at some 200 MB


def bootstrap_interval(
    metric: str,
    scores: Any,
    labels: Any,
    *,
    threshold: float | None = None,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """(low, high) percentile bootstrap interval of an image metric (Efron, "Bootstrap methods", 1979).

    Normal and anomalous images are resampled apart, so that every resample has both. Metrics of a decision
    (f1, accuracy, …) need `threshold`, which is held fixed: the interval does not count the doubt in choosing
    it.

    Raises:
        UndefinedMetric: one class is absent.
        ProjectError: the metric is none of single images (pixel metrics), or `threshold` is missing.
    """
    name = get_metric(metric).name
    ranking = rank_scores(scores, labels)
    ranking.require_both(name)
    if name in RANKING_KERNELS:
        kernel = RANKING_KERNELS[name]
    elif name in CONFUSION_KERNELS:
        if threshold is None:
            raise ProjectError(f"an interval of {name} needs the threshold that decides. Pass threshold=….")
        # Below and above the threshold is all that counts: two groups.
        called = ranking.values >= threshold
        ranking = Ranking(
            np.array([-1.0, 1.0]),
            np.array([ranking.positives[~called].sum(), ranking.positives[called].sum()]),
            np.array([ranking.negatives[~called].sum(), ranking.negatives[called].sum()]),
        )

        def kernel(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
            return CONFUSION_KERNELS[name](positives[:, 1], negatives[:, 1], positives[:, 0], negatives[:, 0])
    else:
        raise ProjectError(f"{name} is a metric of pixels; intervals are offered for image metrics only.")
    if n < 1 or not 0 < level < 1:
        raise ProjectError(f"n={n}, level={level}: expected n of at least 1 and a level between 0 and 1.")

    random = np.random.default_rng(seed)
    step = max(1, _CELLS // max(len(ranking.values), ranking.n_positive, ranking.n_negative))
    values = np.concatenate(
        [
            kernel(_resampled(ranking.positives, rows, random), _resampled(ranking.negatives, rows, random))
            for rows in (min(step, n - start) for start in range(0, n, step))
        ]
    )
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(counts: np.ndarray, rows: int, random: np.random.Generator) -> np.ndarray:
    """(rows, G) counts of as many items drawn with replacement."""
    groups = np.repeat(np.arange(len(counts)), counts)
    drawn = groups[random.integers(0, len(groups), size=(rows, len(groups)))]
    offsets = np.arange(rows)[:, None] * len(counts)
    return np.bincount((drawn + offsets).ravel(), minlength=rows * len(counts)).reshape(rows, len(counts))
