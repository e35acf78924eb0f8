"""The strict validator: reads a submission from disk as the grader would and says everything that it would refuse.

Nothing is guessed or mended. Lines are counted from 1, the header being line 1, as an editor shows them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.competition import Competition
from src.errors import ProjectError
from src.submission.expected import expected_keys
from src.submission.formats import BadCell, Context, Format
from src.submission.formats.base import fingerprint
from src.submission.formats.table import Sizes, context_of, format_of, shown
from src.submission.formats.whole_file import WholeFile
from src.submission.image_sizes import ImageSizes
from src.submission.reading import SubmissionFile, header_problems, listed, read_file
from src.submission.row_ids import id_problems
from src.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

Grouped = dict[str, list[tuple[int | None, list[Any]]]]  # id → (class, values of the cells) of its rows


class InvalidSubmission(ProjectError):
    """A submission that the grader would refuse; `problems` lists why."""

    def __init__(self, path: str | Path, problems: Sequence[str]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        numbered = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(problems, 1))
        super().__init__(f"{path} would be refused, {count}:\n{numbered}")
        self.problems = list(problems)


def check_submission(path: str | Path, spec: Competition, manifest: "pd.DataFrame") -> list[str]:
    """Raise InvalidSubmission with all problems at once; else answer the warnings of `submission_warnings`.

    Args:
        manifest: `src.manifest.read_manifest`'s; its test rows are what must be predicted, and it knows the classes
            and the sizes of the images.
    """
    test_ids = manifest.loc[manifest["split"] == "test", "id"].tolist()
    known = vocabulary(manifest)
    problems = validate_submission(path, spec, test_ids, **known)
    if problems:
        raise InvalidSubmission(path, problems)
    return submission_warnings(path, spec, test_ids, **known)


def vocabulary(manifest: "pd.DataFrame") -> dict[str, Any]:
    """`classes`, `category_ids` and `sizes` of the test images.

    Classes and ids as far as a manifest knows them; sizes that it does not know are read from the images' files, if
    and when a format asks for one.
    """
    test = manifest[manifest["split"] == "test"]
    sizes: Sizes = {}
    if "width" not in manifest.columns and "path" in manifest.columns:
        sizes = ImageSizes(test["id"].tolist(), test["path"].tolist())
    elif {"width", "height"} <= set(manifest.columns):
        known = test[test["width"].notna() & test["height"].notna()]
        columns = (known[name].tolist() for name in ("id", "width", "height"))
        sizes = {name: (int(width), int(height)) for name, width, height in zip(*columns, strict=True)}
    return {
        "classes": tuple(manifest.attrs.get("classes", ())),
        "category_ids": tuple(manifest.attrs.get("category_ids", ())),
        "sizes": sizes,
    }


def validate_submission(
    path: str | Path,
    spec: Competition,
    test_ids: Sequence[str] | None = None,
    *,
    classes: Sequence[str] = (),
    category_ids: Sequence[int] = (),
    sizes: Sizes | None = None,
) -> list[str]:
    """Every problem of the file, each with lines, found, expected and remedy; an empty list when it is valid.

    Rows are held against the sample submission where the competition has one, and that against `test_ids`;
    without a sample against `test_ids`, in their order. Boxes are held against the `sizes` of their images, (width,
    height) by id or in the order of `test_ids`.

    Raises:
        ProjectError: the classes are needed and not given, or do not fit the spec.
    """
    grammar = format_of(spec)
    context = context_of(spec, ids=test_ids, classes=classes, category_ids=category_ids, sizes=sizes)
    if grammar.whole_file:
        return grammar.problems(path, test_ids, context)
    expected, problems = expected_keys(grammar, spec, test_ids, context)
    file = read_file(path)
    problems += file.problems
    if not file.header:
        return problems
    columns = grammar.header(context)
    names = None if expected is None else [shown(key) for key in expected]
    found, headless = header_problems(file.header, columns, [key[0] for key in expected or ()])
    problems += found
    rows = [(1, file.header), *file.rows] if headless else file.rows
    header = columns if headless else file.header
    rows, ragged = _whole_rows(rows, header)
    problems += ragged
    if not rows and not ragged:
        count = "one row an image" if expected is None else f"{len(expected)} rows"
        problems.append(f"there are no rows below the header. Expected {count}.")
        return problems
    places = {name: header.index(name) for name in columns if header.count(name) == 1}
    key_columns = grammar.key_columns(context)
    keyed = all(name in places for name in key_columns)
    if keyed:
        found_ids = [(line, shown([cells[places[name]] for name in key_columns])) for line, cells in rows]
        repeats = grammar.repeats(context)
        problems += id_problems(found_ids, names, complete=not ragged, repeats=repeats)
    problems += _cell_problems(rows, places, grammar, context, test_ids, key_columns if keyed else [])
    return problems


def read_values(
    path: str | Path,
    spec: Competition,
    test_ids: Sequence[str] | None = None,
    *,
    classes: Sequence[str] = (),
    category_ids: Sequence[int] = (),
    sizes: Sizes | None = None,
) -> dict[str, Any]:
    """id → value of a file that `validate_submission` found valid, in the file's order.

    A value is a number or a text (a score, a label, a caption); Detections for boxes and masks, in pixels of the
    image; (classes,) counts.

    Args:
        test_ids: JSON and rows of several classes name images by them; without them an image that has no entry in
            JSON is left out.

    Raises:
        ProjectError: masks or normalised boxes of an image whose size is not known.
    """
    grammar = format_of(spec)
    context = context_of(spec, ids=test_ids, classes=classes, category_ids=category_ids, sizes=sizes)
    if grammar.whole_file:
        return grammar.values(path, test_ids, context)
    grouped = _grouped(read_file(path), grammar, context, test_ids)
    return {name: grammar.collect(rows, name, context) for name, rows in grouped.items()}


def submission_warnings(
    path: str | Path,
    spec: Competition,
    test_ids: Sequence[str] | None = None,
    *,
    classes: Sequence[str] = (),
    category_ids: Sequence[int] = (),
    sizes: Sizes | None = None,
) -> list[str]:
    """What a grader accepts in a valid file and nobody means to submit."""
    grammar = format_of(spec)
    context = context_of(spec, ids=test_ids, classes=classes, category_ids=category_ids, sizes=sizes)
    if grammar.whole_file:
        return _whole_file_warnings(path, spec, test_ids, grammar, context)
    grouped = _grouped(read_file(path), grammar, context, test_ids)
    values = {name: fingerprint([cells for _, cells in rows]) for name, rows in grouped.items()}
    distinct = set(values.values())
    cells = [cell for rows in grouped.values() for _, row in rows for cell in row]
    warnings = []
    if grammar.empty is not None and all(_is_nothing(cell) for cell in cells):
        warnings.append(f"{grammar.empty}.")
    elif len(values) > 1 and len(distinct) == 1:
        alike = ", ".join(map(str, cells[: len(cells) // len(values)])) if _printable(cells[0]) else "the same boxes"
        warnings.append(f"all {len(values)} rows have the same value ({alike}).")
    warnings += grammar.doubts({name: rows[0][1][0] for name, rows in grouped.items()}, context)
    sample = _sample_values(spec, grammar, context, test_ids)
    if sample and sample == values:
        warnings.append("the file equals the sample submission.")
    return warnings


def _whole_file_warnings(
    path: str | Path, spec: Competition, test_ids: Sequence[str] | None, grammar: WholeFile, context: Context
) -> list[str]:
    own = grammar.warnings(path, test_ids, context)
    if own is not None:
        return own
    values = grammar.values(path, test_ids, context)
    kept = {name: fingerprint(value) for name, value in values.items()}
    warnings = []
    if grammar.empty is not None and all(map(_is_nothing, values.values())):
        warnings.append(f"{grammar.empty}.")
    elif len(kept) > 1 and len(set(kept.values())) == 1:
        one = next(iter(values.values()))
        warnings.append(f"all {len(kept)} images have the same value ({one if _printable(one) else 'the same boxes'}).")
    warnings += grammar.doubts(values, context)
    sample = spec.submission.sample
    if kept and sample is not None and not grammar.problems(sample, test_ids, context):
        own = grammar.values(sample, test_ids, context)
        if {name: fingerprint(value) for name, value in own.items()} == kept:
            warnings.append("the file equals the sample submission.")
    return warnings


def _is_nothing(cell: Any) -> bool:
    return len(cell) == 0 if hasattr(cell, "__len__") else cell in (0, -1)


def _printable(cell: Any) -> bool:
    return isinstance(cell, int | float | str)


def _grouped(
    file: SubmissionFile, grammar: Format, context: Context, test_ids: Sequence[str] | None
) -> Grouped:
    """The read cells of each image's rows; BadCell for a cell that the grammar does not allow."""
    owners = {} if test_ids is None else grammar.owners(test_ids, context)
    key_columns, value_columns = grammar.key_columns(context), grammar.value_columns(context)
    at = {name: file.header.index(name) for name in (*key_columns, *value_columns)}
    readers = list(zip(value_columns, grammar.readers(context), strict=True))
    result: Grouped = {}
    for _, cells in file.rows:
        key = tuple(cells[at[name]] for name in key_columns)
        image_id, label = owners.get(key) or grammar.owner(key, context)
        values = [read(cells[at[name]], context, image_id) for name, read in readers]
        result.setdefault(image_id, []).append((label, values))
    return result


def _sample_values(
    spec: Competition, grammar: Format, context: Context, test_ids: Sequence[str] | None
) -> dict[str, Any] | None:
    """The sample submission's values, or None where there is none or its values are placeholders."""
    if spec.submission.sample is None:
        return None
    table = read_table(spec.submission.sample)
    if not {*grammar.key_columns(context), *grammar.value_columns(context)} <= set(table.columns):
        return None
    rows = [(0, list(cells)) for cells in table.itertuples(index=False, name=None)]
    try:
        grouped = _grouped(SubmissionFile(list(table.columns), rows), grammar, context, test_ids)
    except BadCell:
        return None
    return {name: fingerprint([cells for _, cells in of]) for name, of in grouped.items()}


def _whole_rows(
    rows: Sequence[tuple[int, list[str]]], header: Sequence[str]
) -> tuple[list[tuple[int, list[str]]], list[str]]:
    width = len(header)
    odd = [f"line {line} has {len(cells)}" for line, cells in rows if len(cells) != width]
    whole = [(line, cells) for line, cells in rows if len(cells) == width]
    if not odd:
        return whole, []
    remedy = "Quote cells that contain a comma"
    return whole, [listed(f"rows do not have {width} cells", odd, remedy)]


def _cell_problems(
    rows: Sequence[tuple[int, list[str]]],
    places: dict[str, int],
    grammar: Format,
    context: Context,
    test_ids: Sequence[str] | None,
    key_columns: Sequence[str],
) -> list[str]:
    """What the format's readers say of the value cells, and of the rows of one image together."""
    owners = {} if test_ids is None else grammar.owners(test_ids, context)
    readers = [
        (name, places[name], read)
        for name, read in zip(grammar.value_columns(context), grammar.readers(context), strict=True)
        if name in places
    ]
    bad: dict[tuple[str, str, str], list[str]] = {}
    grouped: Grouped = {}
    for line, cells in rows:
        key = tuple(cells[places[name]] for name in key_columns)
        image_id, label = (owners.get(key) or grammar.owner(key, context)) if key else (None, None)
        values = []
        for name, place, read in readers:
            try:
                values.append(read(cells[place], context, image_id))
            except BadCell as error:
                of = f" (id '{shown(key)}')" if key else ""
                part = repr(cells[place][:40]) if error.found is None else error.found
                bad.setdefault((name, error.kind, error.remedy), []).append(f"line {line} {part}{of}")
        if image_id is not None and len(values) == len(grammar.value_columns(context)):
            grouped.setdefault(image_id, []).append((label, values))
    expected = grammar.expected(context)
    problems = [
        listed(f"rows where column '{column}' {kind}", at, f"Expected {expected}. {remedy.rstrip('.')}")
        for (column, kind, remedy), at in bad.items()
    ]
    for kind, names in _by_image(grouped, grammar, context).items():
        problems.append(listed(f"images {kind}", names, f"Expected {expected}"))
    return problems


def _by_image(grouped: Grouped, grammar: Format, context: Context) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for image_id, rows in grouped.items():
        kind = grammar.row_problems(rows, image_id, context)
        if kind:
            result.setdefault(kind, []).append(repr(image_id))
    return result
