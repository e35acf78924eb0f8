"""What a detector says of one image (Detections) and what is true of it (Truth), checked where they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def as_boxes(values: Any) -> np.ndarray:
    """(N, 4) float64 from any nested sequence; no boxes at all are (0, 4).

    Raises:
        ValueError: the values are not rows of four numbers.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"expected boxes as rows of four numbers, found shape {array.shape}")
    return array


@dataclass(frozen=True)
class Detections:
    """The boxes found in one image.

    boxes: (N, 4) float64, xyxy, absolute pixels of the original image. scores: (N,) float64, higher is surer.
    labels: (N,) int64, indices of the competition's classes. masks: N COCO run-length texts, or None.

    Raises:
        ValueError: other shapes, a number that is not finite, or a box with x1 > x2 or y1 > y2.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", as_boxes(self.boxes))
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64).reshape(-1))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64).reshape(-1))
        if self.masks is not None:
            object.__setattr__(self, "masks", tuple(self.masks))
        lengths = {len(self.boxes), len(self.scores), len(self.labels)}
        lengths |= {len(self.masks)} if self.masks is not None else set()
        if len(lengths) > 1:
            raise ValueError(f"boxes, scores, labels and masks differ in number: {sorted(lengths)}")
        check_boxes(self.boxes)
        if not np.isfinite(self.scores).all():
            raise ValueError("a score is not finite")

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, keep: np.ndarray) -> Detections:
        """Those that a boolean mask or an array of indices names, in its order."""
        index = np.flatnonzero(keep) if np.asarray(keep).dtype == bool else np.asarray(keep, dtype=np.int64)
        masks = None if self.masks is None else tuple(self.masks[i] for i in index)
        return Detections(self.boxes[index], self.scores[index], self.labels[index], masks)

    @classmethod
    def empty(cls) -> Detections:
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """All parts as one, in their order; masks only where every part has them."""
        if not parts:
            return cls.empty()
        with_masks = all(part.masks is not None for part in parts)
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.labels for part in parts]),
            tuple(mask for part in parts for mask in part.masks) if with_masks else None,
        )


@dataclass(frozen=True)
class Truth:
    """The objects that are in one image.

    boxes: (N, 4) float64, xyxy, absolute pixels of the original image. labels: (N,) int64 class indices.
    ignored: (N,) bool, regions that count neither as found nor as missed (COCO's crowd, VOC's difficult).
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", as_boxes(self.boxes))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64).reshape(-1))
        ignored = np.zeros(len(self.boxes), bool) if self.ignored is None else np.asarray(self.ignored, dtype=bool)
        object.__setattr__(self, "ignored", ignored.reshape(-1))
        if not len(self.boxes) == len(self.labels) == len(self.ignored):
            raise ValueError(f"{len(self.boxes)} boxes, {len(self.labels)} labels, {len(self.ignored)} ignored flags")
        check_boxes(self.boxes)

    def __len__(self) -> int:
        return len(self.boxes)

    def counts(self, n_classes: int) -> np.ndarray:
        """(n_classes,) int64: objects of each class; ignored regions are not counted."""
        return np.bincount(self.labels[~self.ignored], minlength=n_classes).astype(np.int64)


def check_boxes(boxes: np.ndarray) -> None:
    """Raise ValueError where a box is not finite or has its corners swapped."""
    if not np.isfinite(boxes).all():
        raise ValueError("a box is not finite")
    swapped = (boxes[:, 0] > boxes[:, 2]) | (boxes[:, 1] > boxes[:, 3])
    if swapped.any():
        raise ValueError(f"box {boxes[swapped][0].tolist()} is not [x1, y1, x2, y2] with x1 ≤ x2 and y1 ≤ y2")


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, M) intersection over union of (N, 4) and (M, 4) xyxy boxes; 0 where both are without area."""
    first, second = as_boxes(first), as_boxes(second)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
