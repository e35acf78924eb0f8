"""The search for each class's count rule: thresholds from loss curves, the other parameters by coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from src.boxes.class_rule import ClassRule
from src.boxes.count_curves import ClassBoxes, plateau

# What is tried beside the score threshold; the first of each leaves boxes alone.
OPTIONS: dict[str, tuple[float | None, ...]] = {
    "nms_iou": (None, 0.7, 0.6, 0.5, 0.4, 0.3),
    "max_area": (1.0, 0.8, 0.6, 0.4, 0.25),
    "min_area": (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.005),
}
PRIOR_OBJECTS = 15.0  # a class of so many objects weighs its own losses as much as those of all classes


@dataclass(frozen=True)
class Search:
    """What all searches over the same boxes share: the loss, G thresholds, and S subsets of images (S, N)."""

    parts: Sequence[ClassBoxes]
    loss: Callable[[np.ndarray], np.ndarray]
    grid: np.ndarray
    subsets: np.ndarray

    def rules(self, subset: int) -> list[ClassRule]:
        """A rule for each class, tuned on one subset of the images.

        First one rule for all classes together; each class then starts from it and leaves it where its own
        objects, added to a share of the common loss worth PRIOR_OBJECTS of them, say so. Classes with few objects
        thereby keep to the common rule.
        """
        objects = np.array([float(self.subsets[subset] @ part.truth) for part in self.parts])

        def pooled(rule: ClassRule) -> np.ndarray:
            return sum(self._curve(part, rule, subset) for part in self.parts)

        common = self._climb(ClassRule(), pooled)
        prior = PRIOR_OBJECTS * pooled(common) / max(objects.sum(), 1.0)
        if len(self.parts) == 1:
            return [common]
        return [
            self._climb(common, lambda rule, part=part: self._curve(part, rule, subset) + prior) for part in self.parts
        ]

    def _curve(self, part: ClassBoxes, rule: ClassRule, subset: int) -> np.ndarray:
        return part.curve(rule, self.loss, self.grid, self.subsets)[subset]

    def _climb(
        self,
        start: ClassRule,
        losses: Callable[[ClassRule], np.ndarray],
    ) -> ClassRule:
        """From a rule, one parameter after another to what is clearly better, until none is."""
        best = start
        lowest = float(losses(best).min())
        for _ in range(2):
            before = best
            for name, options in OPTIONS.items():
                tried = [replace(best, **{name: option}) for option in options]
                found = [float(losses(rule).min()) for rule in tried]
                place = int(np.argmin(found))
                if found[place] < lowest - _tolerance(lowest):
                    best, lowest = tried[place], found[place]
            if best == before:
                break
        return replace(best, threshold=plateau(self.grid, losses(best), _tolerance(lowest)))


def _tolerance(loss: float) -> float:
    """A difference in summed loss that chance brings about: one cell, more where many cells are wrong."""
    return 0.5 + 0.1 * float(np.sqrt(max(loss, 0.0)))
