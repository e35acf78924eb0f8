"""Where a picture lands on the model's canvas (squash, letterbox, crop), and the way back to its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from src.data.transforms import PreprocessSpec

RESIZE_MODES = ("squash", "letterbox", "crop")


@dataclass(frozen=True)
class Placement:
    """A picture resized to `scaled_height`×`scaled_width`, its corner at (`top`, `left`) of the canvas.

    Offsets are canvas pixels: positive is padding (letterbox), negative is what was cut away (crop).
    """

    scaled_height: int
    scaled_width: int
    top: int
    left: int


def place(original_size: tuple[int, int], spec: PreprocessSpec) -> Placement:
    """The placement of a picture of `original_size` (height, width) under `spec`.

    `squash` fills the canvas and gives up the aspect ratio; `letterbox` keeps all of the picture and pads,
    centred; `crop` covers the canvas and cuts the middle out, rounding as torchvision's Resize + CenterCrop
    do.
    """
    height, width = original_size
    if spec.resize == "squash":
        return Placement(spec.height, spec.width, 0, 0)
    if spec.resize == "letterbox":
        scale = min(spec.height / height, spec.width / width)
        scaled_height = min(spec.height, max(1, round(height * scale)))
        scaled_width = min(spec.width, max(1, round(width * scale)))
        return Placement(
            scaled_height, scaled_width, (spec.height - scaled_height) // 2, (spec.width - scaled_width) // 2
        )
    if spec.height * width >= spec.width * height:  # the height is the tighter side
        scaled_height, scaled_width = spec.height, max(spec.width, int(spec.height * width / height))
    else:
        scaled_height, scaled_width = max(spec.height, int(spec.width * height / width)), spec.width
    top, left = -round((scaled_height - spec.height) / 2), -round((scaled_width - spec.width) / 2)
    return Placement(scaled_height, scaled_width, top, left)


def lay_out(scaled: np.ndarray, placement: Placement, canvas: tuple[int, int], fill: object) -> np.ndarray:
    """Pad or cut a picture of the placement's size, H×W or H×W×C, to `canvas` (height, width)."""
    if scaled.shape[:2] == canvas:
        return scaled
    source_top, source_left = max(0, -placement.top), max(0, -placement.left)
    top, left = max(0, placement.top), max(0, placement.left)
    height = min(canvas[0] - top, scaled.shape[0] - source_top)
    width = min(canvas[1] - left, scaled.shape[1] - source_left)
    out = np.empty((*canvas, *scaled.shape[2:]), scaled.dtype)
    out[:] = fill
    out[top : top + height, left : left + width] = scaled[
        source_top : source_top + height, source_left : source_left + width
    ]
    return out


def boxes_to_original(boxes: np.ndarray, original_size: tuple[int, int], spec: PreprocessSpec) -> np.ndarray:
    """Boxes N×4 xyxy in canvas pixels → xyxy in pixels of the original picture, clipped to it. float64."""
    placement = place(original_size, spec)
    height, width = original_size
    offset = np.array([placement.left, placement.top] * 2, dtype=np.float64)
    scale = np.array([width / placement.scaled_width, height / placement.scaled_height] * 2)
    moved = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) - offset) * scale
    return np.clip(moved, 0, np.array([width, height] * 2))


def boxes_to_canvas(boxes: np.ndarray, original_size: tuple[int, int], spec: PreprocessSpec) -> np.ndarray:
    """Boxes N×4 xyxy in pixels of a picture of `original_size` (height, width) → canvas pixels. float64.

    The inverse of `boxes_to_original`, but not clipped: under `crop` a box may reach over the canvas or lie
    outside of it.
    """
    placement = place(original_size, spec)
    height, width = original_size
    scale = np.array([placement.scaled_width / width, placement.scaled_height / height] * 2)
    offset = np.array([placement.left, placement.top] * 2, dtype=np.float64)
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale + offset


def map_to_original(values: np.ndarray, original_size: tuple[int, int], spec: PreprocessSpec) -> np.ndarray:
    """A map on the canvas (H×W float, any resolution of it) → float32 map of `original_size`, bilinear.

    Padding is cut off. What `crop` cut away was never seen: it gets the map's minimum.
    """
    canvas = np.asarray(values, dtype=np.float32)
    height, width = original_size
    if spec.resize == "squash":
        return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_LINEAR)
    if canvas.shape != (spec.height, spec.width):
        canvas = cv2.resize(canvas, (spec.width, spec.height), interpolation=cv2.INTER_LINEAR)
    placed = place(original_size, spec)
    if spec.resize == "letterbox":
        bottom, right = placed.top + placed.scaled_height, placed.left + placed.scaled_width
        seen = np.ascontiguousarray(canvas[placed.top : bottom, placed.left : right])
        return cv2.resize(seen, (width, height), interpolation=cv2.INTER_LINEAR)
    top, bottom = (round((edge - placed.top) * height / placed.scaled_height) for edge in (0, spec.height))
    left, right = (round((edge - placed.left) * width / placed.scaled_width) for edge in (0, spec.width))
    out = np.full(original_size, canvas.min(), dtype=np.float32)
    seen = cv2.resize(canvas, (max(1, right - left), max(1, bottom - top)), interpolation=cv2.INTER_LINEAR)
    region = out[top : top + seen.shape[0], left : left + seen.shape[1]]
    region[:] = seen[: region.shape[0], : region.shape[1]]
    return out
