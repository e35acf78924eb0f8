"""Captions of any layout → the manifest's rows: one an image, with its cleaned captions."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from src.annotations import captions_coco, captions_jsonl, captions_tables
from src.annotations.captions_reading import CaptionReading, settle
from src.annotations.reading import Reports
from src.rows import check_apart, listed

if TYPE_CHECKING:
    from src.competition import Competition
    from src.rows import Rows

READERS: dict[str, ModuleType] = {"csv": captions_tables, "coco": captions_coco, "jsonl": captions_jsonl}
TABLES = (".csv", ".tsv")


def read_splits(spec: Competition) -> tuple[Rows, Rows, list[list[str]], Reports]:
    """Train and test images, the captions of the training images, and what was mended or set aside.

    Raises:
        ProjectError: as the layout's reader; an image that is in both splits; a training set without any caption.
    """
    reader = READERS[spec.data.layout]
    train, reading = reader.read_train(spec)
    test = reader.read_rows(spec, "test")
    check_apart(spec, train, test)
    captions = settle(reading, train.ids)
    bare = [row for row, texts in enumerate(captions) if not texts]
    if len(bare) == len(captions):
        raise spec.error(_key(spec), f"no training image has a caption: {_first(reading, train)}.")
    for row in bare:
        reading.reports.add(train.sources[row], train.ids[row], "no caption", "the image is not trained on")
    return train, test, captions, reading.reports


def read_answered(spec: Competition) -> tuple[list[str], list[list[str]], Reports] | None:
    """Ids, captions and reports of the test images for grading; None where nothing says what is in them.

    Raises:
        ProjectError: the solution has other ids than the test set, or an image without a caption.
    """
    reader = READERS[spec.data.layout]
    rows, reading = reader.read_test(spec)
    if spec.solution is not None:
        of_table = spec.solution.suffix.lower() in TABLES
        reading = (captions_tables if of_table else reader).read_solution(spec, rows)
    if reading is None:
        return None
    _check_ids(spec, reading, rows)
    captions = settle(reading, rows.ids)
    bare = [rows.ids[row] for row, texts in enumerate(captions) if not texts]
    if bare and len(bare) == len(captions) and spec.solution is None:
        return None
    if bare:
        where, key = (spec.solution, "solution") if spec.solution is not None else (spec.data.test, "data.test")
        problem = f"{where} has no caption for {len(bare)} of {len(captions)} test images: {listed(bare)}."
        raise spec.error(key, f"{problem} Each needs one or more to be graded: add them, or name no solution.")
    return rows.ids, captions, reading.reports


def _check_ids(spec: Competition, reading: CaptionReading, rows: Rows) -> None:
    known = set(rows.ids)
    strange = [identifier for identifier in reading.texts if identifier not in known]
    if strange:
        quoted = [f"'{identifier}'" for identifier in strange]
        problem = f"{spec.solution} has {len(strange)} ids that are no test images: {listed(quoted)}"
        raise spec.error("solution", f"{problem} (the test set has '{rows.ids[0]}'). Ids are compared as text.")


def _key(spec: Competition) -> str:
    return "data.train" if spec.data.captions is None else "data.captions.columns"


def _first(reading: CaptionReading, train: Rows) -> str:
    """What the first image has instead of a caption."""
    if reading.reports:
        report = reading.reports[0]
        return f"{report['source']}: {report['problem']}"
    return f"{train.sources[0]} has none"
