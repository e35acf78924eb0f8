"""Image-level anomaly metrics: how well scores order images, and how good a decision at a threshold is.

Scores are raw and unbounded, higher = more anomalous; labels are 0 (normal) and 1 (anomalous); an image is
called anomalous when `score >= threshold`. Values equal scikit-learn's where it has the metric.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat, zip_longest
from typing import Any

import numpy as np

from src.errors import ProjectError
from src.metrics.ranking import (
    CONFUSION_KERNELS,
    UndefinedMetric,
    auroc_of,
    average_precision_of,
    check_labels,
    check_scores,
    f1_curve,
    rank_scores,
)

_ABSENT = object()  # marks the end of the shorter of several sequences


def auroc(scores: Any, labels: Any) -> float:
    """Area under the ROC curve in [0, 1]; ties count half. Scores and labels are (N,).

    Raises:
        UndefinedMetric: one class is absent.
        ProjectError: a score is not finite or a label not 0/1; the message names the index.
    """
    ranking = rank_scores(scores, labels)
    ranking.require_both("auroc")
    return float(auroc_of(ranking.positives, ranking.negatives))


def average_precision(scores: Any, labels: Any) -> float:
    """Area under the precision-recall curve as a sum of steps, in [0, 1]. Raises as `auroc` does."""
    ranking = rank_scores(scores, labels)
    ranking.require_both("average_precision")
    return float(average_precision_of(ranking.positives, ranking.negatives))


def f1_max(scores: Any, labels: Any) -> float:
    """Highest F1 over all thresholds: what a perfectly chosen one would give. Raises as `auroc` does."""
    return best_f1(scores, labels)[0]


def best_f1(scores: Any, labels: Any) -> tuple[float, float]:
    """(highest F1, the highest observed score that reaches it when used as threshold). Raises as `auroc`
    does.

    An oracle that looks at the labels it is measured on: for a threshold to submit with use
    `src.calibration`.
    """
    ranking = rank_scores(scores, labels)
    ranking.require_both("f1_max")
    curve = f1_curve(ranking.positives, ranking.negatives)
    best = len(curve) - 1 - int(np.argmax(curve[::-1]))
    return float(curve[best]), float(ranking.values[best])


def f1_at(scores: Any, labels: Any, threshold: float) -> float:
    """F1 of the anomalous class for `score >= threshold`. Raises as `f1` does."""
    return f1(check_scores(scores) >= threshold, labels)


def f1(predicted: Any, labels: Any) -> float:
    """F1 of the anomalous class from (N,) 0/1 decisions.

    Raises:
        UndefinedMetric: no image is anomalous.
    """
    counts = _confusion(predicted, labels)
    _require_anomalous("f1", counts)
    return float(CONFUSION_KERNELS["f1"](*counts))


def precision(predicted: Any, labels: Any) -> float:
    """Share of the images called anomalous that are; 0 where none is called so."""
    return float(CONFUSION_KERNELS["precision"](*_confusion(predicted, labels)))


def recall(predicted: Any, labels: Any) -> float:
    """Share of the anomalous images that are called so.

    Raises:
        UndefinedMetric: no image is anomalous.
    """
    counts = _confusion(predicted, labels)
    _require_anomalous("recall", counts)
    return float(CONFUSION_KERNELS["recall"](*counts))


def macro_f1(predicted: Any, labels: Any) -> float:
    """F1 of each class, averaged over the classes that occur in either argument. Any labels: 0/1, other ints,
    strings.

    Raises:
        UndefinedMetric: the truth holds fewer than two classes.
    """
    table = _class_table("macro_f1", predicted, labels)
    hits = np.diag(table)
    return float(np.mean(2 * hits / (table.sum(axis=0) + table.sum(axis=1))))


def balanced_accuracy(predicted: Any, labels: Any) -> float:
    """Recall of each class of the truth, averaged. Any labels; raises as `macro_f1` does."""
    table = _class_table("balanced_accuracy", predicted, labels)
    present = table.sum(axis=1) > 0
    return float(np.mean(np.diag(table)[present] / table.sum(axis=1)[present]))


def accuracy(predicted: Any, labels: Any) -> float:
    """Share of rows whose label is predicted. Any labels.

    Raises:
        UndefinedMetric: there are no rows.
    """
    table = _class_table("accuracy", predicted, labels, at_least=1)
    return float(np.trace(table) / table.sum())


def evaluate_anomaly(
    scores: Any,
    labels: Any,
    threshold: float | None = None,
    maps: Iterable[np.ndarray | None] | None = None,
    masks: Iterable[np.ndarray | None] | None = None,
    *,
    ids: Sequence[str] | None = None,
) -> dict[str, float | int | None]:
    """The whole panel. What is undefined here (one class only, no masks) is None, which JSON writes as null.

    `maps` and `masks` (H×W each, one an image, may be lazy) add pixel metrics; an image without a map counts
    for none of them, nor does an anomalous one without a mask, while a normal one without a mask is all
    normal.

    Raises:
        ProjectError: a score or map is not finite, lengths or shapes differ; the message names index or id.
    """
    ranking = rank_scores(scores, labels, ids=ids)
    scores, labels = check_scores(scores), check_labels(labels)
    result: dict[str, float | int | None] = {
        "n_normal": ranking.n_negative,
        "n_anomalous": ranking.n_positive,
        "auroc": _value(auroc, scores, labels),
        "average_precision": _value(average_precision, scores, labels),
        "f1_max": _value(f1_max, scores, labels),
    }
    if threshold is not None:
        decided = scores >= threshold
        result["threshold"] = float(threshold)
        for metric in (f1, macro_f1, accuracy, balanced_accuracy, precision, recall):
            result[metric.__name__] = _value(metric, decided, labels)
    if maps is not None:
        from src.metrics.pixel import PIXEL_METRICS, count_pixels

        pixels = count_pixels(_pixel_pairs(maps, masks, labels), ids=ids)
        result.update({name: _value(metric, pixels) for name, metric in PIXEL_METRICS.items()})
    return result


def _pixel_pairs(
    maps: Iterable[np.ndarray | None], masks: Iterable[np.ndarray | None] | None, labels: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
    """(map, mask) an image, or None where too little is known of it to count its pixels."""
    masks = repeat(None, len(labels)) if masks is None else masks
    for index, (anomaly_map, mask, anomalous) in enumerate(zip_longest(maps, masks, labels, fillvalue=_ABSENT)):
        if any(item is _ABSENT for item in (anomaly_map, mask, anomalous)):
            raise ProjectError(f"maps, masks and labels must pair up, but one of them ends at index {index}.")
        if mask is None and not anomalous and anomaly_map is not None:
            mask = np.zeros(np.shape(anomaly_map), dtype=bool)
        yield None if anomaly_map is None or mask is None else (anomaly_map, mask)


def _value(metric: Any, *arguments: Any) -> float | None:
    try:
        return metric(*arguments)
    except UndefinedMetric:
        return None


def _confusion(predicted: Any, labels: Any) -> tuple[int, int, int, int]:
    """(true positives, false positives, false negatives, true negatives) of 0/1 arrays."""
    called, anomalous = check_labels(predicted, what="predicted label"), check_labels(labels)
    if len(called) != len(anomalous):
        raise ProjectError(f"{len(called)} predicted labels but {len(anomalous)} labels: they must pair up.")
    tp, fp, fn = (
        int((called & anomalous).sum()),
        int((called & ~anomalous).sum()),
        int((~called & anomalous).sum()),
    )
    return tp, fp, fn, len(called) - tp - fp - fn


def _require_anomalous(metric: str, counts: tuple[int, int, int, int]) -> None:
    if counts[0] + counts[2] == 0:
        raise UndefinedMetric(f"{metric} needs anomalous images, but none of the {sum(counts)} is anomalous.")


def _plain(labels: Any) -> np.ndarray:
    """An array of a plain kind: pandas' nullable and string columns arrive as objects."""
    array = np.asarray(labels)
    return np.array(array.tolist()) if array.dtype == object else array


def _class_table(metric: str, predicted: Any, labels: Any, at_least: int = 2) -> np.ndarray:
    """(C, C) counts, rows = truth, columns = predicted, over the classes that occur."""
    predicted, labels = _plain(predicted), _plain(labels)
    if predicted.ndim != 1 or predicted.shape != labels.shape:
        raise ProjectError(
            f"{metric}: predicted labels have shape {predicted.shape}, labels {labels.shape}; "
            "both must be one-dimensional and of one length."
        )
    if (predicted.dtype.kind in "biuf") != (labels.dtype.kind in "biuf"):
        raise ProjectError(f"{metric}: predicted labels and labels must both be numbers or both be text.")
    try:
        classes, codes = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    except TypeError as error:
        raise ProjectError(f"{metric}: labels mix kinds or are missing somewhere ({error}).") from error
    truth, answer = codes[: len(labels)], codes[len(labels) :]
    found = len(np.unique(truth))
    if found < at_least:
        needed = "two classes" if at_least == 2 else "one row"
        raise UndefinedMetric(f"{metric} needs at least {needed} in the truth, found {found}.")
    return np.bincount(truth * len(classes) + answer, minlength=len(classes) ** 2).reshape(-1, len(classes))
