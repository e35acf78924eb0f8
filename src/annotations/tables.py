"""The layout csv with objects: the table of images, and tables of boxes or of counts beside or in it."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from src.annotations.box_tables import read_boxes, table_name
from src.annotations.classes import ONE_CLASS, Vocabulary, given_vocabulary
from src.annotations.count_tables import read_counts
from src.annotations.reading import Marks, Reading, Reports
from src.competition import Competition
from src.data_spec import CountTable
from src.layouts import read_rows
from src.listing import IMAGE_SUFFIXES, nfc
from src.rows import Rows
from src.tables import missing_column, read_table

_MARKS = re.compile(r"[,;|]")


def read_split(spec: Competition, split: str, *, objects: bool) -> tuple[Rows, Reading | None]:
    """The images of a split and, with `objects`, what is known to be in them.

    Where a table of boxes is given, an image without rows in it is one without objects, unless its tags or its counts
    say otherwise: then it is unknown where they are.

    Raises:
        ProjectError: whatever the tables have wrong, or ids of theirs that are images' but for their spelling.
    """
    rows = read_rows(spec, split)
    if not objects:
        return rows, None
    data, count = spec.data, len(rows.ids)
    given = given_vocabulary(spec)
    reading = Reading([None] * count, vocabulary=given, normalized=data.boxes is not None and data.boxes.normalized)
    if data.tags is not None:
        reading.tags = _tags(spec, rows, given)
    if data.counts is not None:
        table, name, path = _table(spec, data.counts.file)
        found = read_counts(table, data.counts, name)
        place_ids(spec, "data.counts", reading.reports, found, rows, path)
        absent = {} if data.counts.columns is None else None
        reading.counts = [found.get(identifier, absent) for identifier in rows.ids]
        for identifier in rows.ids:
            if identifier not in found and absent is None:
                reading.report(name, identifier, "it has no row", "its counts are unknown")
        reading.order = tuple(data.counts.columns or ())
    if data.boxes is not None:
        table, name, path = _table(spec, data.boxes.file)
        if data.boxes.label is None and data.boxes.format == "columns":
            reading.vocabulary = given = given or Vocabulary.of([ONE_CLASS])
            _check_one_class(spec, given)
        found = read_boxes(table, data.boxes, name, one_class=given.names[0] if given is not None else ONE_CLASS)
        place_ids(spec, "data.boxes", reading.reports, found, rows, path)
        for row, identifier in enumerate(rows.ids):
            known = found.get(identifier, Marks())
            hinted = bool(reading.tags[row]) or any((reading.counts[row] or {}).values())
            reading.marks[row] = None if hinted and not known.boxes else known
    return rows, reading


def read_answers(spec: Competition, rows: Rows, classes: Vocabulary) -> Reading | None:
    """What is in the test images by the solution table; None without one.

    The table has the columns of data.boxes or of data.counts, or those of a submission of counts.

    Raises:
        ProjectError: it has none of these, or does not fit the test set.
    """
    if spec.solution is None:
        return None
    data = spec.data
    table, name = read_table(spec.solution), table_name(spec.solution, spec.root)
    reading = Reading([None] * len(rows.ids), vocabulary=classes)
    header = list(table.columns)
    if data.boxes is not None and set(data.boxes.needed()) <= set(header):
        boxes = replace(data.boxes, id=_id_column(spec, header, data.boxes.id))
        found = read_boxes(table, boxes, name, one_class=classes.names[0])
        _check_answered(spec, found, rows)
        reading.normalized = boxes.normalized
        reading.marks = [found.get(identifier, Marks()) for identifier in rows.ids]
        return reading
    counts = _solution_counts(spec, header, classes)
    if counts is None:
        wanted = [", ".join(data.boxes.needed())] if data.boxes is not None else []
        wanted += [", ".join(data.counts.needed())] if data.counts is not None else []
        raise spec.error(
            "solution", f"{name} has the columns {', '.join(header)}, and needs an id with {' or with '.join(wanted)}."
        )
    found = read_counts(table, counts, name)
    _check_answered(spec, found, rows, each=counts.columns is not None)
    reading.counts = [found.get(identifier, {}) for identifier in rows.ids]
    return reading


def _table(spec: Competition, file: str | None) -> tuple[pd.DataFrame, str, Path]:
    path = spec.locate(spec.data.train if file is None else file)
    return read_table(path), table_name(path, spec.root), path


def _check_one_class(spec: Competition, classes: Vocabulary) -> None:
    if len(classes.names) != 1:
        raise spec.error(
            "data.boxes.label",
            f"not given, and there are {len(classes.names)} classes ({', '.join(classes.names[:8])}). "
            "Name the column of the classes.",
        )


def place_ids(spec: Competition, key: str, reports: Reports, found: Iterable[str], rows: Rows, path: Path) -> None:
    """Report ids that are no training image's; refuse those that differ from one by spelling alone."""
    known = set(rows.ids)
    strange = [identifier for identifier in found if identifier not in known]
    if not strange:
        return
    loose = {_loose(identifier): identifier for identifier in rows.ids}
    missed = [identifier for identifier in strange if loose.get(_loose(identifier), identifier) not in found]
    near = next(iter(missed), None)
    if near is not None and _loose(near) in loose:
        problem = f"{path} has the id '{near}', and the images '{loose[_loose(near)]}'. Ids are compared as text."
        raise spec.error(f"{key}.id", f"{problem} Write both alike.")
    if known.isdisjoint(found):
        problem = f"{path} has no id of a training image: '{strange[0]}' there, '{rows.ids[0]}' in {spec.data.train}."
        raise spec.error(f"{key}.id", f"{problem} Name the column that holds the same ids.")
    test = set(read_table(spec.locate(spec.data.test))[spec.data.id])
    name = table_name(path, spec.root)
    for identifier in strange:
        if identifier not in test:
            reports.add(name, identifier, "no image has this id", "set aside")


def _loose(identifier: str) -> str:
    """An id without what spreadsheets and exporters change: case, leading zeros, folder, suffix."""
    text = nfc(identifier).strip().casefold().replace("\\", "/").rpartition("/")[2]
    for suffix in IMAGE_SUFFIXES:
        text = text.removesuffix(suffix)
    return text.removesuffix(".0").lstrip("0")


def _tags(spec: Competition, rows: Rows, given: Vocabulary | None) -> list[list[str]]:
    """Class names in the column of tags: separated by , ; | where the column has one of these, else by spaces."""
    table = read_table(spec.locate(spec.data.train))
    cells: dict[str, list[str]] = {}
    for identifier, cell in zip(table[spec.data.id], table[spec.data.tags], strict=True):
        cells.setdefault(identifier, []).append(nfc(cell.strip()))
    marked = any(_MARKS.search(cell) for texts in cells.values() for cell in texts)
    names = set(given.names) if given is not None else set()

    def split(cell: str) -> list[str]:
        parts = _MARKS.split(cell) if marked else [cell] if cell in names else cell.split()
        return [part.strip() for part in parts if part.strip()]

    return [list(dict.fromkeys(tag for cell in cells[key] for tag in split(cell))) for key in rows.ids]


def _solution_counts(spec: Competition, header: list[str], classes: Vocabulary) -> CountTable | None:
    """How to read a solution of counts: by data.counts, or as a submission with a column a class or one for all."""
    counts, columns = spec.data.counts, spec.submission.columns
    if counts is not None and set(counts.needed()) <= set(header):
        return replace(counts, id=_id_column(spec, header, counts.id))
    wide = {name: columns.get(name, name) for name in classes.names}
    if len(classes.names) == 1 and columns.get("value") in header:
        wide = {classes.names[0]: columns["value"]}
    if not set(wide.values()) <= set(header):
        return None
    return CountTable(file=None, id=_id_column(spec, header, spec.data.id), columns=wide)


def _id_column(spec: Competition, header: list[str], first: str) -> str:
    for column in (first, spec.data.id, spec.submission.columns.get("id")):
        if column in header:
            return column
    raise spec.error("solution", missing_column(spec.solution, header, first))


def _check_answered(spec: Competition, found: Iterable[str], rows: Rows, *, each: bool = False) -> None:
    """Ids must be test images'; with `each`, every test image needs one."""
    known, have = set(rows.ids), set(found)
    strange = [identifier for identifier in found if identifier not in known]
    absent = [identifier for identifier in rows.ids if identifier not in have]
    if strange:
        problem = f"{spec.solution} has {len(strange)} ids that are no test images, such as '{strange[0]}'."
        raise spec.error("solution", f"{problem} Ids are compared as text.")
    if absent and each:
        problem = f"{spec.solution} has no row for {len(absent)} test images, such as '{absent[0]}'."
        raise spec.error("solution", f"{problem} Add them.")
