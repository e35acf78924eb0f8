"""Large images in overlapping windows, and the boxes of the windows as boxes of the image, each object once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from src.boxes.pairs import suppressing_pairs
from src.boxes.types import Detections
from src.errors import ProjectError


def tile_windows(width: int, height: int, *, size: int, overlap: float) -> np.ndarray:
    """(T, 4) int64 windows x1, y1, x2, y2 that cover an image, row by row.

    size: side of a window in pixels; an image that is smaller has one window, itself. overlap: share of the side
    that neighbours have in common at least, in [0, 1); they are spread evenly, so that none leaves the image.
    An object smaller than overlap × size is whole in some window.

    Raises:
        ProjectError: a side below 1, or an overlap outside [0, 1).
    """
    if min(width, height, size) < 1 or not 0 <= overlap < 1:
        raise ProjectError(
            f"tiles of an image {width}×{height} with size={size}, overlap={overlap}: expected sides of at least one "
            "pixel and an overlap from 0 to below 1, such as 0.2."
        )
    rows, columns = _starts(height, size, overlap), _starts(width, size, overlap)
    windows = [(x, y, min(x + size, width), min(y + size, height)) for y in rows for x in columns]
    return np.array(windows, dtype=np.int64)


def merge_tiles(
    parts: Sequence[tuple[Sequence[int], Detections]],
    *,
    width: int,
    height: int,
    iou: float = 0.5,
    inside: float = 0.8,
    edge: float = 2.0,
) -> Detections:
    """The detections of (window, detections in the window's coordinates) as detections of the image, surest first.

    A window's edge cuts objects, and the piece is a detection too, though a neighbouring window may see the whole.
    So two boxes of one class are compared only within what both windows see: one object when they overlap there by
    an IoU above `iou`, or, if one is cut (it ends within `edge` pixels of an inner edge of its window), by more than
    `inside` of the smaller. Windows without common area are compared along their common edge. What agrees most is
    joined first, and never two boxes of one window: to suppress those is the detector's part.

    Of a joined object the surest box that no edge cuts is taken, or the box around all its pieces; its score is the
    highest. Masks are dropped: a piece's mask is not the object's.

    Raises:
        ProjectError: a window is not inside the image.
    """
    frames = np.array([window for window, _ in parts], dtype=np.float64).reshape(-1, 4)
    limits = np.array([width, height, width, height], dtype=np.float64)
    if (frames < 0).any() or (frames > limits).any() or (frames[:, :2] >= frames[:, 2:]).any():
        raise ProjectError(
            f"a window lies outside the image of {width}×{height} pixels: {frames.astype(int).tolist()}."
        )
    every = Detections.concatenate([Detections(det.boxes, det.scores, det.labels) for _, det in parts])
    source = np.repeat(np.arange(len(parts)), [len(det) for _, det in parts])
    if not len(every):
        return every
    own = frames[source]
    boxes = np.clip(every.boxes + own[:, [0, 1, 0, 1]], own[:, [0, 1, 0, 1]], own[:, [2, 3, 2, 3]])
    inner = np.column_stack([own[:, :2] > 0, own[:, 2:] < limits[2:]])
    cut = inner & (np.abs(boxes - own) <= edge)

    groups = _joined(_agreements(boxes, every.labels, source, cut, frames, iou, inside, edge), source)
    whole = ~cut.any(axis=1)
    found, scores, labels = [], [], []
    for group in groups:
        members = np.array(group)
        uncut = members[whole[members]]
        if len(uncut):
            found.append(boxes[uncut[np.argmax(every.scores[uncut])]])
        else:
            found.append(np.concatenate([boxes[members, :2].min(axis=0), boxes[members, 2:].max(axis=0)]))
        scores.append(every.scores[members].max())
        labels.append(every.labels[members[0]])
    order = np.argsort(-np.array(scores), kind="stable")
    return Detections(np.array(found), np.array(scores), np.array(labels)).select(order)


def _starts(length: int, size: int, overlap: float) -> list[int]:
    if length <= size:
        return [0]
    step = max(1.0, size * (1 - overlap))
    count = int(np.ceil((length - size) / step - 1e-9)) + 1
    return np.floor(np.linspace(0, length - size, count)).astype(int).tolist()


def _agreements(
    boxes: np.ndarray,
    labels: np.ndarray,
    source: np.ndarray,
    cut: np.ndarray,
    frames: np.ndarray,
    iou: float,
    inside: float,
    edge: float,
) -> np.ndarray:
    """(P, 2) pairs of boxes that are one object, those that agree most first."""
    outward = np.array([-1.0, -1.0, 1.0, 1.0]) * edge
    # A cut side goes on beyond its window. With the windows widened likewise, those that only touch share a strip.
    reach, wide = np.where(cut, frames[source] + outward, boxes), frames + outward
    one, other, _ = suppressing_pairs(reach, labels, iou=0.0)
    apart = source[one] != source[other]
    one, other = one[apart], other[apart]
    first, second = wide[source[one]], wide[source[other]]
    seen = np.column_stack([np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])])
    clipped = [
        np.column_stack([np.maximum(reach[i, :2], seen[:, :2]), np.minimum(reach[i, 2:], seen[:, 2:])])
        for i in (one, other)
    ]
    areas = [np.clip(box[:, 2:] - box[:, :2], 0, None).prod(axis=1) for box in clipped]
    low, high = np.maximum(clipped[0][:, :2], clipped[1][:, :2]), np.minimum(clipped[0][:, 2:], clipped[1][:, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=1)
    # Windows that see nothing in common have nothing to compare, though their boxes may meet in a third one's.
    valid = overlap > 0
    agreement = np.divide(overlap, areas[0] + areas[1] - overlap, out=np.zeros_like(overlap), where=valid)
    part = np.divide(overlap, np.minimum(*areas), out=np.zeros_like(overlap), where=valid)
    piece = (cut[one] | cut[other]).any(axis=1)
    same = valid & ((agreement > iou) | (piece & (part > inside)))
    order = np.argsort(-agreement[same], kind="stable")
    return np.column_stack([one[same], other[same]])[order]


def _joined(pairs: np.ndarray, source: np.ndarray) -> list[list[int]]:
    """Boxes as groups of one object each, joined along the pairs in their order; a group has one box a window."""
    group_of = list(range(len(source)))
    groups = [[index] for index in group_of]
    for one, other in pairs.tolist():
        a, b = group_of[one], group_of[other]
        if a == b or {source[i] for i in groups[a]} & {source[i] for i in groups[b]}:
            continue
        for index in groups[b]:
            group_of[index] = a
        groups[a] += groups[b]
        groups[b] = []
    return [group for group in groups if group]
