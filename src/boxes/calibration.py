"""Scores as probabilities: how often a detection of such a score is right, learned from out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.boxes.types import Detections, Truth
from src.errors import ProjectError
from src.metrics.detection import check_pairs
from src.metrics.matching import match_boxes

_FEWEST = 20  # right and wrong detections, each, for a curve of one class's own
_ENOUGH_FOR_STEPS = 1000  # detections for an isotonic curve; fewer get two parameters
_EDGE = 1e-6


@dataclass(frozen=True)
class Curve:
    """A rising function of a score: straight lines between the corners (x, y), level outside them."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return np.interp(scores, self.x, self.y)


@dataclass(frozen=True)
class ScoreCalibration:
    """Score → probability that the detection is right at IoU 0.5: a curve each class, where None the pooled one,
    and where that is None too the score itself.

    Order within a class is kept (equal probabilities keep a trace of the score), so its average precision is too.
    """

    pooled: Curve | None
    curves: tuple[Curve | None, ...]

    @classmethod
    def fit(
        cls, predictions: Sequence[Detections], truth: Sequence[Truth], n_classes: int, *, iou: float = 0.5
    ) -> ScoreCalibration:
        """Learned from out-of-fold detections matched to objects (COCO's greedy rule; those on ignored regions are
        left out).

        A curve is isotonic where there are many detections (Zadrozny and Elkan, 2002), a logistic function of the
        score's logit where there are fewer (Platt, 1999, with his smoothed targets); a class with fewer than 20
        right or 20 wrong detections takes the curve of all classes together.

        Raises:
            ProjectError: predictions and truth differ in number, or a label is not one of `n_classes`.
        """
        check_pairs(predictions, truth, n_classes)
        matches = match_boxes(predictions, truth, n_classes=n_classes, iou=iou, limit=None)
        known = ~matches.ignored
        scores, right, labels = matches.scores[known], matches.right[known], matches.labels[known]
        curves = [_curve(scores[labels == label], right[labels == label]) for label in range(n_classes)]
        return cls(_curve(scores, right), tuple(curves))

    def apply(self, det: Detections) -> Detections:
        """The detections, in their order, with probabilities in [0, 1] for scores.

        Raises:
            ProjectError: a label is none of the classes that were calibrated.
        """
        if len(det) and not 0 <= int(det.labels.min()) <= int(det.labels.max()) < len(self.curves):
            raise ProjectError(
                f"a detection has label {int(det.labels.max())}, but {len(self.curves)} classes were calibrated. "
                "Calibrate the predictions of the run that made them."
            )
        scores = det.scores.copy()
        for label in np.unique(det.labels):
            curve, mine = self.curves[label] or self.pooled, det.labels == label
            if curve is not None:
                scores[mine] = curve(det.scores[mine])
        return Detections(det.boxes, np.clip(scores, 0.0, 1.0), det.labels, det.masks)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {"pooled": _plain(self.pooled), "curves": [_plain(curve) for curve in self.curves]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScoreCalibration:
        """The calibration that `to_dict` wrote.

        Raises:
            ProjectError: an entry is missing or not usable.
        """
        try:
            return cls(_read(values["pooled"]), tuple(_read(curve) for curve in values["curves"]))
        except (KeyError, TypeError) as error:
            raise ProjectError(f"the recorded score calibration cannot be read ({error}). Fit it again.") from error


def _curve(scores: np.ndarray, right: np.ndarray) -> Curve | None:
    n_right = int(right.sum())
    if min(n_right, len(right) - n_right) < _FEWEST:
        return None
    x, y = _isotonic(scores, right) if len(scores) >= _ENOUGH_FOR_STEPS else _platt(scores, right)
    # Isotonic steps are level; a slight slope keeps the order of scores on them.
    y = np.clip(y, _EDGE, 1 - _EDGE) * (1 - 1e-4) + 1e-4 * (x - x[0]) / max(x[-1] - x[0], _EDGE)
    return Curve(tuple(x.tolist()), tuple(y.tolist()))


def _isotonic(scores: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners through the middles of the isotonic steps: the steps themselves would jump at single scores."""
    from sklearn.isotonic import IsotonicRegression

    steps = IsotonicRegression(y_min=0.0, y_max=1.0).fit_transform(scores, right.astype(float))
    levels, place, size = np.unique(steps, return_inverse=True, return_counts=True)
    middles = np.bincount(place, weights=scores) / size
    low, high = min(0.0, float(scores.min())), max(1.0, float(scores.max()))
    x, y = np.concatenate([[low], middles, [high]]), np.concatenate([[levels[0]], levels, [levels[-1]]])
    keep = np.append(True, np.diff(x) > 0)
    return x[keep], y[keep]


def _platt(scores: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.optimize import minimize

    n_right, n_wrong = right.sum(), (~right).sum()
    target = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    feature = _logit(scores)
    shift, scale = float(feature.mean()), float(feature.std() or 1.0)
    z = (feature - shift) / scale

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value = parameters[0] * z + parameters[1]
        wrong = 1 / (1 + np.exp(-value)) - target
        return float(np.logaddexp(0, value).sum() - target @ value), np.array([wrong @ z, wrong.sum()])

    # A falling curve would turn the ranking around: at least level.
    slope, bias = minimize(loss, np.array([1.0, 0.0]), jac=True, bounds=[(0.0, None), (None, None)]).x
    x = np.unique(np.concatenate([np.linspace(0, 1, 101), np.quantile(scores, np.linspace(0, 1, 51))]))
    return x, 1 / (1 + np.exp(-(slope * (_logit(x) - shift) / scale + bias)))


def _logit(scores: np.ndarray) -> np.ndarray:
    inside = np.clip(scores, 1e-4, 1 - 1e-4)
    return np.log(inside / (1 - inside))


def _plain(curve: Curve | None) -> dict[str, list[float]] | None:
    return None if curve is None else {"x": list(curve.x), "y": list(curve.y)}


def _read(values: Mapping[str, Any] | None) -> Curve | None:
    return None if values is None else Curve(tuple(map(float, values["x"])), tuple(map(float, values["y"])))
