"""What the page argues from: detections joined with the truth, each box and object with what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.boxes.types import Detections, Truth
from src.errors import ProjectError
from src.flows.detection_panel import Decision, detections_of, pair, sizes_of
from src.metrics.matching import match_boxes

IOU = 0.5  # the overlap from which a box has found an object on this page

# What became of a counted box, and of an object.
RIGHT, CONFUSED, FALSE, NEUTRAL = "right", "confused", "false", "neutral"
MISSED = "missed"


@dataclass(frozen=True)
class Outcome:
    """One image whose boxes are known: what became of each counted box and of each object.

    boxes, objects: states, a text an item (`right`, `confused`, `false` or `missed`, `neutral` for ignored regions
    and boxes on them). partner: (D,) index of the object of a right or confused box, else -1.
    """

    boxes: np.ndarray
    objects: np.ndarray
    partner: np.ndarray

    @property
    def missed(self) -> int:
        """Objects without a box of their class."""
        return int(np.isin(self.objects, (MISSED, CONFUSED)).sum())

    @property
    def false(self) -> int:
        """Boxes without an object of their class."""
        return int(np.isin(self.boxes, (FALSE, CONFUSED)).sum())

    @property
    def errors(self) -> int:
        return self.missed + self.false


@dataclass(frozen=True)
class BoxSet:
    """Detections of one split, and what is known of its images; all lists have one entry an image.

    found: as they are submitted. kept: those taken for objects, surest first. counted: (N, C) numbers of objects
    that the rule answers. truth: the objects, None where unknown. counts: (N, C) true numbers, -1 where unknown.
    """

    key: str  # "oof" | "test"
    title: str
    ids: list[str]
    paths: list[str | None]
    folds: list[int]
    sizes: list[tuple[int, int]]
    found: list[Detections]
    kept: list[Detections]
    counted: np.ndarray
    truth: list[Truth | None]
    counts: np.ndarray

    @cached_property
    def with_boxes(self) -> np.ndarray:
        """Indices of the images whose objects are known."""
        return np.flatnonzero([truth is not None for truth in self.truth])

    @cached_property
    def with_counts(self) -> np.ndarray:
        """Indices of the images whose numbers of objects are known."""
        return np.flatnonzero((self.counts >= 0).all(axis=1)) if self.counts.shape[1] else np.zeros(0, np.int64)

    @property
    def n_classes(self) -> int:
        return self.counted.shape[1]

    @cached_property
    def n_objects(self) -> np.ndarray:
        """(C,) objects of each class, in the images whose numbers are known."""
        return self.counts[self.with_counts].sum(axis=0)

    def pairs(self) -> tuple[list[Detections], list[Truth]]:
        """Submitted detections and truth of the images whose objects are known."""
        return [self.found[i] for i in self.with_boxes], [self.truth[i] for i in self.with_boxes]

    @cached_property
    def outcomes(self) -> dict[int, Outcome]:
        """{index of an image whose objects are known: what became of its boxes}."""
        kept = [self.kept[i] for i in self.with_boxes]
        truth = [self.truth[i] for i in self.with_boxes]
        return dict(zip(self.with_boxes.tolist(), outcomes(kept, truth, n_classes=self.n_classes), strict=True))

    @cached_property
    def confusion(self) -> np.ndarray:
        """(C+1, C+1) true class by class of the box; the last row are boxes on nothing, the last column the missed."""
        table = np.zeros((self.n_classes + 1, self.n_classes + 1), np.int64)
        for index, outcome in self.outcomes.items():
            kept, truth = self.kept[index], self.truth[index]
            hit = np.isin(outcome.boxes, (RIGHT, CONFUSED))
            np.add.at(table, (truth.labels[outcome.partner[hit]], kept.labels[hit]), 1)
            np.add.at(table[-1], kept.labels[outcome.boxes == FALSE], 1)
            np.add.at(table[:, -1], truth.labels[outcome.objects == MISSED], 1)
        return table

    def worst_pairs(self, most: int = 3) -> list[tuple[int, int]]:
        """(true, said) classes that are confused most often, at most `most`."""
        table = self.confusion[:-1, :-1].copy()
        np.fill_diagonal(table, 0)
        order = np.argsort(-table, axis=None, kind="stable")[: min(most, np.count_nonzero(table))]
        return [(int(place) // self.n_classes, int(place) % self.n_classes) for place in order]


def box_sets(
    manifest: pd.DataFrame,
    oof: pd.DataFrame | None,
    test: pd.DataFrame | None,
    solution: pd.DataFrame | None,
    decision: Decision,
    predictions: Path,
) -> list[BoxSet]:
    """Out-of-fold first, then test; a split without predictions is left out.

    Raises:
        ProjectError: a predicted id is not in the manifest, or a label is none of its classes.
    """
    sets = []
    for key, frame, split in (("oof", oof, "train"), ("test", test, "test")):
        if frame is None or not len(frame):
            continue
        rows = manifest[manifest["split"] == split]
        truth = rows if key == "oof" else solution
        title = "Out of fold" if key == "oof" else "Test, no truth" if truth is None else "Test, graded afterwards"
        sets.append(
            _join(key, title, frame.reset_index(drop=True), rows, truth, decision, predictions / f"{key}.parquet")
        )
    return sets


def _join(
    key: str, title: str, frame: pd.DataFrame, rows: pd.DataFrame, truth: pd.DataFrame | None, decision: Decision,
    file: Path,
) -> BoxSet:  # fmt: skip
    ids = frame["id"].astype(str)
    paths = dict(zip(rows["id"].astype(str), rows["path"], strict=True))
    missing = ~ids.isin(list(paths))
    if missing.any():
        raise ProjectError(
            f"{file}: {int(missing.sum())} predicted ids are not in the competition's table, the first is "
            f"{ids[missing].iloc[0]!r}. The run was made from another competition or table: pass the one it was "
            "trained on."
        )
    raw, sizes = detections_of(frame), sizes_of(frame)
    n_classes = len(decision.rule.classes)
    objects: list[Truth | None] = [None] * len(frame)
    counts = np.full((len(frame), n_classes), -1, np.int64)
    if truth is not None and len(truth):
        known = pair(frame, truth)
        place = {name: index for index, name in enumerate(frame["id"])}
        for position, name in enumerate(known.ids):
            if known.boxes is not None:
                objects[place[name]] = known.boxes[position]
            if known.counts is not None:
                counts[place[name]] = known.counts[position]
    return BoxSet(
        key=key,
        title=title,
        ids=ids.tolist(),
        paths=[None if pd.isna(path := paths[name]) else str(path) for name in ids],
        folds=frame["fold"].astype(int).tolist() if "fold" in frame else [-1] * len(frame),
        sizes=sizes,
        found=[decision.postprocess.apply(each) for each in raw],
        kept=decision.rule.keep_all(raw, sizes),
        counted=decision.rule.count_all(raw, sizes),
        truth=objects,
        counts=counts,
    )


def outcomes(kept: Sequence[Detections], truth: Sequence[Truth], *, n_classes: int) -> list[Outcome]:
    """What became of each box and object, matched at IoU 0.5.

    Boxes are first matched within their class, surest first, as COCO does; then what is left over is matched
    whatever the class: those are the confused ones. So a right box is never explained away by a wrong one.
    """
    first = match_boxes(kept, truth, n_classes=n_classes, iou=IOU, limit=None)
    boxes = [np.full(len(each), FALSE, dtype=object) for each in kept]
    objects = [np.where(each.ignored, NEUTRAL, MISSED).astype(object) for each in truth]
    partner = [np.full(len(each), -1, np.int64) for each in kept]
    for image, row, right, ignored, other in zip(
        first.images, first.rows, first.right, first.ignored, first.partner, strict=True
    ):
        if right:
            boxes[image][row], partner[image][row], objects[image][other] = RIGHT, other, RIGHT
        elif ignored:
            boxes[image][row] = NEUTRAL
    left = [np.flatnonzero(states == FALSE) for states in boxes]
    open_objects = [np.flatnonzero(states == MISSED) for states in objects]
    second = match_boxes(
        [
            replace(each.select(rows), labels=np.zeros(len(rows), np.int64))
            for each, rows in zip(kept, left, strict=True)
        ],
        [Truth(each.boxes[rows], np.zeros(len(rows))) for each, rows in zip(truth, open_objects, strict=True)],
        n_classes=1,
        iou=IOU,
        limit=None,
    )
    for image, row, other in zip(second.images, second.rows, second.partner, strict=True):
        if other >= 0:
            box, thing = left[image][row], open_objects[image][other]
            boxes[image][box], partner[image][box], objects[image][thing] = CONFUSED, thing, CONFUSED
    return [Outcome(*each) for each in zip(boxes, objects, partner, strict=True)]


@dataclass(frozen=True)
class Curve:
    """Precision over recall of one class at IoU 0.5, its COCO average precision, and the point of the count rule."""

    label: int
    recall: np.ndarray
    precision: np.ndarray
    ap50: float
    n: int
    point: tuple[float, float] | None  # recall, precision of the boxes taken for objects


def curves(scored: BoxSet) -> dict[int, Curve]:
    """{class: its curve} of the classes that have objects; precision is the highest at that recall or beyond."""
    found, truth = scored.pairs()
    matches = match_boxes(found, truth, n_classes=scored.n_classes, iou=IOU)
    objects = matches.objects.sum(axis=0)
    table = scored.confusion
    result = {}
    for label in np.flatnonzero(objects):
        mine = (matches.labels == label) & ~matches.ignored
        right = matches.right[mine][np.argsort(-matches.scores[mine], kind="stable")]
        caught = np.cumsum(right)
        precision = caught / np.arange(1, len(right) + 1)
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        steps = np.flatnonzero(right)
        recall, level = caught[steps] / objects[label], highest[steps]
        at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
        called = int(table[:, label].sum())
        point = (table[label, label] / objects[label], table[label, label] / called) if called else None
        result[int(label)] = Curve(
            label=int(label),
            recall=np.concatenate([[0.0], recall]),
            precision=np.concatenate([level[:1] if len(level) else [0.0], level]),
            ap50=float(np.append(level, 0.0)[np.minimum(at, len(level))].mean()),
            n=int(objects[label]),
            point=point,
        )
    return result
