"""Metrics of masks at every threshold of anomaly maps, exactly, in one pass over the maps.

A float32 pixel is counted by the upper 20 bits of its pattern, in the order of the numbers: 2^20 bins, each holding
values that differ by less than one part in 2,000. A threshold at the lower edge of a bin is a float32 number, and
`pixel >= threshold` then holds for the bins from it up and for no other pixel: the counts are those of the decision
itself, at over 2,000 thresholds an octave, whatever the scale of the maps. float16 maps lose nothing.
"""

import numpy as np

from src.errors import ProjectError

_DROPPED = 12  # bits of a float32 that are not counted by
_SIGN = np.uint32(1 << 31)
BINS = 1 << (32 - _DROPPED)
GROUPS = 5  # of images, for cross-validation


def bins_of(values: np.ndarray) -> np.ndarray:
    """The bin of each finite value, int64, rising with the values."""
    bits = (np.asarray(values, dtype=np.float32) + np.float32(0)).ravel().view(np.uint32)  # + 0: one zero, not two
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered >> _DROPPED).astype(np.int64)


def lower_edges(index: np.ndarray) -> np.ndarray:
    """The smallest value of each bin, (N,) float32."""
    ordered = (np.asarray(index, dtype=np.int64) << _DROPPED).astype(np.uint32)
    return np.where(ordered & _SIGN, ordered & ~_SIGN, ~ordered).view(np.float32)


class PixelCurves:
    """Counts and mean-per-image metrics at every threshold, kept apart for `GROUPS` groups of images.

    Images with anomalous pixels and images without are dealt to the groups in turn, so that each has its share of
    both. For `dice` and `iou` the curves of the images are added up, since a mean over images is not a function of
    pooled counts.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.pooled = metric == "seg_f1"
        self.members: list[int] = []  # the group of each image
        self.images = np.zeros(GROUPS, dtype=np.int64)
        self.anomalous = np.zeros(GROUPS, dtype=np.int64)
        self.hits = np.zeros((GROUPS, BINS + 1), dtype=np.int64) if self.pooled else None
        self.called = np.zeros((GROUPS, BINS + 1), dtype=np.int64) if self.pooled else None
        self.steps = None if self.pooled else np.zeros((GROUPS, BINS + 1))  # differences between neighbouring bins
        self.true = np.zeros(GROUPS, dtype=np.int64)
        self.seen = np.zeros(BINS, dtype=bool)

    def add(self, plane: np.ndarray, mask: np.ndarray) -> None:
        """Count one (H, W) map and its mask.

        Raises:
            ProjectError: shapes differ or the map is not finite; the message names the index.
        """
        where, anomalous = f"at index {len(self.members)}", np.asarray(mask) != 0
        plane = checked_plane(plane, where)
        if plane.shape != anomalous.shape:
            raise ProjectError(
                f"the anomaly map {where} is {plane.shape[0]}×{plane.shape[1]}, and its mask {anomalous.shape[0]}×"
                f"{anomalous.shape[1]} (height×width). Bring the map to the original image first."
            )
        index = bins_of(plane)
        low, high = int(index.min()), int(index.max())
        here = index - low
        called = np.bincount(here, minlength=high - low + 1)
        hits = np.bincount(here[anomalous.ravel()], minlength=high - low + 1)
        true = int(hits.sum())
        of = (self.anomalous if true else self.images - self.anomalous).sum() % GROUPS
        self.members.append(int(of))
        self.images[of] += 1
        self.anomalous[of] += true > 0
        self.true[of] += true
        self.seen[low : high + 1] |= called > 0
        if self.pooled:
            self.hits[of, low : high + 1] += hits
            self.called[of, low : high + 1] += called
        else:
            self._add_curve(int(of), low, hits, called, true)

    def _add_curve(self, of: int, low: int, hits: np.ndarray, called: np.ndarray, true: int) -> None:
        from src.metrics.masks import dice_of, iou_of

        at = dice_of if self.metric == "dice" else iou_of
        above = [np.append(np.cumsum(part[::-1])[::-1], 0) for part in (hits, called)]  # the last: nothing is called
        curve = at(*above, np.full(len(hits) + 1, true))
        self.steps[of, 0] += curve[0]  # the image's lowest bin and all below it call every pixel
        self.steps[of, low + 1 : low + 1 + len(hits)] += np.diff(curve)

    def values(self, groups: np.ndarray, marks: np.ndarray) -> np.ndarray:
        """(M,) metric of the images of `groups` (bool, (GROUPS,)) when the pixels of bins `marks` and up are called."""
        low = int(marks[0])
        if not self.pooled:
            first = self.steps[groups, : low + 1].sum()
            later = np.cumsum(self.steps[groups, low + 1 : marks[-1] + 1].sum(axis=0))
            return (first + np.append(0.0, later)[marks - low]) / max(int(self.images[groups].sum()), 1)
        hits, called = (
            np.cumsum(part[groups, low : marks[-1] + 1].sum(axis=0)[::-1])[::-1][marks - low]
            for part in (self.hits, self.called)
        )
        return 2.0 * hits / np.maximum(called + self.true[groups].sum(), 1)

    def best(self, groups: np.ndarray | None = None) -> tuple[float, float]:
        """(threshold, its metric): of equally good thresholds one in the widest gap between pixels' bins."""
        used = np.flatnonzero(self.seen)  # thresholds between these differ in nothing
        marks = np.append(used, used[-1] + 1)
        at = self.values(np.ones(GROUPS, bool) if groups is None else groups, marks)
        edges, ends = (lower_edges(marks[:-1] + step).astype(np.float64) for step in (0, 1))
        gaps = np.concatenate([[0.0], edges[1:] - ends[:-1], [0.0]])
        good = at >= at.max() - 1e-12
        chosen = int(np.argmax(np.where(good, gaps, -1.0)))
        if chosen == len(edges):
            threshold = float(ends[-1])  # above every pixel
        elif gaps[chosen] <= 0:
            threshold = float(edges[chosen])
        else:
            threshold = float(np.float32((ends[chosen - 1] + edges[chosen]) / 2))
        return threshold, float(at[chosen])


def checked_plane(plane: np.ndarray, where: str) -> np.ndarray:
    """The map as float32 (H, W); ProjectError where it is no plane, or not finite."""
    plane = np.asarray(plane, dtype=np.float32)
    if plane.ndim != 2 or not plane.size:
        raise ProjectError(f"the anomaly map {where} has the shape {plane.shape}; expected (height, width).")
    if not np.isfinite(plane).all():
        raise ProjectError(f"the anomaly map {where} holds NaN or infinite values. Predict in 32-bit precision.")
    return plane
