"""How sure a measured box or count metric is: percentile intervals from resampled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from src.boxes.types import Detections, Truth
from src.errors import ProjectError
from src.metrics.counting import TIERS, check_counts, whole
from src.metrics.detection import check_pairs
from src.metrics.matching import match_boxes
from src.metrics.ranking import UndefinedMetric
from src.metrics.registry import get_metric

_CELLS = 4_000_000  # resamples × detections of a class handled at once; bounds memory at some 100 MB
_RECALLS = np.linspace(0.0, 1.0, 101)  # where COCO looks at precision


def count_interval(
    metric: str, predicted: Any, truth: Any, *, n: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """(low, high) percentile bootstrap interval of a count metric over images (Efron, 1979).

    `predicted` and `truth` are (N, C) counts. Whole images are drawn, so what images have in common across classes
    is kept.

    Raises:
        UndefinedMetric: there are no counts.
        ProjectError: not a count metric, or counts that `src.metrics.counting.check_counts` refuses.
    """
    name = get_metric(metric).name
    predicted, truth = check_counts(predicted, truth)
    off = predicted - truth
    wrong = whole(predicted) != truth
    tiers = np.append(TIERS, 0.0)
    kernels: dict[str, tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]] = {
        "count_mae": (np.abs(off), lambda mean: mean.mean(axis=1)),
        "count_rmse": (np.square(off), lambda mean: np.sqrt(mean.mean(axis=1))),
        "count_rmse_columns": (np.square(off), lambda mean: np.sqrt(mean).mean(axis=1)),
        "count_exact": (~wrong, lambda mean: mean.mean(axis=1)),
        "count_exact_image": (~wrong.any(axis=1, keepdims=True), lambda mean: mean.mean(axis=1)),
        "count_tiered": (
            tiers[np.minimum(np.abs(whole(predicted) - truth), len(TIERS)).astype(np.int64)],
            lambda mean: mean.mean(axis=1),
        ),
    }
    if name not in kernels:
        raise ProjectError(f"{name} is no count metric. Intervals of counts: {', '.join(kernels)}.")
    cells, kernel = kernels[name]
    draws = _draws(len(truth), n, seed, level)
    return _interval(kernel(draws @ cells.astype(float) / len(truth)), level)


def map50_interval(
    predictions: Sequence[Detections],
    truth: Sequence[Truth],
    *,
    n_classes: int,
    n: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """(low, high) percentile bootstrap interval of COCO's mAP50 over images.

    Detections are matched once: matching knows only its own image, so a resample changes no more than how often each
    detection and object counts (but for equal scores, whose order COCO takes from the images'). A class that a
    resample lacks is left out of its mean.

    Raises:
        UndefinedMetric: no object counts.
        ProjectError: predictions and truth differ in number, or a label is no class.
    """
    check_pairs(predictions, truth, n_classes)
    matches = match_boxes(predictions, truth, n_classes=n_classes)
    if not matches.objects.sum():
        raise UndefinedMetric("an interval of map50 needs objects in the truth.")
    draws = _draws(len(truth), n, seed, level)
    values = np.full((n, n_classes), np.nan)
    for label in np.flatnonzero(matches.objects.sum(axis=0)):
        mine = (matches.labels == label) & ~matches.ignored
        # Images in order, as COCO breaks ties between equal scores.
        order = np.lexsort((matches.images[mine], -matches.scores[mine]))
        images, right = matches.images[mine][order], matches.right[mine][order]
        step = max(1, _CELLS // max(1, len(images)))
        for start in range(0, n, step):
            rows = draws[start : start + step]
            values[start : start + step, label] = _average_precision(
                rows[:, images], right, rows @ matches.objects[:, label]
            )
    keep = ~np.isnan(values).all(axis=1)
    return _interval(np.nanmean(values[keep], axis=1), level)


def _average_precision(times: np.ndarray, right: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(R,) COCO's 101-point average precision of detections, surest first, counted (R, D) times each; NaN where
    there is none of the (R,) objects."""
    caught, called = np.cumsum(times * right, axis=1), np.cumsum(times, axis=1)
    precision = caught / np.maximum(called, 1e-12)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = caught / np.maximum(objects, 1e-12)[:, None]
    result = np.full(len(times), np.nan)
    for row in np.flatnonzero(objects > 0):
        at = np.searchsorted(recall[row], _RECALLS, side="left")
        result[row] = np.append(highest[row], 0.0)[np.minimum(at, times.shape[1])].mean()
    return result


def _draws(images: int, n: int, seed: int, level: float) -> np.ndarray:
    """(n, images) how often each image is drawn."""
    if n < 1 or not 0 < level < 1:
        raise ProjectError(f"n={n}, level={level}: expected n of at least 1 and a level between 0 and 1.")
    random = np.random.default_rng(seed)
    return random.multinomial(images, np.full(images, 1 / images), size=n).astype(np.float64)


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
