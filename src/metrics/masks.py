"""Metrics of binary masks against true ones: F1 over all pixels, Dice and IoU of each image, averaged.

Masks are compared image by image and let go, so both sides may be generators over any number of large images.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from src.errors import ProjectError
from src.metrics.ranking import UndefinedMetric

_ABSENT = object()


@dataclass
class MaskCounts:
    """Anomalous pixels of each image: called and truly so (`hits`), called (`called`), truly so (`true`)."""

    hits: list[int] = field(default_factory=list)
    called: list[int] = field(default_factory=list)
    true: list[int] = field(default_factory=list)

    def add(self, predicted: np.ndarray, truth: np.ndarray, *, where: str | None = None) -> None:
        """Count one pair of (H, W) masks; pixels that are not zero are anomalous.

        Raises:
            ProjectError: the two differ in shape, or are no planes; `where` names the image.
        """
        predicted, truth = np.asarray(predicted) != 0, np.asarray(truth) != 0
        if predicted.ndim != 2 or predicted.shape != truth.shape:
            at = f"at index {len(self.true)}" if where is None else where
            raise ProjectError(
                f"the mask {at} has the shape {predicted.shape}, and the true one {truth.shape}; both must be "
                "(height, width) of the original image."
            )
        self.hits.append(int(np.count_nonzero(predicted & truth)))
        self.called.append(int(np.count_nonzero(predicted)))
        self.true.append(int(np.count_nonzero(truth)))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`hits`, `called`, `true` as (N,) int64."""
        return tuple(np.array(part, dtype=np.int64) for part in (self.hits, self.called, self.true))


def count_masks(predicted: Iterable[np.ndarray], truth: Iterable[np.ndarray]) -> MaskCounts:
    """The counts of every pair; raises ProjectError where one side ends before the other, or shapes differ."""
    counts = MaskCounts()
    for index, (mask, true) in enumerate(zip_longest(predicted, truth, fillvalue=_ABSENT)):
        if mask is _ABSENT or true is _ABSENT:
            raise ProjectError(f"there must be one true mask a mask, but one of the two ends at index {index}.")
        counts.add(mask, true)
    return counts


def dice_of(hits: np.ndarray, called: np.ndarray, true: np.ndarray) -> np.ndarray:
    """2 · hits / (called + true), elementwise; 1 where both masks are empty."""
    total = called + true
    return np.where(total > 0, 2.0 * hits / np.maximum(total, 1), 1.0)


def iou_of(hits: np.ndarray, called: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Intersection over union, elementwise; 1 where both masks are empty."""
    union = called + true - hits
    return np.where(union > 0, hits / np.maximum(union, 1), 1.0)


def seg_f1(predicted: Iterable[np.ndarray], truth: Iterable[np.ndarray]) -> float:
    """F1 of the anomalous pixels of all images together, in [0, 1].

    The SegF1 of Heckler-Kram et al., "The MVTec AD 2 Dataset", 2025 (arXiv:2503.21622), of one object; the
    leaderboard averages the objects' values.

    Raises:
        UndefinedMetric: no pixel of any image is anomalous.
        ProjectError: shapes differ, or there is not one true mask a mask.
    """
    return _seg_f1(count_masks(predicted, truth))


def dice(predicted: Iterable[np.ndarray], truth: Iterable[np.ndarray]) -> float:
    """Dice coefficient of each image, averaged over the images, in [0, 1]; an image whose masks are both empty has 1.

    So Kaggle's competitions of defect masks count (Severstal's "mean Dice", a mask a row). Raises as `seg_f1` does,
    UndefinedMetric only where there is no image.
    """
    return _dice(count_masks(predicted, truth))


def iou(predicted: Iterable[np.ndarray], truth: Iterable[np.ndarray]) -> float:
    """Intersection over union of the anomalous pixels of each image, averaged over the images; both empty: 1.

    Not the IoU over the pixels of all images: that is F / (2 - F) with F = `seg_f1`. Raises as `dice` does.
    """
    return _iou(count_masks(predicted, truth))


def _seg_f1(counts: MaskCounts) -> float:
    hits, called, true = (int(part.sum()) for part in counts.arrays())
    if not true:
        raise UndefinedMetric(f"seg_f1 needs anomalous pixels, and none of the {len(counts.true)} true masks has any.")
    return 2 * hits / (called + true)


def _dice(counts: MaskCounts) -> float:
    _require_images("dice", counts)
    return float(dice_of(*counts.arrays()).mean())


def _iou(counts: MaskCounts) -> float:
    _require_images("iou", counts)
    return float(iou_of(*counts.arrays()).mean())


def _require_images(name: str, counts: MaskCounts) -> None:
    if not counts.true:
        raise UndefinedMetric(f"{name} needs images, and there are none.")


MASK_METRICS: dict[str, Callable[[MaskCounts], float]] = {"seg_f1": _seg_f1, "dice": _dice, "iou": _iou}


def mask_panel(counts: MaskCounts) -> dict[str, float | None]:
    """Every metric of masks; None for what is undefined here."""
    panel: dict[str, float | None] = {}
    for name, metric in MASK_METRICS.items():
        try:
            panel[name] = metric(counts)
        except UndefinedMetric:
            panel[name] = None
    return panel
