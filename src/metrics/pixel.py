"""Pixel-level anomaly metrics over whole test sets: AUROC, average precision, highest F1, per-region overlap.

One pass over the maps, exact, no sampling and no binning. A float16 map (what the prediction store keeps) has
at most 65,536 distinct values, so counting bit patterns loses nothing and needs no memory per image. Maps of
other types are kept as flat copies (4 bytes a pixel for float32) and sorted once.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from src.errors import ProjectError
from src.metrics.ranking import (
    Ranking,
    UndefinedMetric,
    above,
    auroc_of,
    average_precision_of,
    f1_curve,
)

_PATTERNS = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
_FINITE = np.flatnonzero(np.isfinite(_PATTERNS))
_FINITE = _FINITE[np.argsort(_PATTERNS[_FINITE], kind="stable")]  # bit patterns by rising value
_ABSENT = object()


@dataclass(frozen=True)
class PixelCounts:
    """The pixels of all images. `overlap` (G,): 1 / region size, added up over a group's anomalous pixels."""

    ranking: Ranking
    overlap: np.ndarray
    n_regions: int


def count_pixels(
    pairs: Iterable[tuple[np.ndarray, np.ndarray] | None], *, ids: Sequence[str] | None = None
) -> PixelCounts:
    """Count every (map, mask) pair, both H×W or 1×H×W; sizes may differ between pairs.

    Non-zero mask pixels are anomalous; regions are their 8-connected components (as in MVTec's own evaluation
    and anomalib). None in place of a pair skips the image. `pairs` may be a generator: each map is used once
    and let go.

    Raises:
        UndefinedMetric: there is no pixel at all.
        ProjectError: shapes differ or a map is not finite; the message names index and id.
    """
    counts = _Counts()
    for index, pair in enumerate(pairs):
        if pair is None:
            continue
        where = f"at index {index}" if ids is None else f"of id '{ids[index]}'"
        anomaly_map, mask = (_plane(array, where) for array in pair)
        if anomaly_map.shape != mask.shape:
            raise ProjectError(
                f"anomaly map {where} is {anomaly_map.shape[0]}×{anomaly_map.shape[1]} but its mask is "
                f"{mask.shape[0]}×{mask.shape[1]} (height×width). Resize one to the other first."
            )
        if not np.isfinite(anomaly_map).all():
            raise ProjectError(
                f"anomaly map {where} holds NaN or infinite values. Train or predict in 32-bit precision."
            )
        counts.add(anomaly_map, mask)
    return counts.finish()


class _Counts:
    """Running totals: histograms over bit patterns for float16 maps, flat copies for the rest."""

    def __init__(self) -> None:
        self.all = np.zeros(65536, dtype=np.int64)
        self.positive = np.zeros(65536, dtype=np.int64)
        self.overlap = np.zeros(65536)
        self.n_regions = 0
        self.other_positive: list[np.ndarray] = []
        self.other_weights: list[np.ndarray] = []
        self.other_negative: list[np.ndarray] = []

    def add(self, anomaly_map: np.ndarray, mask: np.ndarray) -> None:
        if anomaly_map.dtype.kind != "f":
            anomaly_map = anomaly_map.astype(np.float64)
        anomalous = mask != 0
        positive, weights = anomaly_map[:0].ravel(), np.zeros(0)
        if anomalous.any():
            regions, weights = _region_weights(anomalous)
            self.n_regions += regions
            positive = anomaly_map[anomalous]
        if anomaly_map.dtype == np.float16:
            self.all += np.bincount(np.ascontiguousarray(anomaly_map).view(np.uint16).ravel(), minlength=65536)
            if positive.size:
                bits = positive.view(np.uint16)
                self.positive += np.bincount(bits, minlength=65536)
                self.overlap += np.bincount(bits, weights=weights, minlength=65536)
        else:
            self.other_positive.append(positive)
            self.other_weights.append(weights)
            self.other_negative.append(anomaly_map[~anomalous] if positive.size else anomaly_map.ravel().copy())

    def finish(self) -> PixelCounts:
        used = _FINITE[self.all[_FINITE] > 0]
        values, slot = np.unique(_PATTERNS[used], return_inverse=True)  # merges -0.0 and 0.0
        n = len(values)
        positives, negatives, overlap = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)
        np.add.at(positives, slot, self.positive[used])
        np.add.at(negatives, slot, self.all[used] - self.positive[used])
        np.add.at(overlap, slot, self.overlap[used])
        if self.other_negative:
            values, positives, negatives, overlap = self._merge(values, positives, negatives, overlap)
        if not positives.sum() + negatives.sum():
            raise UndefinedMetric("there are no pixels to measure: no image has both an anomaly map and a known mask.")
        return PixelCounts(Ranking(values, positives, negatives), overlap, self.n_regions)

    def _merge(
        self, values: np.ndarray, positives: np.ndarray, negatives: np.ndarray, overlap: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Add the sorted maps. Only thresholds at anomalous pixels matter: normal ones between are lumped."""
        found, weights = np.concatenate(self.other_positive), np.concatenate(self.other_weights)
        normal = np.concatenate(self.other_negative)
        self.other_negative.clear()
        common = np.result_type(found, normal)  # holds every score exactly, those of float16 maps too
        found, normal = found.astype(np.float64), normal.astype(common, copy=False)
        normal.sort()
        marks = np.unique(np.concatenate([values, found]))
        keys = marks.astype(common)
        left, right = np.searchsorted(normal, keys, "left"), np.searchsorted(normal, keys, "right")

        n = len(marks)
        at_mark = slice(1, 2 * n, 2)  # groups: gap below mark 0, mark 0, gap, mark 1, …, gap above the last
        all_values = np.full(2 * n + 1, np.nan)
        all_positives, all_negatives = np.zeros(2 * n + 1, np.int64), np.zeros(2 * n + 1, np.int64)
        all_overlap = np.zeros(2 * n + 1)
        all_values[at_mark] = marks
        all_negatives[at_mark] = right - left
        all_negatives[::2] = np.append(left, len(normal)) - np.append(0, right)
        old = 2 * np.searchsorted(marks, values) + 1
        all_positives[old] += positives
        all_negatives[old] += negatives
        all_overlap[old] += overlap
        new = 2 * np.searchsorted(marks, found) + 1
        all_positives += np.bincount(new, minlength=2 * n + 1)
        all_overlap += np.bincount(new, weights=weights, minlength=2 * n + 1)
        kept = (all_positives + all_negatives) > 0
        return all_values[kept], all_positives[kept], all_negatives[kept], all_overlap[kept]


def pixel_auroc(maps: Iterable[np.ndarray], masks: Iterable[np.ndarray]) -> float:
    """AUROC over the pixels of all maps (H×W each) together, in [0, 1].

    Raises:
        UndefinedMetric: no pixel is anomalous, or none is normal.
        ProjectError: shapes differ or a map is not finite; the message names the index.
    """
    return _pixel_auroc(count_pixels(_paired(maps, masks)))


def pixel_average_precision(maps: Iterable[np.ndarray], masks: Iterable[np.ndarray]) -> float:
    """Average precision over the pixels of all maps together, in [0, 1]. Raises as `pixel_auroc` does."""
    return _pixel_average_precision(count_pixels(_paired(maps, masks)))


def pixel_f1(maps: Iterable[np.ndarray], masks: Iterable[np.ndarray]) -> float:
    """Highest F1 of one threshold over the pixels of all maps, in [0, 1]. Raises as `pixel_auroc` does."""
    return _pixel_f1(count_pixels(_paired(maps, masks)))


def aupro(maps: Iterable[np.ndarray], masks: Iterable[np.ndarray], fpr_limit: float = 0.3) -> float:
    """Area under the per-region overlap curve up to a false positive rate, divided by that rate; in [0, 1].

    Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 4.2: at each threshold the
    share of each ground-truth region that is found, averaged over regions, against the share of normal pixels
    over the threshold. Trapezoids join the distinct thresholds, so the value does not depend on the order of
    tied pixels. `fpr_limit` is in (0, 1]. anomalib's AUPRO has the same definition, but
    answers 0 where there is no region; here that is an error.

    Raises: as `pixel_auroc` does.
    """
    return _aupro(count_pixels(_paired(maps, masks)), fpr_limit)


def _pixel_auroc(pixels: PixelCounts) -> float:
    pixels.ranking.require_both("pixel_auroc", "pixel")
    return float(auroc_of(pixels.ranking.positives, pixels.ranking.negatives))


def _pixel_average_precision(pixels: PixelCounts) -> float:
    pixels.ranking.require_both("pixel_average_precision", "pixel")
    return float(average_precision_of(pixels.ranking.positives, pixels.ranking.negatives))


def _pixel_f1(pixels: PixelCounts) -> float:
    pixels.ranking.require_both("pixel_f1", "pixel")
    return float(f1_curve(pixels.ranking.positives, pixels.ranking.negatives).max())


def _aupro(pixels: PixelCounts, fpr_limit: float = 0.3) -> float:
    if not 0 < fpr_limit <= 1:
        raise ProjectError(f"fpr_limit is {fpr_limit}; expected a rate above 0 and up to 1, usually 0.3.")
    ranking = pixels.ranking
    ranking.require_both("aupro", "pixel")
    # The curve adds a group's overlap along a straight line while the rate goes from `start` to `end`. The
    # area that this adds below the limit is closed-form, so the curve itself is never built.
    at_or_above = above(ranking.negatives)
    start, end = (at_or_above - ranking.negatives) / ranking.n_negative, at_or_above / ranking.n_negative
    whole = fpr_limit - (start + end) / 2
    part = np.square(np.maximum(fpr_limit - start, 0)) / (2 * np.where(end > start, end - start, 1))
    area = (pixels.overlap * np.where(end <= fpr_limit, whole, part)).sum() / pixels.n_regions
    return float(area / fpr_limit)


PIXEL_METRICS: dict[str, Callable[[PixelCounts], float]] = {
    "pixel_auroc": _pixel_auroc,
    "pixel_average_precision": _pixel_average_precision,
    "pixel_f1": _pixel_f1,
    "aupro": _aupro,
}


def _paired(maps: Iterable[np.ndarray], masks: Iterable[np.ndarray]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    for index, (anomaly_map, mask) in enumerate(zip_longest(maps, masks, fillvalue=_ABSENT)):
        if anomaly_map is _ABSENT or mask is _ABSENT:
            raise ProjectError(f"there must be one mask a map, but one of the two ends at index {index}.")
        yield anomaly_map, mask


def _plane(array: np.ndarray, where: str) -> np.ndarray:
    array = np.asarray(array)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise ProjectError(f"anomaly map or mask {where} has shape {array.shape}; expected height×width.")
    return array


def _region_weights(anomalous: np.ndarray) -> tuple[int, np.ndarray]:
    """(number of 8-connected regions, 1 / its region's size for each anomalous pixel in row order)."""
    import cv2

    n_labels, labels = cv2.connectedComponents(anomalous.astype(np.uint8), connectivity=8)
    region = labels[anomalous]
    sizes = np.bincount(region, minlength=n_labels)
    return n_labels - 1, 1.0 / sizes[region]
