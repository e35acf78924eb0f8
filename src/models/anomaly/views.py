"""Test-time augmentation of anomaly networks: mirrored, turned, rescaled views; their maps, turned back, averaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import ProjectError, nearest
from src.models.anomaly.output import AnomalyOutput

_KEYS = ("flip", "rot90", "scales")
_OTHER_TASKS = ("iou",)  # the `tta` section is shared; what fuses boxes says nothing to a map
_LEAST_SIDE = 64  # pixels of a rescaled view: below, filters and smoothing no longer fit into the picture
_STEP = 32  # of a network that names no strides

Inverse = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Views:
    """Which views of a picture are looked at; the picture as it is counts as scale 1.

    flip: also mirrored left to right. rot90: in the four quarter turns. Both together are the eight views of the
    square's symmetry group (top-down mirroring among them). scales: of both sides; each brings all those views.
    The eight also cancel what strided convolutions displace a map by: on even sizes their windows are off centre, the
    same way at every stride. `flip` alone cancels the horizontal part.

    Raises:
        ProjectError: a value that is not usable; names the key of the `tta` section.
    """

    flip: bool = False
    rot90: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name in ("flip", "rot90"):
            if not isinstance(getattr(self, name), bool):
                raise ProjectError(f"tta.{name} must be true or false, not {getattr(self, name)!r}")
        if isinstance(self.scales, str) or not isinstance(self.scales, Sequence):
            raise ProjectError(f"tta.scales must be a list of numbers such as [1.0, 1.25], not {self.scales!r}")
        if not self.scales:
            raise ProjectError("tta.scales is empty; [1.0] looks at the pictures as they are")
        for scale in self.scales:
            if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0.25 <= scale <= 4:
                raise ProjectError(f"tta.scales must be numbers from 0.25 to 4, not {scale!r}")
        object.__setattr__(self, "scales", tuple(dict.fromkeys(float(scale) for scale in self.scales)))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Views | None:
        """The `tta` section; None where it asks for nothing but the picture as it is.

        Raises:
            ProjectError: an unknown key, or a value that is not usable.
        """
        for key in config:
            if key not in (*_KEYS, *_OTHER_TASKS):
                raise ProjectError(f"tta.{key} is not known.{nearest(key, _KEYS)} Known: {', '.join(_KEYS)}.")
        views = cls(**{key: config[key] for key in _KEYS if key in config})
        return None if len(views) == 1 and views.scales == (1.0,) else views

    def __len__(self) -> int:
        """How often the network runs for a batch."""
        return len(self.scales) * (2 if self.flip else 1) * (4 if self.rot90 else 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints; `from_config` reads them back."""
        return {"flip": self.flip, "rot90": self.rot90, "scales": list(self.scales)}


@torch.no_grad()
def predict_views(network: nn.Module, images: Tensor, views: Views) -> AnomalyOutput:
    """A network's answers for `images` (B×3×H×W, normalised), averaged over their views.

    Maps are brought back pixel for pixel (flips and turns are exact; a rescaled view's map is resized to H×W with
    pixel centres aligned) and then averaged; so are the scores, and the probabilities after their softmax.

    A scale other than 1 needs a network that says `any_size = True`: its answers must not depend on the size of the
    pictures that it was fitted on.

    Raises:
        ProjectError: quarter turns of pictures that are not square; a scale that the network or the size of the
            pictures does not allow. The message names the key of `tta`.
    """
    check_views(network, (images.shape[2], images.shape[3]), views)
    total: list[Tensor | None] | None = None
    for view, back in _views(images, views, step=_step(network)):
        output = _look(network, view, rescaled=view.shape != images.shape)
        plane = None if output.anomaly_map is None else back(output.anomaly_map.float())
        found = [output.score.float(), plane, None if output.probs is None else output.probs.float()]
        total = found if total is None else [_add(a, b) for a, b in zip(total, found, strict=True)]
    assert total is not None  # there is at least one scale
    return AnomalyOutput(*(None if part is None else part / len(views) for part in total))


def check_views(network: nn.Module, image_size: tuple[int, int], views: Views) -> None:
    """Refuse views that pictures of (height, width) or the network do not allow, before anything runs.

    Raises:
        ProjectError: as `predict_views`.
    """
    height, width = image_size
    if views.rot90 and height != width:
        raise ProjectError(
            f"tta.rot90 turns pictures by 90°, which only a square input allows, but this model's is {height}×{width} "
            "pixels: train with a square model.image_size, or leave tta.rot90 false."
        )
    others = [scale for scale in views.scales if scale != 1]
    if others and not getattr(network, "any_size", False):
        raise ProjectError(
            f"tta.scales={list(views.scales)}: {type(network).__name__} takes pictures of {height}×{width} pixels "
            "only, the size that it was fitted on. Leave tta.scales at [1.0]; tta.flip works with it, and tta.rot90 "
            "with a square input."
        )
    sizes = {(height, width): 1.0}
    for scale in others:
        size = scaled_size(image_size, scale, step=_step(network))
        if min(size) < _LEAST_SIDE:
            raise ProjectError(
                f"tta.scales: {scale:g} of {height}×{width} pixels is {size[0]}×{size[1]}, but a view has at least "
                f"{_LEAST_SIDE} pixels a side. Choose a larger scale."
            )
        if size in sizes:
            raise ProjectError(
                f"tta.scales: {scale:g} and {sizes[size]:g} of {height}×{width} pixels are both {size[0]}×{size[1]}, "
                f"for sides are whole multiples of {_step(network)}. Leave one of them out, or choose it farther off."
            )
        sizes[size] = scale


def scaled_size(image_size: tuple[int, int], scale: float, *, step: int) -> tuple[int, int]:
    """(height, width) × scale, at the nearest multiples of `step` pixels: a feature map then covers the whole view."""
    height, width = (max(step, round(side * scale / step) * step) for side in image_size)
    return height, width


def _views(images: Tensor, views: Views, *, step: int) -> Iterator[tuple[Tensor, Inverse]]:
    """Each view of B×3×H×W, with the way back for maps B×1×h×w of that view."""
    size = (images.shape[2], images.shape[3])
    for scale in views.scales:
        scaled = images if scale == 1 else resize(images, scaled_size(size, scale, step=step))
        for mirrored in (False, True) if views.flip else (False,):
            for turns in range(4 if views.rot90 else 1):
                view = scaled.flip(3) if mirrored else scaled
                yield torch.rot90(view, turns, (2, 3)), _way_back(size, mirrored=mirrored, turns=turns)


def _way_back(size: tuple[int, int], *, mirrored: bool, turns: int) -> Inverse:
    def back(maps: Tensor) -> Tensor:
        straight = torch.rot90(maps, -turns, (2, 3))
        return resize(straight.flip(3) if mirrored else straight, size)

    return back


def resize(values: Tensor, size: tuple[int, int]) -> Tensor:
    """B×C×h×w → B×C×H×W, bilinear and antialiased; the centres of the pictures, not of their corner pixels, stay."""
    if tuple(values.shape[2:]) == tuple(size):
        return values
    return F.interpolate(values, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)


def _step(network: nn.Module) -> int:
    """What the sides of a rescaled view are multiples of: every layer's stride, where the network names them."""
    strides = getattr(getattr(network, "features", None), "strides", None)
    return math.lcm(*strides) if strides else int(getattr(network, "stride", _STEP))


def _look(network: nn.Module, view: Tensor, *, rescaled: bool) -> AnomalyOutput:
    try:
        return network(view)
    except ProjectError as error:
        if not rescaled:
            raise
        size = f"{view.shape[2]}×{view.shape[3]}"
        raise ProjectError(f"tta.scales: a view of {size} pixels is refused. {error}") from error


def _add(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    return None if total is None or part is None else total + part
