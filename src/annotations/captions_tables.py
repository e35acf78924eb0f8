"""Captions in CSV tables: a row a caption or a column a caption, in the table of images or in one of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.annotations.box_tables import table_name
from src.annotations.captions_reading import CaptionReading
from src.annotations.tables import place_ids
from src.captions.cleaning import is_nothing
from src.competition import Competition
from src.data_spec import CaptionTable
from src.layouts import read_rows  # `read_rows` is also this reader's own
from src.rows import Rows
from src.tables import missing_column, read_table

if TYPE_CHECKING:
    import pandas as pd


def read_train(spec: Competition) -> tuple[Rows, CaptionReading]:
    """The training images, and what the tables say of them.

    Raises:
        ProjectError: whatever the tables have wrong, or ids of theirs that are images' but for their spelling.
    """
    rows, table = read_rows(spec, "train"), spec.data.captions
    path = spec.locate(spec.data.train if table.file is None else table.file)
    reading = read_captions(read_table(path), table, table_name(path, spec.root))
    place_ids(spec, "data.captions", reading.reports, reading.texts, rows, path)
    return rows, reading


def read_test(spec: Competition) -> tuple[Rows, None]:
    """The test images; a table of them does not answer for itself."""
    return read_rows(spec, "test"), None


def read_captions(table: pd.DataFrame, spec: CaptionTable, name: str) -> CaptionReading:
    """Captions of each id in a table of `src.tables.read_table`; `name` is its file, for messages.

    Where a row has room for several, its captions stand before those of the next row, and cells left over are no news.
    """
    reading = CaptionReading()
    several = len(spec.columns) > 1 or spec.separator is not None
    cells = zip(*(table[column] for column in spec.columns), strict=True)
    for line, identifier, row in zip(table.index, table[spec.id], cells, strict=True):
        source = f"{name}:{line}"
        if spec.separator is not None:
            row = [text for cell in row for text in cell.split(spec.separator)]
        for text in row:
            if not several or not is_nothing(text):
                reading.add(identifier, text, source)
    return reading


def read_solution(spec: Competition, rows: Rows) -> CaptionReading:
    """Captions of the test images in a solution table: it has columns of data.captions, or that of a submission.

    Raises:
        ProjectError: it has no column of ids or none of captions.
    """
    path, data = spec.solution, spec.data
    if path.suffix.lower() in (".json", ".jsonl"):
        raise spec.error("solution", f"{path} is no table, and the layout csv needs one. Name a .csv or .tsv.")
    table = read_table(path)
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
