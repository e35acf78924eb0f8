"""Exact counts of both classes at each distinct score, and the metrics that follow from the counts alone.

Image and pixel metrics, bootstrap intervals and threshold search all end here, so they cannot disagree. A
kernel takes counts of shape (..., G), groups ordered by rising score, and answers shape (...): one row, or a
thousand resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.errors import ProjectError


class UndefinedMetric(ProjectError):
    """The metric has no value on these data, for example an AUROC where only one class is present."""


@dataclass(frozen=True)
class Ranking:
    """Distinct scores in rising order and how many items of each class have them.

    `values` is (G,) float; `positives` and `negatives` are (G,) int64. A group between two positives that
    lumps several negative scores together has NaN as its value: no metric here needs to tell those apart.
    """

    values: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    @property
    def n_positive(self) -> int:
        return int(self.positives.sum())

    @property
    def n_negative(self) -> int:
        return int(self.negatives.sum())

    def require_both(self, metric: str, unit: str = "image") -> None:
        """Raise UndefinedMetric unless both classes are present."""
        if not self.n_positive or not self.n_negative:
            missing = "anomalous" if not self.n_positive else "normal"
            raise UndefinedMetric(
                f"{metric} needs normal and anomalous {unit}s, but none of the "
                f"{self.n_positive + self.n_negative} {unit}s is {missing}. "
                f"Evaluate on rows of both classes, or leave {metric} out."
            )


def check_labels(labels: Any, *, what: str = "label", ids: Sequence[str] | None = None) -> np.ndarray:
    """Labels as (N,) bool, true = anomalous, from 0/1 numbers or booleans (pandas' nullable Int64 included).

    Raises:
        ProjectError: not one-dimensional, or a value other than 0 or 1; names the row (and id if given).
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ProjectError(f"{what}s must be one-dimensional, found shape {array.shape}.")
    if array.dtype == bool:
        return array
    if array.dtype.kind in "iuf":
        bad = (array != 0) & (array != 1)
    else:  # object: Int64 with <NA>, mixed values
        bad = np.array([not _is_binary(value) for value in array], dtype=bool)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        found = array[row].item() if isinstance(array[row], np.generic) else array[row]
        raise ProjectError(
            f"{what} {_where(row, ids)} is {found!r}; expected 0 (normal) or 1 (anomalous). "
            "Leave rows of unknown class out before measuring."
        )
    return array.astype(bool)


def check_scores(scores: Any, *, ids: Sequence[str] | None = None) -> np.ndarray:
    """Scores as (N,) float64, N ≥ 1, all finite. float32 input is widened exactly, so ties stay ties.

    Raises:
        UndefinedMetric: there are none.
        ProjectError: not one-dimensional, not numeric, NaN or infinite; names the row (and id if given).
    """
    try:
        array = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ProjectError(f"scores must be numbers: {error}") from error
    if array.ndim != 1:
        raise ProjectError(f"scores must be one-dimensional, found shape {array.shape}.")
    if not array.size:
        raise UndefinedMetric("there are no scores to measure.")
    bad = ~np.isfinite(array)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ProjectError(
            f"score {_where(row, ids)} is {array[row]}, and {int(bad.sum())} of {array.size} scores are not "
            "finite. A model that overflowed (try trainer.precision=32-true) gives such scores."
        )
    return array


def rank_scores(scores: Any, labels: Any, *, ids: Sequence[str] | None = None) -> Ranking:
    """The ranking of N scores, higher = more anomalous, with 0/1 labels. O(N log N).

    Raises:
        ProjectError: lengths differ, a score is not finite, a label is not 0 or 1; names the row (and id).
    """
    scores, anomalous = check_scores(scores, ids=ids), check_labels(labels, ids=ids)
    if len(scores) != len(anomalous):
        raise ProjectError(f"{len(scores)} scores but {len(anomalous)} labels: they must pair up.")
    values, group = np.unique(scores, return_inverse=True)
    positives = np.bincount(group[anomalous], minlength=len(values))
    return Ranking(values, positives, np.bincount(group, minlength=len(values)) - positives)


def auroc_of(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Share of (anomalous, normal) pairs in the right order, a tie counting half: Mann-Whitney's U / PN."""
    up_to = np.cumsum(negatives, axis=-1)
    doubled = (positives * (2 * up_to - negatives)).sum(axis=-1)  # integers: exact up to 9·10^18
    return doubled / (2.0 * positives.sum(axis=-1) * negatives.sum(axis=-1))


def average_precision_of(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Sum over thresholds of the gain in recall times the precision there; no interpolation."""
    caught, alarms = above(positives), above(negatives)
    precision = caught / np.maximum(caught + alarms, 1)
    return (positives * precision).sum(axis=-1) / positives.sum(axis=-1)


def f1_max_of(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Highest F1 over all thresholds."""
    return f1_curve(positives, negatives).max(axis=-1)


def f1_curve(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """F1 of "score ≥ this group's value is anomalous" for every group; shape as given."""
    caught, alarms = above(positives), above(negatives)
    return 2.0 * caught / np.maximum(caught + alarms + positives.sum(axis=-1, keepdims=True), 1)


def above(counts: np.ndarray) -> np.ndarray:
    """How many items score at or above each group."""
    return np.cumsum(counts[..., ::-1], axis=-1)[..., ::-1]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where the whole is 0 (scikit-learn's `zero_division=0`)."""
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)


def _macro_f1(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray) -> np.ndarray:
    return (_ratio(2 * tp, 2 * tp + fp + fn) + _ratio(2 * tn, 2 * tn + fn + fp)) / 2


# Metrics of a decision, from the four counts; arrays of any one shape.
CONFUSION_KERNELS: dict[str, Callable[..., np.ndarray]] = {
    "f1": lambda tp, fp, fn, tn: _ratio(2 * tp, 2 * tp + fp + fn),
    "macro_f1": _macro_f1,
    "accuracy": lambda tp, fp, fn, tn: _ratio(tp + tn, tp + fp + fn + tn),
    "balanced_accuracy": lambda tp, fp, fn, tn: (_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2,
    "precision": lambda tp, fp, fn, tn: _ratio(tp, tp + fp),
    "recall": lambda tp, fp, fn, tn: _ratio(tp, tp + fn),
}

# Metrics of the order of the scores, from the counts of both classes in each group.
RANKING_KERNELS: dict[str, Callable[..., np.ndarray]] = {
    "auroc": auroc_of,
    "average_precision": average_precision_of,
    "f1_max": f1_max_of,
}


def _is_binary(value: Any) -> bool:
    try:
        return bool(value == 0 or value == 1)
    except TypeError:  # pandas.NA has no truth value
        return False


def _where(row: int, ids: Sequence[str] | None) -> str:
    return f"at index {row}" if ids is None else f"of id '{list(ids)[row]}' (index {row})"
