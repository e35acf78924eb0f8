""" "Not in the picture" as an answer: open-vocabulary detectors box something for any word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from src.boxes.types import Detections
from src.errors import ProjectError

# Scores of open-vocabulary detectors below this are as common for words that are not shown as for those that are;
# a guess for want of labelled pictures. Tune it on some (`tune_absence`).
DEFAULT_THRESHOLD = 0.3


def absent(det: Detections, *, label: int | None = None, threshold: float = DEFAULT_THRESHOLD) -> bool:
    """Whether no detection (of class `label`, or of any) reaches the threshold. Scores are best calibrated."""
    return presence(det, label=label) < threshold


def presence(det: Detections, *, label: int | None = None) -> float:
    """The highest score of class `label`, or of any class; 0 without a detection."""
    scores = det.scores if label is None else det.scores[det.labels == label]
    return float(scores.max()) if len(scores) else 0.0


def tune_absence(scores: Any, shown: Any) -> float:
    """The threshold that tells words that are shown from others best, from the `presence` of each (N,) and whether
    the thing is there (N,), as 0 and 1.

    Maximises balanced accuracy, so that neither kind of mistake is bought with the other by the mere mix of the
    examples; of equally good thresholds the middle of the widest gap.

    Raises:
        ProjectError: one of both kinds is missing, a score is not finite, or lengths differ.
    """
    from src.calibration.threshold import tune_threshold

    shown = np.asarray(shown, dtype=np.int64)
    if not 0 < shown.sum() < len(shown):
        raise ProjectError("an absence threshold is tuned on pictures with and without the thing, found one kind only.")
    return tune_threshold(scores, shown, "balanced_accuracy").value


def presence_table(predictions: Sequence[Detections], n_classes: int) -> np.ndarray:
    """(N, C) `presence` of each class in each image."""
    table = np.zeros((len(predictions), n_classes))
    for row, det in enumerate(predictions):
        np.maximum.at(table[row], det.labels, det.scores)
    return table
