"""What is done to a detector's boxes before they are submitted, chosen by the out-of-fold metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from src.boxes.nms import nms, soft_nms
from src.boxes.types import Detections
from src.errors import ProjectError, nearest

METHODS = ("none", "nms", "soft_nms")


@dataclass(frozen=True)
class Postprocess:
    """Suppression of a detector's own, loosely suppressed boxes.

    method: none | nms | soft_nms (Bodla et al. 2017, Gaussian). iou: overlap above which nms drops a box. sigma: width
    of soft_nms. agnostic: boxes of different classes suppress each other too.

    Raises:
        ProjectError: an unknown method.
    """

    method: str = "none"
    iou: float = 0.6
    sigma: float = 0.5
    agnostic: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ProjectError(f"postprocess method '{self.method}' is not known.{nearest(self.method, METHODS)}")

    def apply(self, found: Detections) -> Detections:
        if self.method == "nms":
            return nms(found, iou=self.iou, agnostic=self.agnostic)
        if self.method == "soft_nms":
            return soft_nms(found, sigma=self.sigma, agnostic=self.agnostic)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for metrics.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Postprocess:
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def __str__(self) -> str:
        if self.method == "none":
            return "as the detector gives them"
        detail = f"IoU {self.iou:g}" if self.method == "nms" else f"sigma {self.sigma:g}"
        return f"{self.method} ({detail}{', across classes' if self.agnostic else ''})"


CANDIDATES = (
    Postprocess(),
    *(Postprocess(method="nms", iou=iou) for iou in (0.3, 0.4, 0.5)),
    *(Postprocess(method="nms", iou=iou, agnostic=True) for iou in (0.5, 0.7, 0.85)),
    *(Postprocess(method="soft_nms", sigma=sigma) for sigma in (0.3, 0.5)),
)


def tune_postprocess(
    found: Sequence[Detections],
    value: Callable[[Sequence[Detections]], float | None],
    *,
    least_gain: float = 0.002,
) -> tuple[Postprocess, dict[str, float | None]]:
    """The candidate with the highest value, and every candidate's value.

    The detector's own answer stays unless another gains more than `least_gain`: a smaller difference is chance.

    Args:
        value: the metric of a list of detections, higher is better; None where it is undefined.
    """
    values = {str(candidate): value([candidate.apply(each) for each in found]) for candidate in CANDIDATES}
    own = values[str(CANDIDATES[0])]
    if own is None:
        return CANDIDATES[0], values
    best = max(CANDIDATES, key=lambda candidate: values[str(candidate)] or 0.0)
    return (best if (values[str(best)] or 0.0) > own + least_gain else CANDIDATES[0]), values
