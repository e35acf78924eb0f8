"""Overlapping pairs of boxes over many images at once: what suppression and matching need."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_PAIRS = 4_000_000  # pairs looked at together; bounds memory at some 500 MB


def overlapping_pairs(
    first: np.ndarray,
    second: np.ndarray,
    first_group: np.ndarray,
    second_group: np.ndarray,
    *,
    least: float,
    inclusive: bool = True,
    over_first: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All (i, j, iou) with boxes first[i] and second[j] of the same group and iou ≥ `least` (> if not inclusive).

    Boxes are (N, 4) and (M, 4) xyxy; groups are (N,) and (M,) integers. `over_first` (M,) bool marks boxes of
    `second` whose overlap is measured against the area of first[i] alone, as COCO does for crowds. Pairs of
    boxes without common area are never listed. Ordered by i, then j.
    """
    found_i, found_j, found_iou = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (first, second)]
    for i, j in _same_group(first_group, second_group):
        one, other = first[i], second[j]
        width = np.minimum(one[:, 2], other[:, 2]) - np.maximum(one[:, 0], other[:, 0])
        height = np.minimum(one[:, 3], other[:, 3]) - np.maximum(one[:, 1], other[:, 1])
        touch = (width > 0) & (height > 0)
        i, j, overlap = i[touch], j[touch], (width * height)[touch]
        union = areas[0][i] + areas[1][j] - overlap
        if over_first is not None:
            union = np.where(over_first[j], areas[0][i], union)
        iou = overlap / union  # a common area is positive, so the union is
        keep = iou >= least if inclusive else iou > least
        found_i.append(i[keep])
        found_j.append(j[keep])
        found_iou.append(iou[keep])
    i, j, iou = np.concatenate(found_i), np.concatenate(found_j), np.concatenate(found_iou)
    order = np.lexsort((j, i))
    return i[order], j[order], iou[order]


def _same_group(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index pairs of one group, in chunks; a single item's partners are never split."""
    by_group = np.argsort(second, kind="stable")
    low = np.searchsorted(second[by_group], first, side="left")
    partners = np.searchsorted(second[by_group], first, side="right") - low
    total = np.cumsum(partners)
    start = 0
    while start < len(first):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _PAIRS, side="right")))
        count = partners[start:stop]
        i = np.repeat(np.arange(start, stop), count)
        within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
        yield i, by_group[np.repeat(low[start:stop], count) + within]
        start = stop
