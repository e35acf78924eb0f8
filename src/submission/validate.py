"""The strict validator: reads a submission from disk as the grader would and says everything that it would refuse.

Nothing is guessed or mended. Lines are counted from 1, the header being line 1, as an editor shows them.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.competition import Competition
from src.errors import ProjectError, nearest
from src.submission.formats import FORMATS, BadCell, sample_ids
from src.submission.reading import header_problems, listed, read_file
from src.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

_SUGGEST_AMONG = 2000  # ids; a nearest match costs time for each


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
        manifest: `src.manifest.read_manifest`'s; its test rows are what must be predicted.
    """
    test_ids = manifest.loc[manifest["split"] == "test", "id"].tolist()
    problems = validate_submission(path, spec, test_ids)
    if problems:
        raise InvalidSubmission(path, problems)
    return submission_warnings(path, spec)


def validate_submission(path: str | Path, spec: Competition, test_ids: Sequence[str] | None = None) -> list[str]:
    """Every problem of the file, each with lines, found, expected and remedy; an empty list when it is valid.

    Rows are held against the sample submission where the competition has one, and that against `test_ids`;
    without a sample against `test_ids`, in their order.
    """
    expected_ids, problems = _expected_ids(spec, test_ids)
    file = read_file(path)
    problems += file.problems
    if not file.header:
        return problems
    columns = list(spec.submission.columns.values())
    found, headless = header_problems(file.header, columns, expected_ids or ())
    problems += found
    rows = [(1, file.header), *file.rows] if headless else file.rows
    header = columns if headless else file.header
    rows, ragged = _whole_rows(rows, header)
    problems += ragged
    if not rows and not ragged:
        problems.append(f"there are no rows below the header. Expected {_count(expected_ids)}.")
        return problems
    places = {role: header.index(name) for role, name in spec.submission.columns.items() if header.count(name) == 1}
    if "id" in places:
        found_ids = [(line, cells[places["id"]]) for line, cells in rows]
        problems += _id_problems(found_ids, expected_ids, complete=not ragged)
    if "value" in places:
        problems += _value_problems(rows, places, spec)
    return problems


def read_values(path: str | Path, spec: Competition) -> dict[str, Any]:
    """id → value of a file that `validate_submission` found valid, in the file's order."""
    file = read_file(path)
    columns = spec.submission.columns
    at, value = file.header.index(columns["id"]), file.header.index(columns["value"])
    read = FORMATS[spec.submission.format].read
    return {cells[at]: read(cells[value], spec.submission) for _, cells in file.rows}


def submission_warnings(path: str | Path, spec: Competition) -> list[str]:
    """What a grader accepts in a valid file and nobody means to submit."""
    values = read_values(path, spec)
    distinct = set(values.values())
    warnings = []
    if len(values) > 1 and len(distinct) == 1:
        warnings.append(f"all {len(values)} rows have the same value ({next(iter(distinct))}).")
    elif spec.submission.format == "score" and len(values) > 10 and len(distinct) == 2:
        warnings.append("the scores take two values only: a ranking metric loses by that. Submit raw scores.")
    sample = _sample_values(spec)
    if sample and sample == values:
        warnings.append("the file equals the sample submission.")
    return warnings


def _sample_values(spec: Competition) -> dict[str, Any] | None:
    """The sample submission's values, or None where there is none or its values are placeholders."""
    if spec.submission.sample is None:
        return None
    table, columns = read_table(spec.submission.sample), spec.submission.columns
    if columns["value"] not in table:
        return None
    read = FORMATS[spec.submission.format].read
    try:
        cells = [read(text, spec.submission) for text in table[columns["value"]]]
    except BadCell:
        return None
    return dict(zip(table[columns["id"]], cells, strict=True))


def _expected_ids(spec: Competition, test_ids: Sequence[str] | None) -> tuple[list[str] | None, list[str]]:
    """The ids that the grader asks for, in order, and how the sample submission differs from the test table."""
    if spec.submission.sample is None:
        return (None if test_ids is None else list(test_ids)), []
    try:
        ids = sample_ids(spec)
    except ProjectError as error:
        return (None if test_ids is None else list(test_ids)), [f"the sample submission is unusable: {error}"]
    problems = []
    about = f"the sample submission {spec.submission.sample.name} does not match the test table"
    repeated = [f"'{name}' ({count} times)" for name, count in Counter(ids).items() if count > 1]
    if repeated:
        problems.append(listed(f"ids repeat in {spec.submission.sample.name}", repeated, "Download it again"))
    if test_ids is not None:
        remedy = "Check competition.root, data.test and data.id, or download both files again"
        known, wanted = set(test_ids), set(ids)
        unknown = [repr(name) for name in dict.fromkeys(ids) if name not in known]
        absent = [repr(name) for name in test_ids if name not in wanted]
        if unknown:
            problems.append(f"{about}: {listed('ids that the table lacks', unknown, remedy)}")
        if absent:
            problems.append(f"{about}: {listed('test ids that it lacks', absent, remedy)}")
    return list(dict.fromkeys(ids)), problems


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


def _id_problems(found: list[tuple[int, str]], expected: list[str] | None, *, complete: bool) -> list[str]:
    problems = []
    lines: dict[str, list[int]] = {}
    for line, name in found:
        lines.setdefault(name, []).append(line)
    twice = [f"'{name}' (lines {', '.join(map(str, at[:3]))})" for name, at in lines.items() if len(at) > 1]
    if twice:
        problems.append(listed("ids appear more than once", twice, "Keep one row an id"))
    if expected is None:
        return problems
    wanted = set(expected)
    absent = [name for name in expected if name not in lines]
    mangled, unknown = _sorted_out([(at[0], name) for name, at in lines.items() if name not in wanted], absent)
    for kind, (places, remedy) in _by_kind(mangled).items():
        problems.append(listed(kind, places, remedy))
    meant = {name: right for _, name, right, _ in mangled}
    taken = set(meant.values())
    absent = [name for name in absent if name not in taken]
    if unknown:
        places = [f"line {line} '{name}'" for line, name in unknown]
        hint = nearest(unknown[0][1], expected) if len(expected) <= _SUGGEST_AMONG else ""
        example = hint.strip().rstrip("?") + "? " if hint else ""
        problems.append(listed("ids are not in the test set", places, f"{example}Expected ids such as '{expected[0]}'"))
    if absent and complete:
        problems.append(listed("ids are missing", [repr(name) for name in absent], "Every test image needs a row"))
    if complete and len(found) != len(expected):
        problems.append(f"there are {len(found)} rows, expected {len(expected)}.")
    if complete and not (twice or unknown or absent):
        read = [meant.get(name, name) for _, name in found]
        at = next((row for row, (a, b) in enumerate(zip(read, expected, strict=True)) if a != b), None)
        if at is not None:
            problems.append(
                f"rows are in another order than expected: line {found[at][0]} has id '{found[at][1]}', expected "
                f"'{expected[at]}'. Graders that compare by position score such a file wrong. Reorder it: "
                "df.set_index(id_column).loc[sample[id_column]].reset_index()."
            )
    return problems


def _sorted_out(
    strange: list[tuple[int, str]], absent: Sequence[str]
) -> tuple[list[tuple[int, str, str, str]], list[tuple[int, str]]]:
    """Split unexpected (line, id) into (line, id, absent id that was meant, how it was changed) and unknown ones."""
    by_number: dict[str, list[str]] = {}
    for name in absent:
        by_number.setdefault(_number(name) or name.strip(), []).append(name)
    mangled, unknown = [], []
    for line, name in strange:
        meant = by_number.get(_number(name) or name.strip(), [])
        if len(meant) != 1:
            unknown.append((line, name))
        elif name.strip() == meant[0].strip():
            mangled.append((line, name, meant[0], "spaces"))
        else:
            mangled.append((line, name, meant[0], "decimal" if "." in name else "zeros"))
    return mangled, unknown


def _by_kind(mangled: Sequence[tuple[int, str, str, str]]) -> dict[str, tuple[list[str], str]]:
    as_text = "Ids are text: read every table with dtype={'<id column>': str}"
    kinds = {
        "zeros": ("ids lost their leading zeros", as_text),
        "decimal": ("ids became decimal numbers", as_text),
        "spaces": ("ids have other spaces around them", "Strip them, or keep those of the test table"),
    }
    result: dict[str, tuple[list[str], str]] = {}
    for line, name, right, kind in mangled:
        what, remedy = kinds[kind]
        result.setdefault(what, ([], remedy))[0].append(f"line {line} '{name}' for '{right}'")
    return result


def _number(name: str) -> str | None:
    """The digits of a whole number without leading zeros or a decimal end; None for any other text."""
    match = re.fullmatch(r"0*(\d+)(?:\.0+)?", name.strip())
    return match.group(1) if match else None


def _value_problems(rows: Sequence[tuple[int, list[str]]], places: dict[str, int], spec: Competition) -> list[str]:
    grammar, column = FORMATS[spec.submission.format], spec.submission.columns["value"]
    bad: dict[tuple[str, str], list[str]] = {}
    for line, cells in rows:
        text = cells[places["value"]]
        try:
            grammar.read(text, spec.submission)
        except BadCell as error:
            of = f" (id '{cells[places['id']]}')" if "id" in places else ""
            bad.setdefault((error.kind, error.remedy), []).append(f"line {line} {text[:40]!r}{of}")
    expected = grammar.expected(spec.submission)
    return [
        listed(f"rows where column '{column}' {kind}", at, f"Expected {expected}. {remedy.rstrip('.')}")
        for (kind, remedy), at in bad.items()
    ]


def _count(expected: list[str] | None) -> str:
    return "one row an image" if expected is None else f"{len(expected)} rows"
