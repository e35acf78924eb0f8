"""Suppression of boxes that say the same: greedy (NMS) and soft (soft-NMS), class by class or over all classes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from src.boxes.pairs import suppressing_pairs
from src.boxes.types import Detections, pairwise_iou
from src.errors import ProjectError, nearest


def nms(det: Detections, *, iou: float = 0.5, agnostic: bool = False) -> Detections:
    """Detections without those that a surer kept one overlaps by an IoU above `iou`; surest first.

    agnostic: boxes of different classes suppress each other too. Equal scores keep their order.

    Raises:
        ProjectError: `iou` is not in [0, 1].
    """
    _check_share("iou", iou)
    groups = np.zeros(len(det), np.int64) if agnostic else det.labels
    order = np.argsort(-det.scores, kind="stable")
    return det.select(order[kept(*suppressing_pairs(det.boxes[order], groups[order], iou=iou)[:2], len(det))])


def kept(surer: np.ndarray, weaker: np.ndarray, n: int) -> np.ndarray:
    """(n,) bool: who survives greedy suppression, for the pairs of `suppressing_pairs`.

    A box survives when no surviving surer box suppresses it. Repeating that for all boxes at once settles one
    more link of each chain of overlaps a round, the surest first, and stops at the greedy answer.
    """
    alive = np.ones(n, dtype=bool)
    while True:
        new = np.ones(n, dtype=bool)
        new[weaker[alive[surer]]] = False
        if (new == alive).all():
            return alive
        alive = new


def soft_nms(
    det: Detections,
    *,
    sigma: float = 0.5,
    iou: float = 0.3,
    method: Literal["gaussian", "linear"] = "gaussian",
    floor: float = 0.001,
    agnostic: bool = False,
) -> Detections:
    """Detections with the score of each lowered by surer ones that overlap it; surest first (Bodla et al.,
    "Soft-NMS", 2017, equations 2 and 3).

    gaussian: score × exp(−IoU² / sigma) for every overlap; `iou` is not used. linear: score × (1 − IoU) where the
    IoU is above `iou`. Boxes whose score falls below `floor` are dropped.

    Raises:
        ProjectError: an unknown method, `sigma` not above 0, or `iou` not in [0, 1].
    """
    if method not in ("gaussian", "linear"):
        options = ("gaussian", "linear")
        raise ProjectError(f"soft-NMS method '{method}' is not known.{nearest(method, options)} Known: {options}.")
    if not sigma > 0:
        raise ProjectError(f"sigma={sigma}: expected a number above 0, such as 0.5.")
    _check_share("iou", iou)
    scores, waiting, order = det.scores.copy(), np.ones(len(det), dtype=bool), []
    while waiting.any():
        best = int(np.argmax(np.where(waiting, scores, -np.inf)))
        waiting[best] = False
        if scores[best] < floor:
            break
        order.append(best)
        rest = np.flatnonzero(waiting if agnostic else waiting & (det.labels == det.labels[best]))
        overlap = pairwise_iou(det.boxes[[best]], det.boxes[rest])[0]
        factor = np.exp(-np.square(overlap) / sigma) if method == "gaussian" else 1 - overlap * (overlap > iou)
        scores[rest] *= factor
    index = np.array(order, dtype=np.int64)
    chosen = det.select(index)
    return Detections(chosen.boxes, scores[index], chosen.labels, chosen.masks)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ProjectError(f"{name}={value}: expected a number from 0 to 1, such as 0.5.")
