"""Annotations of any layout → the manifest's columns: boxes cleaned, class indices, counts, tags, sizes of images.

Columns, one value an image: `boxes` (N, 4) float64 xyxy, px of the upright original image, `labels` (N,) int64 and
`ignored` (N,) bool, or None where it is unknown what is where (an image without objects has empty arrays); `counts`
(C,) int64, of the boxes that are not ignored, or of a table of counts; `tags` (K,) int64, classes known to be in the
image, by boxes, counts or the column of tags; `width` and `height` from the image's header, <NA> if it is unreadable.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from src.annotations import coco, tables, voc, yolo
from src.annotations.classes import Vocabulary
from src.annotations.reading import Marks, Reading
from src.boxes.cleaning import clean_boxes
from src.boxes.types import as_boxes
from src.errors import ProjectError
from src.image_header import image_sizes
from src.rows import check_apart

if TYPE_CHECKING:
    from src.competition import Competition
    from src.rows import Rows

TARGET_COLUMNS = ("boxes", "labels", "ignored", "counts", "tags", "width", "height")
READERS: dict[str, ModuleType] = {"csv": tables, "coco": coco, "voc": voc, "yolo": yolo}
Sizes = Sequence[tuple[int, int] | None]


def read_splits(spec: Competition) -> tuple[Rows, Rows, dict[str, dict[str, list]], dict[str, Any]]:
    """Train and test images, their columns by split, and the manifest's attrs. Nothing of the test's objects is read.

    Raises:
        ProjectError: as the layout's reader; an unknown class; an image that is in both splits.
    """
    reader = READERS[spec.data.layout]
    train, reading = reader.read_split(spec, "train", objects=True)
    test, _ = reader.read_split(spec, "test", objects=False)
    check_apart(spec, train, test)
    classes = _classes(spec, reading)
    columns = {
        "train": _columns(reading, train, classes, image_sizes(train.paths)),
        "test": {name: [None] * len(test.ids) for name in TARGET_COLUMNS} | _size_columns(image_sizes(test.paths)),
    }
    return train, test, columns, _attributes(classes, reading.reports)


def read_answered(spec: Competition) -> tuple[list[str], dict[str, list], dict[str, Any]] | None:
    """Ids, columns and attrs of the test images for grading; None where nothing says what is in them.

    Raises:
        ProjectError: as the layout's reader; a class that the training set does not have.
    """
    reader = READERS[spec.data.layout]
    _, trained = reader.read_split(spec, "train", objects=True)
    rows, _ = reader.read_split(spec, "test", objects=False)
    classes = _classes(spec, trained)
    reading = reader.read_answers(spec, rows, classes)
    if reading is None:
        return None
    columns = _columns(reading, rows, classes, image_sizes(rows.paths))
    return rows.ids, columns, _attributes(classes, reading.reports)


def _attributes(classes: Vocabulary, reports: list[dict[str, Any]]) -> dict[str, Any]:
    return {"classes": list(classes.names), "category_ids": list(classes.ids), "box_reports": reports}


def _classes(spec: Competition, reading: Reading) -> Vocabulary:
    classes = reading.vocabulary or Vocabulary.from_labels(reading.names(), reading.order)
    if not classes.names:
        raise spec.error("data.classes", "not given, and no training image has an object. List the names.")
    return classes


def _size_columns(sizes: Sizes) -> dict[str, list]:
    return {
        "width": [None if size is None else size[0] for size in sizes],
        "height": [None if size is None else size[1] for size in sizes],
    }


def _columns(reading: Reading, rows: Rows, classes: Vocabulary, sizes: Sizes) -> dict[str, list]:
    """All target columns of one split; what is mended goes to the reading's reports."""
    columns: dict[str, list] = {name: [] for name in TARGET_COLUMNS} | _size_columns(sizes)
    for row, (identifier, source) in enumerate(zip(rows.ids, rows.sources, strict=True)):
        size, claimed = sizes[row], reading.sizes[row]
        if size is not None and claimed is not None and size != claimed:
            _report_size(reading, source, identifier, size, claimed)
        marks = _scaled(reading, row, source, identifier, size or claimed)
        boxes = labels = ignored = None
        if marks is not None:
            boxes, labels, ignored = _clean(reading, marks, identifier, classes, size or claimed)
        counts = _counts(reading.counts[row], classes, source)
        if labels is not None:
            counted = np.bincount(labels[~ignored], minlength=len(classes.names)).astype(np.int64)
            if counts is not None and not np.array_equal(counts, counted):
                problem = f"its counts are {counts.tolist()}, and its boxes {counted.tolist()}"
                reading.report(source, identifier, problem, "the boxes are taken")
            counts = counted
        tags = {_index(classes, tag, source) for tag in reading.tags[row]}
        tags |= set(np.flatnonzero(counts).tolist()) if counts is not None else set()
        known = counts is not None or bool(tags)
        values = (boxes, labels, ignored, counts, np.array(sorted(tags), dtype=np.int64) if known else None)
        for name, value in zip(TARGET_COLUMNS, values, strict=False):
            columns[name].append(value)
    return columns


def _report_size(
    reading: Reading, source: str, identifier: str, size: tuple[int, int], claimed: tuple[int, int]
) -> None:
    turned = " (the same turned by 90°: its boxes may be of the picture before EXIF rotation)"
    problem = f"its annotation says {claimed[0]}×{claimed[1]}, and the picture is {size[0]}×{size[1]}"
    problem += turned if claimed == size[::-1] else ""
    reading.report(source, identifier, problem, "the picture's size is taken")


def _scaled(reading: Reading, row: int, source: str, identifier: str, size: tuple[int, int] | None) -> Marks | None:
    """An image's marks in pixels."""
    marks = reading.marks[row]
    if marks is None or not reading.normalized or not marks.boxes:
        return marks
    if size is None:
        problem = "its size cannot be read, and its boxes are shares of it"
        reading.report(source, identifier, problem, "its objects are unknown")
        return None
    boxes = as_boxes(marks.boxes) * np.array([*size, *size], dtype=np.float64)
    return Marks(boxes.tolist(), marks.labels, marks.ignored, marks.sources)


def _clean(
    reading: Reading, marks: Marks, identifier: str, classes: Vocabulary, size: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = [_index(classes, label, source) for label, source in zip(marks.labels, marks.sources, strict=True)]
    width, height = size if size is not None else (None, None)
    boxes, indices, ignored, problems = clean_boxes(
        marks.boxes, labels, width, height, ignored=marks.ignored, sources=marks.sources
    )
    for problem in problems:
        reading.report(problem["source"], identifier, problem["problem"], problem["action"])
    return boxes, indices, ignored


def _counts(counts: dict[str, int] | None, classes: Vocabulary, source: str) -> np.ndarray | None:
    if counts is None:
        return None
    values = np.zeros(len(classes.names), dtype=np.int64)
    for label, value in counts.items():
        values[_index(classes, label, source)] += value
    return values


def _index(classes: Vocabulary, label: str, source: str) -> int:
    index = classes.index(label)
    if index is None:
        raise ProjectError(f"{source}: {classes.unknown(label)}")
    return index
