"""How one class is counted: which of its boxes are objects, and a learned correction of their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from src.errors import ProjectError

# What a correction looks at, for each image and class.
FEATURES = ("count", "lower_count", "higher_count", "score_sum", "kept_score_sum", "highest_score")


@dataclass(frozen=True)
class Correction:
    """A learned number of objects in place of the number of kept boxes; whole after adding `offset`, rounded down.

    ridge: bias + weights · features (`FEATURES`). isotonic: the sum of all scores through the rising line with
    corners (x, y), which are lists of one length.
    """

    kind: Literal["ridge", "isotonic"]
    offset: float = 0.5
    bias: float = 0.0
    weights: tuple[float, ...] = ()
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("ridge", "isotonic"):
            raise ProjectError(f"a count correction is 'ridge' or 'isotonic', found '{self.kind}'.")
        for name in ("weights", "x", "y"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))

    def raw(self, features: np.ndarray) -> np.ndarray:
        """(N,) numbers of objects, 0 or more, not rounded, from (N, len(FEATURES))."""
        if self.kind == "ridge":
            return np.maximum(features @ np.array(self.weights) + self.bias, 0.0)
        return np.interp(features[:, FEATURES.index("score_sum")], self.x, self.y)

    def count(self, features: np.ndarray) -> np.ndarray:
        """(N,) int64."""
        return np.floor(self.raw(features) + self.offset).astype(np.int64)


@dataclass(frozen=True)
class ClassRule:
    """A box of the class is an object when its score is at least `threshold`, its area a share of the image from
    `min_area` to `max_area`, and no surer such box overlaps it by an IoU above `nms_iou` (null: no suppression).
    """

    threshold: float = 0.5
    nms_iou: float | None = None
    min_area: float = 0.0
    max_area: float = 1.0
    correction: Correction | None = None

    def __post_init__(self) -> None:
        numbers = {"threshold": self.threshold, "min_area": self.min_area, "max_area": self.max_area}
        numbers |= {} if self.nms_iou is None else {"nms_iou": self.nms_iou}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
                raise ProjectError(f"count rule: {name} is {value!r}; expected a number.")
        if not 0 <= self.min_area <= self.max_area or (self.nms_iou is not None and not 0 <= self.nms_iou <= 1):
            raise ProjectError(
                f"count rule: min_area {self.min_area}, max_area {self.max_area}, nms_iou {self.nms_iou}; expected "
                "0 ≤ min_area ≤ max_area and nms_iou from 0 to 1 or null."
            )

    def fits(self, shares: np.ndarray) -> np.ndarray:
        """(N,) bool: which areas, as shares of the image, are neither too small nor too large."""
        return (shares >= self.min_area) & ((shares <= self.max_area) | (self.max_area >= 1))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"correction": None if self.correction is None else _lists(asdict(self.correction))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassRule:
        """The rule that `to_dict` wrote.

        Raises:
            ProjectError: an entry is unknown, missing or not usable.
        """
        correction = values.get("correction")
        try:
            learned = None if correction is None else Correction(**correction)
            return cls(**{**values, "correction": learned})
        except TypeError as error:
            known = ", ".join(field.name for field in fields(cls))
            raise ProjectError(f"the recorded count rule cannot be read ({error}). A class has: {known}.") from error


def features_of(
    images: np.ndarray, scores: np.ndarray, candidate: np.ndarray, n_images: int, threshold: float
) -> np.ndarray:
    """(n_images, len(FEATURES)) float64 of one class's boxes, given (D,) image, score, and whether area and
    suppression leave the box in (`candidate`), whatever its score."""
    images, scores = images[candidate], scores[candidate]
    above = scores >= threshold
    highest = np.zeros(n_images)
    np.maximum.at(highest, images, scores)

    def per_image(weights: np.ndarray) -> np.ndarray:
        return np.bincount(images, weights=weights, minlength=n_images)

    return np.column_stack(
        [
            per_image(above),
            per_image(scores >= threshold / 2),
            per_image(scores >= (1 + threshold) / 2),
            per_image(scores),
            per_image(scores * above),
            highest,
        ]
    )


def _lists(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
