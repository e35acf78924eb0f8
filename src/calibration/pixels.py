"""The decision of each pixel: a threshold on anomaly maps, and the smallest area that is kept, from OOF rows only.

Maps and masks are those of the original images, as the grader compares them. Test maps have no place here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from src.calibration.pixel_curves import BINS, GROUPS, PixelCurves, bins_of, checked_plane, lower_edges
from src.errors import ProjectError
from src.metrics.masks import MASK_METRICS, MaskCounts
from src.metrics.ranking import UndefinedMetric
from src.metrics.registry import get_metric

# Smallest areas that are tried, in pixels of the original image; noise is small, and a defect seldom is.
AREAS = (0, 4, 10, 20, 40, 80, 160, 320, 640, 1280)

Pairs = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class PixelThreshold:
    """How a map becomes a mask, and where that comes from.

    value: a pixel is anomalous when it is at least this (compared in float32). min_area: 8-connected regions of fewer
        pixels are dropped; 0: none. source: "oof": best value of `metric` on images with known masks;
        "normal_quantile": from normal images alone.
    metric: the metric of masks that was maximised; "false_alarm_rate" for a quantile.
    score: its value on the images that it was tuned on, so optimistic; for a quantile the share of normal pixels at
        or above the threshold.
    cross_validated, plain: the metric on images left out of tuning, with the area and without; None where too few
        images have defects.
    """

    value: float
    source: Literal["oof", "normal_quantile"]
    metric: str
    score: float
    n_images: int
    n_anomalous: int
    min_area: int = 0
    cross_validated: float | None = None
    plain: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.value, (int, float)) or not np.isfinite(self.value):
            raise ProjectError(f"a pixel threshold must be a finite number, found {self.value!r}.")
        if not isinstance(self.min_area, int) or self.min_area < 0:
            raise ProjectError(f"a smallest area is a whole number of pixels, 0 or more, found {self.min_area!r}.")

    def decide(self, plane: np.ndarray) -> np.ndarray:
        """The (H, W) bool mask of a map of the original image."""
        called = np.asarray(plane, dtype=np.float32) >= np.float32(self.value)
        return without_small(called, self.min_area)

    def to_dict(self) -> dict[str, Any]:
        """Plain scalars, for metrics.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PixelThreshold":
        """The threshold that `to_dict` wrote; ProjectError where an entry is missing or unknown."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ProjectError(
                f"the recorded pixel threshold cannot be read ({error}). Train again, or run make_submission.py."
            ) from error


def without_small(mask: np.ndarray, min_area: int) -> np.ndarray:
    """The mask without its 8-connected regions of fewer than `min_area` pixels."""
    if min_area <= 1 or not mask.any():
        return mask
    labels, areas = _regions(mask)
    return (areas >= min_area)[labels] & mask


def tune_pixel_threshold(pairs: Pairs, metric: str) -> PixelThreshold:
    """The threshold with the best `metric` over (map, mask) pairs of held-out images, exact over its grid.

    Args:
        pairs: float maps and masks, (H, W) each, of the original images. A generator is gone through once, and
            `min_area` stays 0. Where it can be gone through again (a sequence), the smallest area is tuned as well:
            the metric is cross-validated over `GROUPS` groups of images, threshold and area chosen on the other
            groups, and the area is kept only where that is better than the threshold alone.
        metric: seg_f1 or pixel_f1 (F1 over all pixels), dice or iou (mean over images); any other tunes seg_f1.

    Raises:
        UndefinedMetric: no image, or none with an anomalous pixel.
        ProjectError: shapes differ, or a map is not finite; the message names the index.
    """
    name = get_metric(metric).name
    name = name if name in MASK_METRICS else "seg_f1"
    curves = PixelCurves(name)
    for plane, mask in pairs:
        curves.add(plane, mask)
    if not curves.true.sum():
        raise UndefinedMetric(
            f"a pixel threshold needs true masks with defects, and none of the {len(curves.members)} images has one."
        )
    value, score = curves.best()
    plain = PixelThreshold(value, "oof", name, score, int(curves.images.sum()), int(curves.anomalous.sum()))
    if iter(pairs) is pairs or (curves.anomalous > 0).sum() < 2:
        return plain
    return _with_area(pairs, curves, plain)


def normal_pixel_quantile(maps: Iterable[np.ndarray], *, target_false_alarm: float = 0.001) -> PixelThreshold:
    """The lowest threshold at or above which at most a share `target_false_alarm` of normal pixels lies.

    A share of these pixels, not a promise for new images: the pixels of an image depend on one another, so a few
    images vouch for less than their number of pixels suggests.

    Args:
        maps: (H, W) each, of held-out normal images at their original size.

    Raises:
        UndefinedMetric: there are no maps.
        ProjectError: a map is not finite, or `target_false_alarm` is outside (0, 1).
    """
    if not 0 < target_false_alarm < 1:
        raise ProjectError(
            f"the target share of pixels is {target_false_alarm}: expected a number between 0 and 1 (say 0.001)."
        )
    counts, number = np.zeros(BINS, dtype=np.int64), 0
    for index, plane in enumerate(maps):
        here = bins_of(checked_plane(plane, f"at index {index}"))
        low = int(here.min())
        found = np.bincount(here - low)
        counts[low : low + len(found)] += found
        number += 1
    if not number:
        raise UndefinedMetric("a threshold from normal pixels needs held-out normal images, and there are none.")
    above = np.append(np.cumsum(counts[::-1])[::-1], 0)
    used = np.append(np.flatnonzero(counts), np.flatnonzero(counts)[-1] + 1)
    chosen = int(used[np.argmax(above[used] <= target_false_alarm * above[0])])
    return PixelThreshold(
        value=float(lower_edges(np.array([chosen]))[0]),
        source="normal_quantile",
        metric="false_alarm_rate",
        score=float(above[chosen] / above[0]),
        n_images=number,
        n_anomalous=0,
    )


def _with_area(pairs: Pairs, curves: PixelCurves, plain: PixelThreshold) -> PixelThreshold:
    """`plain` with the smallest area that cross-validation favours, if it favours one."""
    held = [group for group in range(GROUPS) if curves.anomalous[group]]
    thresholds = [curves.best(np.arange(GROUPS) != group)[0] for group in held]
    groups = np.array(curves.members)
    tables = _area_tables(pairs, [*thresholds, plain.value])
    left_out: list[tuple[np.ndarray, int]] = []
    for table, group in zip(tables, held, strict=False):  # the last table is that of all images
        area = _best_area(table[groups != group], plain.metric)
        left_out.append((table[groups == group], area))
    without = _value(np.concatenate([table[:, 0] for table, _ in left_out]), plain.metric)
    kept = _value(np.concatenate([table[:, AREAS.index(area)] for table, area in left_out]), plain.metric)
    area = _best_area(tables[-1], plain.metric) if kept > without else 0
    score = _value(tables[-1][:, AREAS.index(area)], plain.metric)
    return PixelThreshold(
        **{
            **plain.to_dict(),
            "score": score,
            "min_area": area,
            "cross_validated": kept if area else without,
            "plain": without,
        }
    )


def _area_tables(pairs: Pairs, thresholds: Sequence[float]) -> list[np.ndarray]:
    """For each threshold (N, len(AREAS), 3): hits, called and true pixels of each image at each smallest area."""
    tables: list[list[np.ndarray]] = [[] for _ in thresholds]
    for plane, mask in pairs:
        plane, anomalous = np.asarray(plane, dtype=np.float32), np.asarray(mask) != 0
        true = int(anomalous.sum())
        for table, threshold in zip(tables, thresholds, strict=True):
            labels, areas = _regions(plane >= np.float32(threshold))
            hits = np.bincount(labels[anomalous], minlength=len(areas))
            hits[0] = 0
            kept = areas[None, :] >= np.maximum(AREAS, 1)[:, None]
            table.append(np.stack([kept @ hits, kept @ areas, np.full(len(AREAS), true)], axis=1))
    return [np.stack(table) for table in tables]


def _regions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(labels (H, W), 0 outside; pixels of each label, that of 0 being 0) of 8-connected regions."""
    import cv2

    number, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    areas = np.bincount(labels.ravel(), minlength=number)
    areas[0] = 0
    return labels, areas


def _best_area(table: np.ndarray, metric: str) -> int:
    """Of equally good ones the smallest."""
    return AREAS[int(np.argmax([_value(table[:, column], metric) for column in range(len(AREAS))]))]


def _value(counts: np.ndarray, metric: str) -> float:
    """The metric of (N, 3) hits, called and true pixels; 0 where it is undefined."""
    try:
        return MASK_METRICS[metric](MaskCounts(*(column.tolist() for column in counts.T)))
    except UndefinedMetric:
        return 0.0
