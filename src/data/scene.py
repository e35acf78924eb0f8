"""A picture on the canvas with its objects: what box-safe augmentation takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

MIN_VISIBLE = 0.25  # an object of which less than this share is left in view is no target any more
MIN_SIDE = 2.0  # canvas pixels: below, there is nothing of the object to see


@dataclass(frozen=True)
class Scene:
    """`image` H×W×3 uint8; `boxes` (N, 4) float32 xyxy canvas pixels; `labels` (N,) int64.

    `visible` (N,) float32: the share of each object's own box that is still in view, which crops and erased
    patches lower together. `tags` (K,) int64: classes known to be in the picture apart from the boxes.
    `region`: x1, y1, x2, y2 of what is picture and not padding, whole canvas pixels.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    visible: np.ndarray
    tags: np.ndarray
    region: tuple[int, int, int, int]


def cut_boxes(
    boxes: np.ndarray,
    visible: np.ndarray,
    width: float,
    height: float,
    *,
    min_visible: float = MIN_VISIBLE,
    min_side: float = MIN_SIDE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clip boxes to a canvas: (N, 4) clipped boxes, (N,) what is visible of them now, (N,) bool which stay.

    A box goes where less than `min_visible` of its object is in view, or less than `min_side` pixels of a
    side. Then pixels of an object without a box may remain at the edge, as in every detector's crops: asking
    for the object would teach guessing. 0 keeps whatever has an area.
    """
    clipped = np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))
    before = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    sides = clipped[:, 2:] - clipped[:, :2]
    share = np.divide(sides[:, 0] * sides[:, 1], before, out=np.zeros_like(before), where=before > 0)
    left = (visible * share).astype(np.float32)
    return clipped, left, (left > 0) & (left >= min_visible) & (sides.min(axis=1) >= min_side)


def scale_range(scale: Sequence[float]) -> tuple[float, float]:
    """A checked (low, high). Raises ValueError."""
    values = [float(v) for v in scale] if isinstance(scale, Sequence) and not isinstance(scale, str) else []
    if len(values) != 2 or not 0.05 <= values[0] <= values[1] <= 4:
        raise ValueError(f"scale must be [low, high], 0.05 ≤ low ≤ high ≤ 4, not {scale!r}")
    return values[0], values[1]


def paste(
    canvas: np.ndarray, picture: np.ndarray, target: tuple[int, int, int, int], *, nearest: bool = False
) -> np.ndarray:
    """Draw `picture` stretched to `target` (left, top, width, height; may reach over) into `canvas`, in place.

    Bilinear down to half the size, where aliasing is slight and OpenCV's averages are several times slower;
    averages below.
    """
    left, top, width, height = target
    x1, y1, x2, y2 = max(0, left), max(0, top), min(canvas.shape[1], left + width), min(canvas.shape[0], top + height)
    if x1 >= x2 or y1 >= y2:
        return canvas
    if (width, height) != picture.shape[1::-1]:
        halved = 2 * width <= picture.shape[1] or 2 * height <= picture.shape[0]
        kind = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA if halved else cv2.INTER_LINEAR
        picture = cv2.resize(picture, (width, height), interpolation=kind)
    canvas[y1:y2, x1:x2] = picture[y1 - top : y2 - top, x1 - left : x2 - left]
    return canvas


def plain_canvas(shape: tuple[int, ...], fill: Sequence[int]) -> np.ndarray:
    """A picture H×W×3 uint8 of one colour."""
    out = np.empty(shape, np.uint8)
    out.reshape(shape[0], -1)[:] = np.tile(np.array(fill, np.uint8), shape[1])  # whole lines: pixelwise is slow
    return out
