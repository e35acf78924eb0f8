"""The file around the cells: header, order and number of rows, ids verbatim, quoting, encoding."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.atomic import write_text
from src.competition import Competition
from src.errors import ProjectError, nearest
from src.submission.formats.base import Context, Format, Key, Row
from src.submission.image_sizes import ImageSizes
from src.tables import read_table

Sizes = Mapping[str, tuple[int, int]] | Sequence[tuple[int, int]]


def write_submission(
    path: str | Path,
    ids: Sequence[str],
    values: Sequence[Any],
    spec: Competition,
    *,
    threshold: float | None = None,
    classes: Sequence[str] = (),
    category_ids: Sequence[int] = (),
    sizes: Sizes | None = None,
) -> Path:
    """Write a whole submission: the spec's header, `ids` verbatim, an image's rows by its format; UTF-8, "\\n".

    Rows come in the order of the sample submission, or without one in the order of `ids` (the test table's).
    Formats of a whole file write JSON, or an archive, instead (`FORMATS[…].file_suffix` is how its name ends).

    Args:
        values: one prediction an id: raw scores, or for the format `label` scores with the `threshold` at and
            above which an image is anomalous, or the label texts themselves; Detections for formats of boxes;
            (classes,) counts for formats of counts, or one number for `count`; Detections with masks, or bool
            masks, for `rle`; MapAndMask for `map_folder`; a text for captions. A sequence that makes its items when
            they are asked for is asked for each once, in turn.
        threshold: for Detections the score at and above which a box is written.
        classes, category_ids: names and ids of the classes, in the order of the label indices.
        sizes: (width, height) of each image, by id or in the order of `ids`.

    Raises:
        ProjectError: an id that is no text, missing, unknown or repeated, a value that cannot be written, or
            a format `label` without a threshold. Nothing is written then.
    """
    ids = list(ids)
    if isinstance(values, np.ndarray) and values.dtype == object:
        values = values.tolist()
    elif not isinstance(values, Sequence):
        values = list(values)
    if len(ids) != len(values):
        raise ProjectError(f"{len(ids)} ids but {len(values)} predictions: a submission needs one for each.")
    _check_ids(ids)
    grammar = format_of(spec)
    context = context_of(
        spec, ids=ids, classes=classes, category_ids=category_ids, sizes=sizes, threshold=threshold
    )
    if grammar.whole_file:
        grammar.write_file(path, ids, values, context)
        return Path(path)
    rows = _written(grammar, ids, values, spec, context)
    columns = [*grammar.key_columns(context), *grammar.value_columns(context)]
    header = grammar.header(context)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(header)
    for row in rows:
        cell = dict(zip(columns, (*row.key, *row.cells), strict=True))
        writer.writerow([cell[name] for name in header])
    write_text(path, buffer.getvalue())
    return Path(path)


def format_of(spec: Competition) -> Format:
    """The competition's format."""
    from src.submission.formats import FORMATS

    return FORMATS[spec.submission.format]


def context_of(
    spec: Competition,
    *,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] = (),
    category_ids: Sequence[int] = (),
    sizes: Sizes | None = None,
    threshold: float | None = None,
) -> Context:
    """What the competition's grammar depends on, checked; `sizes` that are no mapping are those of `ids`.

    Raises:
        ProjectError: as many category ids as classes are not given, or as many sizes as ids.
    """
    if classes and category_ids and len(classes) != len(category_ids):
        raise ProjectError(f"{len(classes)} classes but {len(category_ids)} category ids: give one for each.")
    if sizes is None:
        sizes = {}
    elif not isinstance(sizes, Mapping):
        if ids is None or len(sizes) != len(ids):
            count = "no ids" if ids is None else f"{len(ids)} ids"
            raise ProjectError(f"{len(sizes)} sizes but {count}: give one for each, or a mapping of id to size.")
        sizes = dict(zip(ids, sizes, strict=True))
    if not isinstance(sizes, ImageSizes):  # those are read when they are needed, not here
        sizes = {name: (int(width), int(height)) for name, (width, height) in sizes.items()}
    return Context(
        spec=spec.submission,
        classes=tuple(map(str, classes)),
        category_ids=tuple(map(int, category_ids)),
        sizes=sizes,
        threshold=threshold,
        records=_records(spec),
    )


def _records(spec: Competition) -> Path | None:
    if spec.submission.sample is not None:
        return spec.submission.sample
    return spec.locate(spec.data.test) if spec.data.layout == "jsonl" else None


def sample_ids(spec: Competition) -> list[str]:
    """The ids of the sample submission, in its order, as text.

    Raises:
        ProjectError: the table is unreadable, or lacks the id column.
    """
    column = spec.submission.columns["id"]
    return [key[0] for key in sample_keys(spec, [column])]


def sample_keys(spec: Competition, columns: Sequence[str]) -> list[Key]:
    """The key cells of the sample submission's rows, in its order, as text; raises as `sample_ids` does."""
    table = read_table(spec.submission.sample)
    for column in columns:
        if column not in table:
            raise spec.error(
                "submission.columns",
                f"the sample submission {spec.submission.sample} has no column '{column}'."
                f"{nearest(column, table.columns)} Its columns: {', '.join(table.columns)}.",
            )
    return list(zip(*(table[column] for column in columns), strict=True))


def shown(key: Key) -> str:
    """A key in a message."""
    return ", ".join(key)


class _Picked(Sequence):
    """Some items of a sequence, in another order, each made when it is asked for."""

    def __init__(self, values: Sequence[Any], rows: Sequence[int]) -> None:
        self._values, self._rows = values, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return self._values[self._rows[index]]


def _check_ids(ids: Sequence[str]) -> None:
    row_of: dict[str, int] = {}
    for row, sample_id in enumerate(ids):
        if not isinstance(sample_id, str):
            raise ProjectError(
                f"id {sample_id!r} (row {row}) is {type(sample_id).__name__}, not text: leading zeros may be lost. "
                "Read ids as text, as src.manifest does."
            )
        if sample_id in row_of:
            raise ProjectError(f"id '{sample_id}' has two predictions (rows {row_of[sample_id]} and {row}).")
        row_of[sample_id] = row


def _written(
    grammar: Format, ids: Sequence[str], values: Sequence[Any], spec: Competition, context: Context
) -> list[Row]:
    """All rows in the order of the file."""
    if spec.submission.sample is None:
        grammar.owners(ids, context)  # two images with one key are refused here
        return grammar.write(ids, values, context)
    order = list(sample_keys(spec, grammar.key_columns(context)))
    own = [key for name in ids for key in grammar.keys(name, context)]
    _check_same(own, list(dict.fromkeys(order)) if grammar.repeats(context) else order, spec)
    place = {name: row for row, name in enumerate(ids)}
    owners = grammar.owners(ids, context)
    images = list(dict.fromkeys(owners[key][0] for key in order))
    rows = grammar.write(images, _Picked(values, [place[name] for name in images]), context)
    if grammar.repeats(context):
        return rows
    row_of = {row.key: row for row in rows}
    return [row_of[key] for key in order]


def _check_same(own: Iterable[Key], order: Sequence[Key], spec: Competition) -> None:
    known, wanted = dict.fromkeys(own), set(order)
    lacking = [shown(key) for key in order if key not in known]
    extra = [shown(key) for key in known if key not in wanted]
    if lacking or extra or len(order) != len(wanted):
        parts = []
        if lacking:
            parts.append(f"{len(lacking)} ids of the sample have no prediction: {', '.join(map(repr, lacking[:5]))}")
        if extra:
            parts.append(f"{len(extra)} predicted ids are not in the sample: {', '.join(map(repr, extra[:5]))}")
        if len(order) != len(wanted):
            parts.append("the sample repeats an id")
        raise ProjectError(
            f"the predictions do not match the sample submission {spec.submission.sample}: {'; '.join(parts)}. "
            "Predict the competition's own test images (infer.py run=… without images=)."
        )
