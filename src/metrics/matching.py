"""Which detection is right: detections of many images matched to objects at one IoU, by COCO's rule or VOC's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from src.boxes.pairs import overlapping_pairs
from src.boxes.types import Detections, Truth


@dataclass(frozen=True)
class Matches:
    """All D detections of N images side by side, and what became of each.

    images, labels: (D,) int64. scores: (D,). objects: (N, C) int64, objects that count. right: (D,) bool, the
    detection found an object. ignored: (D,) bool, it lies on an ignored region and counts as neither. partner:
    (D,) int64, index of the matched object in its image's Truth, or −1. rows: (D,) int64, index of the
    detection in its image's Detections.
    """

    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    rows: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    partner: np.ndarray
    objects: np.ndarray


def match_boxes(
    predictions: Sequence[Detections],
    truth: Sequence[Truth],
    *,
    n_classes: int,
    iou: float = 0.5,
    style: Literal["coco", "voc"] = "coco",
    limit: int | None = 100,
) -> Matches:
    """Detections matched to the objects of their image and class, surest first.

    coco: a detection takes the free object that it overlaps most, if the IoU is at least `iou`; failing that an
    ignored region, of which it need only lie inside (overlap / own area), and which is never used up.
    voc: a detection looks only at the object that it overlaps most; one that is taken makes it wrong.
    limit: detections an image and class that are looked at, the surest; the rest are left out.
    """
    images = np.repeat(np.arange(len(predictions)), [len(item) for item in predictions])
    rows = np.concatenate([np.arange(len(item)) for item in predictions] or [np.zeros(0, np.int64)])
    labels = np.concatenate([item.labels for item in predictions] or [np.zeros(0, np.int64)])
    scores = np.concatenate([item.scores for item in predictions] or [np.zeros(0)])
    boxes = np.concatenate([item.boxes for item in predictions] or [np.zeros((0, 4))])
    groups = images * n_classes + labels
    order = np.lexsort((-scores, groups))
    if limit is not None:
        order = order[rank_in_group(groups[order]) < limit]
    images, rows, labels, scores, boxes = images[order], rows[order], labels[order], scores[order], boxes[order]
    groups = groups[order]

    owner = np.repeat(np.arange(len(truth)), [len(item) for item in truth])
    place = np.concatenate([np.arange(len(item)) for item in truth] or [np.zeros(0, np.int64)])
    classes = np.concatenate([item.labels for item in truth] or [np.zeros(0, np.int64)])
    region = np.concatenate([item.ignored for item in truth] or [np.zeros(0, bool)])
    found, target, overlap = overlapping_pairs(
        boxes,
        np.concatenate([item.boxes for item in truth] or [np.zeros((0, 4))]),
        groups,
        owner * n_classes + classes,
        least=iou,
        over_first=region if style == "coco" else None,
    )
    choose = _coco if style == "coco" else _voc
    partner, right, ignored = choose(len(boxes), len(classes), found, target, overlap, region)
    counted = ~region
    cells = np.bincount(owner[counted] * n_classes + classes[counted], minlength=len(truth) * n_classes)
    return Matches(
        images=images,
        labels=labels,
        scores=scores,
        rows=rows,
        right=right,
        ignored=ignored,
        partner=np.where(partner >= 0, place[partner], -1) if len(place) else partner,
        objects=cells.reshape(len(truth), n_classes),
    )


def rank_in_group(groups: np.ndarray) -> np.ndarray:
    """(N,) position of each item within its run of equal, adjacent groups, from 0."""
    if not len(groups):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


def _coco(
    n_detections: int, n_objects: int, found: np.ndarray, target: np.ndarray, overlap: np.ndarray, region: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    partner = np.full(n_detections, -1)
    # Objects before regions, then by overlap; of equal overlaps COCO takes the last object.
    order = np.lexsort((-target, -overlap, region[target], found))
    taken = bytearray(n_objects)
    for detection, item in zip(found[order].tolist(), target[order].tolist(), strict=True):
        if partner[detection] < 0 and not taken[item]:
            partner[detection] = item
            taken[item] = not region[item]
    ignored = (partner >= 0) & region[partner] if n_objects else np.zeros(n_detections, bool)
    return partner, (partner >= 0) & ~ignored, ignored


def _voc(
    n_detections: int, n_objects: int, found: np.ndarray, target: np.ndarray, overlap: np.ndarray, region: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.lexsort((target, -overlap, found))
    first = order[np.append(True, found[order][1:] != found[order][:-1])] if len(order) else order
    best = np.full(n_detections, -1)
    best[found[first]] = target[first]
    ignored = (best >= 0) & region[best] if n_objects else np.zeros(n_detections, bool)
    partner, right = np.where(ignored, best, -1), np.zeros(n_detections, bool)
    wanting = np.flatnonzero((best >= 0) & ~ignored)
    # The first of those that want an object is the surest: detections stand in that order.
    _, winners = np.unique(best[wanting], return_index=True)
    right[wanting[winners]] = True
    partner[right] = best[right]
    return partner, right, ignored
