"""The loss of counting one class at every score threshold at once, on which count rules are tuned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from src.boxes.class_rule import ClassRule
from src.boxes.nms import kept
from src.boxes.pairs import suppressing_pairs
from src.errors import ProjectError, nearest
from src.metrics.counting import COUNT_METRICS, TIERS
from src.metrics.matching import rank_in_group

LOWEST_NMS = 0.2  # pairs that overlap less are never looked at

# Loss of a cell whose count is off by so many; summed over cells. Lower is better for every metric.
LOSSES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "count_mae": np.abs,
    "count_rmse": np.square,
    "count_rmse_columns": np.square,
    "count_exact": lambda off: (off != 0).astype(float),
    "count_exact_image": lambda off: (off != 0).astype(float),  # cells stand in: images do not split into classes
    "count_tiered": lambda off: 1 - np.append(TIERS, 0.0)[np.minimum(np.abs(off), len(TIERS)).astype(np.int64)],
}


def loss_of(metric: str) -> Callable[[np.ndarray], np.ndarray]:
    """The loss that stands for a count metric.

    Raises:
        ProjectError: it is no count metric.
    """
    if metric not in LOSSES:
        raise ProjectError(
            f"a count rule is tuned for a count metric, and '{metric}' is none.{nearest(metric, COUNT_METRICS)} "
            f"Known: {', '.join(COUNT_METRICS)}."
        )
    return LOSSES[metric]


@dataclass
class ClassBoxes:
    """All boxes of one class over N images, surest first, with the number of objects that is true.

    images (D,) int64, scores (D,), boxes (D, 4) xyxy pixels, shares (D,) of the image's area, truth (N,) int64.
    """

    images: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    shares: np.ndarray
    truth: np.ndarray
    _pairs: tuple[np.ndarray, np.ndarray, np.ndarray] | None = field(default=None, repr=False)
    _candidates: dict[tuple, np.ndarray] = field(default_factory=dict, repr=False)
    _curves: dict[tuple, np.ndarray] = field(default_factory=dict, repr=False)

    def candidates(self, rule: ClassRule) -> np.ndarray:
        """(D,) bool: what area and suppression leave, whatever the score."""
        key = (rule.nms_iou, rule.min_area, rule.max_area)
        if key not in self._candidates:
            fits = rule.fits(self.shares)
            if rule.nms_iou is not None:
                surer, weaker, iou = self._overlaps()
                close = (iou > rule.nms_iou) & fits[surer] & fits[weaker]
                fits = fits & kept(surer[close], weaker[close], len(fits))
            self._candidates[key] = fits
        return self._candidates[key]

    def curve(
        self, rule: ClassRule, loss: Callable[[np.ndarray], np.ndarray], grid: np.ndarray, subsets: np.ndarray
    ) -> np.ndarray:
        """(S, G) summed loss over the images of each of S subsets at each of G rising thresholds.

        `subsets` is (S, N) of 0 and 1. All thresholds in one sweep: each further box changes the loss of its own
        image alone. Remembered by suppression and area: ask with the same loss, grid and subsets.
        """
        key = (rule.nms_iou, rule.min_area, rule.max_area)
        if key not in self._curves:
            candidate = self.candidates(rule)
            images, scores = self.images[candidate], self.scores[candidate]
            by_image = np.argsort(images, kind="stable")
            before = np.empty(len(images), np.int64)
            before[by_image] = rank_in_group(images[by_image])  # surer boxes of the image
            off = before - self.truth[images]
            change = loss(off + 1) - loss(off)
            none = subsets @ loss(-self.truth)
            taken = np.searchsorted(-scores, -grid, side="right")  # boxes with a score of at least the threshold
            sums = np.concatenate([np.zeros((len(subsets), 1)), np.cumsum(change * subsets[:, images], axis=1)], axis=1)
            self._curves[key] = none[:, None] + sums[:, taken]
        return self._curves[key]

    def _overlaps(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._pairs is None:
            self._pairs = suppressing_pairs(self.boxes, self.images, iou=LOWEST_NMS)
        return self._pairs


def threshold_grid(scores: np.ndarray, most: int = 1000) -> np.ndarray:
    """Rising thresholds that tell all scores apart, or `most` of their quantiles; the last one is above all."""
    values = np.unique(scores)
    if len(values) > most:
        values = np.unique(np.quantile(scores, np.linspace(0, 1, most), method="nearest"))
    if not len(values):
        return np.array([0.5])
    top = (values[-1] + max(1.0, values[-1] + 0.02)) / 2
    return np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2, [top]])


def plateau(grid: np.ndarray, losses: np.ndarray, tolerance: float) -> float:
    """The threshold in the middle of the widest run of thresholds about as good as the best.

    A threshold at the edge of a drop holds for these images alone; the middle of a plateau holds for others too.
    """
    good = losses <= losses.min() + tolerance
    edges = np.diff(np.concatenate([[0], good.astype(np.int8), [0]]))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    widest = int(np.argmax(grid[stops] - grid[starts]))
    run = slice(starts[widest], stops[widest] + 1)
    middle = (grid[starts[widest]] + grid[stops[widest]]) / 2
    return float(grid[run][np.argmin(np.abs(grid[run] - middle))])
