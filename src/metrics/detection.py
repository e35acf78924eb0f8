"""Detection metrics: COCO's panel through hotcoco, and the average precision of VOC 2010.

hotcoco (MIT) gives the arrays of pycocotools bit for bit and reads boxes as arrays; see benchmarks/coco_metrics.py.
The summary is taken from its arrays here: COCO's own one answers −1 for what is undefined, and −1 for everything
when 100 is not among the detection limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from src.boxes.types import Detections, Truth
from src.errors import ProjectError
from src.metrics.matching import match_boxes
from src.metrics.ranking import UndefinedMetric

_AREAS = ("all", "small", "medium", "large")  # COCO: below 32², 32² to 96², above 96² pixels
_LIMITS = (1, 10, 100)  # detections an image and class


def evaluate_boxes(
    predictions: Sequence[Detections], truth: Sequence[Truth], *, classes: Sequence[str]
) -> dict[str, Any]:
    """COCO's panel, each value in [0, 1] or None where undefined (no such object in the truth).

    map (IoU 0.50 to 0.95), map50, map75, map_small, map_medium, map_large (by the object's box area, below 32²,
    to 96², above), ar1, ar10, ar100 (recall with that many detections an image and class), and
    per_class: {name: {ap, ap50, n}} with n objects that are not ignored. Ignored regions are COCO's crowds:
    they may take any number of detections, which then count as neither right nor wrong (Lin et al.,
    "Microsoft COCO", 2014, and its evaluation code). Equal scores keep the order of the images.

    Raises:
        ProjectError: predictions and truth differ in number, or a label is not an index of `classes`.
    """
    precision, recall = coco_arrays(predictions, truth, n_classes=len(classes))
    objects = sum((item.counts(len(classes)) for item in truth), np.zeros(len(classes), np.int64))
    result: dict[str, Any] = {
        "map": _mean(precision[:, :, :, 0, 2]),
        "map50": _mean(precision[0, :, :, 0, 2]),
        "map75": _mean(precision[5, :, :, 0, 2]),
    }
    result |= {f"map_{area}": _mean(precision[:, :, :, index, 2]) for index, area in enumerate(_AREAS) if index}
    result |= {f"ar{limit}": _mean(recall[:, :, 0, index]) for index, limit in enumerate(_LIMITS)}
    result["per_class"] = {
        str(name): {
            "ap": _mean(precision[:, :, index, 0, 2]),
            "ap50": _mean(precision[0, :, index, 0, 2]),
            "n": int(objects[index]),
        }
        for index, name in enumerate(classes)
    }
    return result


def coco_arrays(
    predictions: Sequence[Detections], truth: Sequence[Truth], *, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """pycocotools' `precision` (10 IoU, 101 recalls, C, 4 areas, 3 limits) and `recall` (10, C, 4, 3); −1: undefined.

    Raises as `evaluate_boxes` does.
    """
    check_pairs(predictions, truth, n_classes)
    if not n_classes or not sum(map(len, truth)):
        return np.full((10, 101, n_classes, 4, 3), -1.0), np.full((10, n_classes, 4, 3), -1.0)
    from hotcoco import COCO, COCOeval

    # Ids count from 1: COCO's matching takes annotation 0 for "no match".
    images = [{"id": index + 1, "width": 1, "height": 1} for index in range(len(truth))]
    categories = [{"id": index + 1, "name": str(index)} for index in range(n_classes)]
    objects = COCO.from_arrays(
        images,
        categories,
        np.repeat(np.arange(1, len(truth) + 1), [len(item) for item in truth]),
        np.concatenate([item.labels for item in truth]) + 1,
        to_xywh(np.concatenate([item.boxes for item in truth])),
        iscrowd=np.concatenate([item.ignored for item in truth]).astype(np.int64),
    )
    rows = np.column_stack(
        [
            np.repeat(np.arange(1.0, len(truth) + 1), [len(item) for item in predictions]),
            to_xywh(np.concatenate([item.boxes for item in predictions])),
            np.concatenate([item.scores for item in predictions]),
            np.concatenate([item.labels for item in predictions]) + 1.0,
        ]
    )
    evaluation = COCOeval(objects, objects.load_res(rows), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def coco_metric(name: str, predictions: Sequence[Detections], truth: Sequence[Truth], n_classes: int) -> float:
    """One value of the panel of `evaluate_boxes` by its name.

    Raises:
        UndefinedMetric: the truth holds no object that it could be measured on.
    """
    value = evaluate_boxes(predictions, truth, classes=[str(index) for index in range(n_classes)])[name]
    if value is None:
        raise UndefinedMetric(f"{name} needs objects in the truth, and there are none that it counts.")
    return value


def voc_map(predictions: Sequence[Detections], truth: Sequence[Truth], *, n_classes: int, iou: float = 0.5) -> float:
    """Mean over the classes that occur of VOC's average precision, in [0, 1]. Raises as `voc_ap`, and
    UndefinedMetric where no object counts."""
    values = voc_ap(predictions, truth, n_classes=n_classes, iou=iou)
    if np.isnan(values).all():
        raise UndefinedMetric("voc_map needs objects in the truth, and there are none that count.")
    return float(np.nanmean(values))


def voc_ap(
    predictions: Sequence[Detections], truth: Sequence[Truth], *, n_classes: int, iou: float = 0.5
) -> np.ndarray:
    """(C,) average precision of each class as from VOC 2010 on; NaN for a class without an object that counts.

    The area under precision made monotone over all recalls (Everingham et al., "The PASCAL VOC Challenge: a
    Retrospective", 2015). A detection is compared with the object it overlaps most: right when their IoU is at
    least `iou` and no surer detection has taken it; neither right nor wrong when that object is ignored
    ("difficult"). Boxes are continuous: no pixel is added to their sides.

    Raises:
        ProjectError: predictions and truth differ in number, a label is no class, or `iou` is not in (0, 1].
    """
    check_pairs(predictions, truth, n_classes)
    if not 0 < iou <= 1:
        raise ProjectError(f"iou={iou}: expected a number above 0 and at most 1, such as 0.5.")
    matches = match_boxes(predictions, truth, n_classes=n_classes, iou=iou, style="voc", limit=None)
    result = np.full(n_classes, np.nan)
    for index in np.flatnonzero(matches.objects.sum(axis=0)):
        mine = (matches.labels == index) & ~matches.ignored
        order = np.argsort(-matches.scores[mine], kind="stable")
        result[index] = all_point_ap(matches.right[mine][order], int(matches.objects[:, index].sum()))
    return result


def all_point_ap(right: np.ndarray, n_objects: int) -> float:
    """Area under the monotone precision-recall curve of detections, surest first; `right` is (N,) bool."""
    caught = np.cumsum(right)
    precision = caught / np.arange(1, len(right) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(highest[right.astype(bool)].sum() / n_objects)


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) x, y, width, height of xyxy boxes."""
    return np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


def check_pairs(predictions: Sequence[Detections], truth: Sequence[Truth], n_classes: int) -> None:
    """Raise ProjectError where predictions and truth do not pair up or a label is not one of `n_classes`."""
    if len(predictions) != len(truth):
        raise ProjectError(f"{len(predictions)} predictions but {len(truth)} images of truth: they must pair up.")
    for what, items in (("predictions", predictions), ("truth", truth)):
        labels = np.concatenate([item.labels for item in items] or [np.zeros(0, np.int64)])
        wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
        if wrong.size:
            row = int(np.searchsorted(np.cumsum([len(item) for item in items]), wrong[0], side="right"))
            raise ProjectError(
                f"{what}, image {row}: label {labels[wrong[0]]} is not one of the {n_classes} classes "
                f"(0 to {n_classes - 1}). Were they made for another list of classes?"
            )


def _mean(values: np.ndarray) -> float | None:
    """Mean of what is defined (−1 marks the rest), or None."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None
