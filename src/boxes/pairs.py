"""Overlapping pairs of boxes over many images at once: what suppression and matching need."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

_PAIRS = 4_000_000  # pairs looked at together; bounds memory at some 500 MB


def overlapping_pairs(
    first: np.ndarray,
    second: np.ndarray,
    first_group: np.ndarray,
    second_group: np.ndarray,
    *,
    least: float,
    over_first: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All (i, j, iou) with boxes first[i] and second[j] of the same group and iou ≥ `least`, by i, then by j.

    Boxes are (N, 4) and (M, 4) xyxy; groups are (N,) and (M,) integers. `over_first` (M,) bool marks boxes of
    `second` whose overlap is measured against the area of first[i] alone, as COCO does for crowds. Pairs of
    boxes without common area are never listed.
    """
    pairs = _same_group(first_group, second_group)
    return _measured(first, second, pairs, over_first, lambda iou: iou >= least)


def suppressing_pairs(
    boxes: np.ndarray, groups: np.ndarray, *, iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(surer, weaker, iou) of all boxes of one group with an IoU above `iou`; (N, 4) boxes stand surest first
    within each group."""
    return _measured(boxes, boxes, _later_in_group(groups), None, lambda value: value > iou)


def _measured(
    first: np.ndarray,
    second: np.ndarray,
    pairs: Iterator[tuple[np.ndarray, np.ndarray]],
    over_first: np.ndarray | None,
    wanted: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found_i, found_j, found_iou = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (first, second)]
    columns = [np.ascontiguousarray(b.T) for b in (first, second)]
    for i, j in pairs:
        width = np.minimum(columns[0][2][i], columns[1][2][j]) - np.maximum(columns[0][0][i], columns[1][0][j])
        touch = width > 0
        i, j, width = i[touch], j[touch], width[touch]
        height = np.minimum(columns[0][3][i], columns[1][3][j]) - np.maximum(columns[0][1][i], columns[1][1][j])
        touch = height > 0
        i, j, overlap = i[touch], j[touch], width[touch] * height[touch]
        union = areas[0][i] + areas[1][j] - overlap
        if over_first is not None:
            union = np.where(over_first[j], areas[0][i], union)
        iou = overlap / union  # a common area is positive, so the union is
        keep = wanted(iou)
        found_i.append(i[keep])
        found_j.append(j[keep])
        found_iou.append(iou[keep])
    i, j, iou = np.concatenate(found_i), np.concatenate(found_j), np.concatenate(found_iou)
    order = np.lexsort((j, i))
    return i[order], j[order], iou[order]


def _same_group(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index pairs (of first, of second) of one group, in chunks."""
    by_group = np.argsort(second, kind="stable")
    low = np.searchsorted(second[by_group], first, side="left")
    partners = np.searchsorted(second[by_group], first, side="right") - low
    for i, within in _chunks(partners):
        yield i, by_group[low[i] + within]


def _later_in_group(groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index pairs of one group with the first before the second, in chunks."""
    by_group = np.argsort(groups, kind="stable")
    partners = np.searchsorted(groups[by_group], groups[by_group], side="right") - np.arange(len(groups)) - 1
    for place, within in _chunks(partners):
        yield by_group[place], by_group[place + 1 + within]


def _chunks(partners: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(item, 0 … partners[item] − 1) for all items, about _PAIRS together; one item's partners are never split."""
    total = np.cumsum(partners)
    start = 0
    while start < len(partners):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _PAIRS, side="right")))
        count = partners[start:stop]
        item = np.repeat(np.arange(start, stop), count)
        yield item, np.arange(len(item)) - np.repeat(np.cumsum(count) - count, count)
        start = stop
