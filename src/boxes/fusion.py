"""One list of detections out of several of the same image: from models, folds, or test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from src.boxes.nms import nms, soft_nms
from src.boxes.types import Detections
from src.errors import ProjectError, nearest

METHODS = ("wbf", "nms", "soft_nms")


def fuse(
    parts: Sequence[Detections],
    *,
    size: tuple[int, int],
    method: Literal["wbf", "nms", "soft_nms"] = "wbf",
    iou: float = 0.55,
    weights: Sequence[float] | None = None,
    skip: float = 0.0,
) -> Detections:
    """The parts as one, surest first; scores stay in [0, 1], boxes inside the image. Masks are dropped by wbf.

    size: (width, height) of the image in pixels. iou: above it two boxes of a class are the same object (wbf, nms).
    weights: how far each part is trusted; 1 each without. skip: detections with a lower score are left out.
    wbf: boxes of a group are averaged by score, and a group that few parts found loses score (Solovyev et al.,
    "Weighted boxes fusion", 2021; ensemble-boxes). nms and soft_nms: of the scores times weight / highest weight.

    Calibrate the scores of different models first (`src.boxes.calibration`): fusion compares them. Scores above 1
    are an error, not clipped: they are no probabilities, and averages of them rank wrongly.

    Raises:
        ProjectError: an unknown method, weights that do not pair up or are not positive, a size that is not
            positive, or a score outside [0, 1].
    """
    weights = [1.0] * len(parts) if weights is None else [float(weight) for weight in weights]
    _check(parts, size, method, weights)
    parts = [_inside(part, size) for part in parts]
    parts = [part.select(part.scores >= skip) for part in parts]
    if not sum(map(len, parts)):
        return Detections.empty()
    if method == "wbf":
        return _weighted(parts, size, iou, weights)
    top = max(weights)
    scaled = Detections.concatenate(
        [
            Detections(part.boxes, part.scores * (weight / top), part.labels, part.masks)
            for part, weight in zip(parts, weights, strict=True)
        ]
    )
    return nms(scaled, iou=iou) if method == "nms" else soft_nms(scaled)


def _weighted(parts: list[Detections], size: tuple[int, int], iou: float, weights: list[float]) -> Detections:
    from ensemble_boxes import weighted_boxes_fusion

    parts = [part.select(part.scores > 0) for part in parts]  # averages by score divide by its sum
    if not sum(map(len, parts)):
        return Detections.empty()
    scale = np.array([*size, *size], dtype=np.float64)
    boxes, scores, labels = weighted_boxes_fusion(
        [part.boxes / scale for part in parts],
        [part.scores for part in parts],
        [part.labels for part in parts],
        weights=weights,
        iou_thr=iou,
        skip_box_thr=0.0,
    )
    # Averages are taken in single precision: an edge or a score of 1 may come back a hair above it.
    boxes = np.clip(boxes, 0.0, 1.0) * scale
    return Detections(boxes, np.clip(scores, 0.0, 1.0), np.round(labels).astype(np.int64))


def _inside(part: Detections, size: tuple[int, int]) -> Detections:
    """Clipped to the image, without boxes that have no area in it."""
    boxes = np.clip(part.boxes, 0, np.array([*size, *size], dtype=np.float64))
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes, part.scores, part.labels, part.masks).select(keep)


def _check(parts: Sequence[Detections], size: tuple[int, int], method: str, weights: list[float]) -> None:
    if method not in METHODS:
        raise ProjectError(
            f"fusion method '{method}' is not known.{nearest(method, METHODS)} Known: {', '.join(METHODS)}."
        )
    if len(weights) != len(parts):
        raise ProjectError(f"{len(weights)} weights for {len(parts)} lists of boxes: give one a list.")
    if not all(np.isfinite(weight) and weight > 0 for weight in weights):
        raise ProjectError(f"weights {weights}: expected numbers above 0. Leave a model out instead of weighing it 0.")
    if len(size) != 2 or min(size) <= 0:
        raise ProjectError(f"size {tuple(size)}: expected (width, height) in pixels, both above 0.")
    for index, part in enumerate(parts):
        if len(part) and (part.scores.min() < 0 or part.scores.max() > 1):
            raise ProjectError(
                f"list {index} has scores from {part.scores.min():.3g} to {part.scores.max():.3g}; fusion needs them "
                "in [0, 1]. Calibrate them first (ScoreCalibration.fit on out-of-fold predictions)."
            )
