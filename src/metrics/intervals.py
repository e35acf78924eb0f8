"""How sure a measured box or count metric is: intervals from resampled images (Efron, 1979)."""

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
    n: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """(low, high) interval of COCO's mAP50: the value give or take its bootstrap standard error over images.

    Not percentiles: a resample repeats images, which flatters the average precision of classes with few objects, so
    that the resamples' values lie above the measured one and their percentiles may leave it out.

    Raises:
        UndefinedMetric: no object counts.
        ProjectError: predictions and truth differ in number, or a label is no class.
    """
    from scipy.stats import norm

    draws = _draws(len(truth), n, seed, level)
    once = np.ones((1, len(truth)))
    resampled = map50_of_draws(predictions, truth, np.concatenate([once, draws]), n_classes=n_classes)
    reach = float(norm.ppf((1 + level) / 2) * np.nanstd(resampled[1:]))
    return max(0.0, float(resampled[0]) - reach), min(1.0, float(resampled[0]) + reach)


def map50_of_draws(
    predictions: Sequence[Detections], truth: Sequence[Truth], draws: np.ndarray, *, n_classes: int
) -> np.ndarray:
    """(R,) COCO's mAP50 with each image counted draws[r, image] times; NaN where no object is left.

    Detections are matched once: matching knows only its own image, so a draw changes no more than how often each
    detection and object counts (but for equal scores, whose order COCO takes from the images'). A class that a
    draw lacks is left out of its mean. Raises as `map50_interval` does.
    """
    from scipy.sparse import csr_matrix

    check_pairs(predictions, truth, n_classes)
    matches = match_boxes(predictions, truth, n_classes=n_classes)
    present = np.flatnonzero(matches.objects.sum(axis=0))
    if not len(present):
        raise UndefinedMetric("map50 needs objects in the truth, and there are none that count.")
    values = np.full((len(draws), len(present)), np.nan)
    for column, label in enumerate(present):
        mine = (matches.labels == label) & ~matches.ignored
        # Images in order, as COCO breaks ties between equal scores.
        order = np.lexsort((matches.images[mine], -matches.scores[mine]))
        images, right = matches.images[mine][order], np.flatnonzero(matches.right[mine][order])
        # Precision matters where recall grows: detections are counted up to each right one.
        until = np.searchsorted(right, np.arange(len(images)))
        counted = until < len(right)
        table = csr_matrix((np.ones(counted.sum()), (until[counted], images[counted])), shape=(len(right), len(truth)))
        called = np.cumsum((table @ draws.T).T, axis=1)
        caught = np.cumsum(draws[:, images[right]], axis=1)
        values[:, column] = _average_precision(caught, called, draws @ matches.objects[:, label])
    some = ~np.isnan(values).all(axis=1)
    result = np.full(len(draws), np.nan)
    result[some] = np.nanmean(values[some], axis=1)
    return result


def _average_precision(caught: np.ndarray, called: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(R,) COCO's 101-point average precision from right and all detections (R, K) up to each right one, surest
    first; NaN where there is none of the (R,) objects."""
    precision = caught / np.maximum(called, 1e-12)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = caught / np.maximum(objects, 1e-12)[:, None]
    result = np.full(len(caught), np.nan)
    for row in np.flatnonzero(objects > 0):
        at = np.searchsorted(recall[row], _RECALLS, side="left")
        result[row] = np.append(highest[row], 0.0)[np.minimum(at, caught.shape[1])].mean()
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
