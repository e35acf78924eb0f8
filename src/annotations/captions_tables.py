"""Captions in CSV tables: a row a caption or a column a caption, in the table of images or in one of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from src.annotations.box_tables import table_name
from src.annotations.captions_reading import CaptionReading
from src.annotations.tables import place_ids
from src.competition import Competition
from src.data_spec import CaptionTable
from src.layouts import Rows, read_rows
from src.tables import missing_column, read_table

if TYPE_CHECKING:
    import pandas as pd


def read_split(spec: Competition, split: str, *, captions: bool) -> tuple[Rows, CaptionReading | None]:
    """The images of a split and, with `captions`, what the tables say of them, by id.

    Raises:
        ProjectError: whatever the tables have wrong, or ids of theirs that are images' but for their spelling.
    """
    rows = read_rows(spec, split)
    if not captions:
        return rows, None
    table = spec.data.captions
    path = spec.locate(spec.data.train if table.file is None else table.file)
    reading = read_captions(read_table(path), table, table_name(path, spec.root))
    place_ids(spec, "data.captions", reading.reports, reading.texts, rows, path)
    return rows, reading


def read_captions(table: pd.DataFrame, spec: CaptionTable, name: str) -> CaptionReading:
    """Captions of each id in a table of `src.tables.read_table`; `name` is its file, for messages."""
    reading = CaptionReading()
    several = len(spec.columns) > 1
    for column in spec.columns:
        where = f" {column}" if several else ""
        for line, identifier, cell in zip(table.index, table[spec.id], table[column], strict=True):
            for text in cell.split(spec.separator) if spec.separator is not None else (cell,):
                reading.add(identifier, text, f"{name}:{line}{where}")
    return reading


def read_solution_table(spec: Competition, path: Path) -> CaptionReading:
    """Captions of the test images in a solution table: it has columns of data.captions, or that of a submission.

    Raises:
        ProjectError: it has no column of ids or none of captions.
    """
    table, data = read_table(path), spec.data
    header, columns = list(table.columns), spec.submission.columns
    ids = [data.captions.id if data.captions is not None else None, data.id, columns.get("id"), "id"]
    identifier = next((column for column in ids if column in header), None)
    if identifier is None:
        raise spec.error("solution", missing_column(path, header, ids[0] or "id"))
    named = data.captions.columns if data.captions is not None else ("caption",)
    found = tuple(column for column in named if column in header)
    if not found and columns.get("value") in header:
        found = (columns["value"],)
    if not found:
        raise spec.error("solution", missing_column(path, header, named[0]))
    separator = data.captions.separator if data.captions is not None else None
    own = CaptionTable(file=None, id=identifier, columns=found, separator=separator)
    return read_captions(table, own, table_name(path, spec.root))
