"""Boxes as annotators leave them → boxes that a detector can learn from, with a record of what was changed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from src.boxes.types import as_boxes

# px. A box over the border by less is clipped without a word: the rounding of six-digit shares of the side, no mistake.
ROUNDING = 0.01
# px. A box that is narrower or lower inside the picture has no area: nobody marks a thousandth of a pixel.
THINNEST = 1e-3


def clean_boxes(
    boxes: Any,
    labels: Any,
    width: int | None,
    height: int | None,
    *,
    ignored: Any = None,
    sources: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Mend or set aside the boxes of one image that lies in [0, width] × [0, height].

    Mended: corners in the wrong order are swapped; what is beyond the picture is cut off. Set aside: coordinates that
    are not finite, boxes wholly outside, without area (a side under 0.001 px once clipped), and all but the first of
    boxes that are the same to a millionth of a pixel, of one class and equally ignored.

    Args:
        boxes: (N, 4) xyxy, px. labels: (N,) class indices. ignored: (N,) flags, or None: none is.
        width, height: of the upright picture; None where it is unknown: nothing is clipped then, but below 0.
        sources: what messages call each box; None: "box 1", "box 2", …

    Returns:
        boxes (M, 4) float64, labels (M,) int64, ignored (M,) bool, in their order, and the problems: dicts of
        `source`, `index` (in the input), `problem` and `action`.
    """
    boxes = as_boxes(boxes).copy()
    labels = np.asarray(labels, dtype=np.int64).reshape(-1)
    ignored = np.zeros(len(boxes), bool) if ignored is None else np.asarray(ignored, dtype=bool).reshape(-1)
    if not len(boxes) == len(labels) == len(ignored):
        raise ValueError(f"{len(boxes)} boxes, {len(labels)} labels, {len(ignored)} ignored flags")
    limit = np.array([width if width is not None else np.inf, height if height is not None else np.inf])
    keep = np.ones(len(boxes), bool)
    problems: list[dict[str, Any]] = []
    if _fit(boxes, limit) and not _repeated(boxes, labels, ignored, keep).any():
        return boxes, labels, ignored, problems  # nearly always so, and large sets have many images

    def report(index: int, problem: str, action: str) -> None:
        source = sources[index] if sources is not None else f"box {index + 1}"
        problems.append({"source": source, "index": int(index), "problem": problem, "action": action})

    def set_aside(mask: np.ndarray, problem: str) -> None:
        for index in np.flatnonzero(mask & keep):
            report(index, f"{problem}: {shown(given[index])}", "set aside")
        keep[mask] = False

    given = boxes.copy()
    set_aside(~np.isfinite(boxes).all(axis=1), "a coordinate that is no finite number")
    boxes[~keep] = 0
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    for index in np.flatnonzero((boxes[:, :2] > boxes[:, 2:]).any(axis=1)):
        report(index, f"corners in the wrong order: {shown(given[index])}", "swapped")
    boxes = np.concatenate([low, high], axis=1)
    set_aside((high - low < THINNEST).any(axis=1), "no area")
    picture = f" (the picture is {width}×{height})" if width is not None and height is not None else ""
    inside_low, inside_high = np.clip(low, 0, limit), np.clip(high, 0, limit)
    set_aside((inside_high - inside_low < THINNEST).any(axis=1), f"outside the picture{picture}")
    beyond = np.maximum(-low, high - limit).max(axis=1, initial=-np.inf)
    for index in np.flatnonzero((beyond > ROUNDING) & keep):
        report(index, f"beyond the picture{picture}: {shown(given[index])}", "clipped")
    boxes = np.concatenate([inside_low, inside_high], axis=1)
    set_aside(_repeated(boxes, labels, ignored, keep), "the same box of the same class again")
    problems.sort(key=lambda problem: problem["index"])
    return boxes[keep], labels[keep], ignored[keep], problems


def _fit(boxes: np.ndarray, limit: np.ndarray) -> bool:
    """Whether all boxes are finite, in order, inside the picture and of some area."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return bool((low >= 0).all() and (high <= limit).all() and (high - low >= THINNEST).all() and (high < np.inf).all())


def _repeated(boxes: np.ndarray, labels: np.ndarray, ignored: np.ndarray, keep: np.ndarray) -> np.ndarray:
    seen: set[tuple] = set()
    repeated = np.zeros(len(boxes), bool)
    keys = zip(labels.tolist(), ignored.tolist(), map(tuple, np.round(boxes, 6).tolist()), strict=True)
    for index, key in enumerate(keys):
        repeated[index] = keep[index] and key in seen
        if keep[index]:
            seen.add(key)
    return repeated


def shown(box: np.ndarray) -> str:
    """A box in a message: [x1, y1, x2, y2] without needless digits."""
    return "[" + ", ".join(f"{value:.10g}" for value in box) + "]"
