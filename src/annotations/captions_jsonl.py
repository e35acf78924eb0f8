"""Captions in JSON records: an object a line (JSON Lines, as NIKL's corpora), or one list of objects.

Keys may be nested: `input.image` is the key `image` of the object under `input`, and `turns.1.value` counts a list from
0. Records of one id are one image.
"""

from __future__ import annotations

from collections.abc import Sequence

from src.annotations.box_tables import table_name
from src.annotations.captions_reading import CaptionReading, add_value
from src.annotations.json_records import ABSENT, Record, key_names, read_records, scalar_at, value_at
from src.competition import Competition
from src.errors import nearest
from src.layouts import resolve_files
from src.listing import Tree
from src.rows import Rows, check_rows, one_row_an_image


def read_train(spec: Competition) -> tuple[Rows, CaptionReading]:
    """The training images and their captions.

    Raises:
        ProjectError: a line that is no JSON object, a key that is missing, an image that is missing, or none of the
            records has a caption's key.
    """
    records = _records(spec, "train")
    reading = _captions(records, spec.data.id, spec.data.captions.columns)
    _check_columns(spec, "data.captions.columns", records, spec.data.captions.columns)
    return _rows(spec, "train", records), reading


def read_rows(spec: Competition, split: str) -> Rows:
    """The images of a split."""
    return _rows(spec, split, _records(spec, split))


def read_test(spec: Competition) -> tuple[Rows, CaptionReading]:
    """The test images and the captions that their file has, if any."""
    records = _records(spec, "test")
    return _rows(spec, "test", records), _captions(records, spec.data.id, spec.data.captions.columns)


def read_solution(spec: Competition, rows: Rows) -> CaptionReading:
    """Captions of the test images in another file of records, with the keys of the training file."""
    records = read_records(spec.solution, table_name(spec.solution, spec.root))
    _check_columns(spec, "solution", records, spec.data.captions.columns)
    return _captions(records, spec.data.id, spec.data.captions.columns)


def _records(spec: Competition, split: str) -> list[Record]:
    name = spec.data.train if split == "train" else spec.data.test
    return read_records(spec.locate(name), name)


def _rows(spec: Competition, split: str, records: Sequence[Record]) -> Rows:
    data = spec.data
    texts = []
    for record in records:
        text = ""
        for literal, key in data.path_parts():
            text += literal
            if key == "split" and value_at(record.values, key) is ABSENT:
                text += split
            elif key is not None:
                text += scalar_at(record, key, "data.path")
        texts.append(text)
    sources = [record.source for record in records]
    start = data.images_of(split)
    paths = resolve_files(spec, "data.path", "image", texts, sources, Tree(spec.root), start=start)
    rows = Rows([scalar_at(record, data.id, "data.id") for record in records], paths, sources)
    if split == "train" and data.group is not None:
        rows.groups = [scalar_at(record, data.group, "data.group", optional=True) or None for record in records]
    rows = one_row_an_image(rows)
    check_rows(spec, split, rows)
    return rows


def _captions(records: Sequence[Record], identifier: str, columns: Sequence[str]) -> CaptionReading:
    reading = CaptionReading()
    for record in records:
        name = scalar_at(record, identifier, "data.id")
        for column in columns:
            value = value_at(record.values, column)
            if value is not ABSENT and not (value is None and len(columns) > 1):  # room for more is no news
                add_value(reading, name, value, record.source, column)
    return reading


def _check_columns(spec: Competition, key: str, records: Sequence[Record], columns: Sequence[str]) -> None:
    """Refuse a key of captions that no record has."""
    for column in columns:
        if all(value_at(record.values, column) is ABSENT for record in records):
            keys = list(dict.fromkeys(name for record in records[:100] for name in key_names(record.values)))
            where = records[0].source.rpartition(":")[0] or records[0].source
            problem = f"no record of {where} has the key '{column}'.{nearest(column, keys)}"
            raise spec.error(key, f"{problem} Keys: {', '.join(keys[:20])}.")
