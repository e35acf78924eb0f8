"""Boxes on their way into a file: which are written, in which convention, rounded to which grid."""

from typing import Any

import numpy as np

from src.boxes.types import Detections
from src.errors import ProjectError
from src.submission.formats.base import Context

CONVENTIONS = {
    "xyxy": ("x1", "y1", "x2", "y2"),
    "xywh": ("x", "y", "w", "h"),
    "cxcywh": ("cx", "cy", "w", "h"),
}


def to_convention(boxes: np.ndarray, convention: str) -> np.ndarray:
    """(N, 4) xyxy → the convention's numbers."""
    low, high = boxes[:, :2], boxes[:, 2:]
    if convention == "xywh":
        return np.hstack([low, high - low])
    return np.hstack([(low + high) / 2, high - low]) if convention == "cxcywh" else boxes


def from_convention(numbers: np.ndarray, convention: str) -> np.ndarray:
    """(N, 4) of the convention's numbers → xyxy."""
    first, second = numbers[:, :2], numbers[:, 2:]
    if convention == "xywh":
        return np.hstack([first, first + second])
    return np.hstack([first - second / 2, first + second / 2]) if convention == "cxcywh" else numbers


def kept(image_id: str, value: Any, context: Context) -> Detections:
    """The detections that are written: at or above the threshold and `min_score`, best first, inside the image.

    Raises:
        ProjectError: the value is no Detections, or a score lies outside [0, 1].
    """
    if not isinstance(value, Detections):
        raise ProjectError(
            f"the format '{context.spec.format}' needs the detections of each image, and '{image_id}' has "
            f"{type(value).__name__}. Give src.boxes.types.Detections."
        )
    wrong = (value.scores < 0) | (value.scores > 1)
    if wrong.any():
        raise ProjectError(
            f"the image '{image_id}' has a box with the score {value.scores[wrong][0]:g}, outside [0, 1]: scores of "
            "several models that are added up must be divided by their weights."
        )
    floor = max(context.option("min_score"), -np.inf if context.threshold is None else context.threshold)
    found = value.select(np.flatnonzero(value.scores >= floor))
    found = found.select(np.argsort(-found.scores, kind="stable"))
    size = context.sizes.get(image_id)
    if size is None:
        return found
    limits = np.array([*size, *size], dtype=np.float64)
    return Detections(np.clip(found.boxes, 0, limits), found.scores, found.labels, found.masks)


def unit_of(image_id: str, context: Context) -> np.ndarray:
    """(4,) pixels to a unit of the file: 1, or the image's width and height where coordinates are normalised."""
    if not context.option("normalized"):
        return np.ones(4)
    size = context.sizes.get(image_id)
    if size is None:
        raise ProjectError(f"normalised boxes need the size of each image, and that of '{image_id}' is not known.")
    return np.array([*size, *size], dtype=np.float64)


def on_grid(
    found: Detections, unit: np.ndarray, decimals: int | None, *, limit: int | None
) -> tuple[Detections, np.ndarray]:
    """The first `limit` detections with an area, and their (N, 4) xyxy corners in the file's unit, rounded.

    A box that rounding would leave without area is rounded outwards instead.
    """
    boxes = found.boxes / unit
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    chosen = np.flatnonzero(solid)[:limit]
    found, boxes = found.select(chosen), boxes[chosen]
    if decimals is None:
        return found, boxes
    scale = 10.0**decimals
    rounded = np.round(boxes * scale)
    thin = np.tile(rounded[:, 2:] <= rounded[:, :2], 2)
    outwards = np.hstack([np.floor(boxes[:, :2] * scale), np.ceil(boxes[:, 2:] * scale)])
    return found, np.where(thin, outwards, rounded) / scale
