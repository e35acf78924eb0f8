"""The ids of a submission's rows against those that the grader asks for: missing, strange, mangled, out of order."""

import re
from collections.abc import Sequence

from src.errors import nearest
from src.submission.reading import listed

_SUGGEST_AMONG = 2000  # ids; a nearest match costs time for each


def sample_problems(name: str, ids: Sequence[str], test_ids: Sequence[str]) -> list[str]:
    """How the ids of a sample submission (`name`: its file) differ from those of the test table, as texts."""
    about = f"the sample submission {name} does not match the test table"
    remedy = "Check competition.root, data.test and data.id, or download both files again"
    known, wanted = set(test_ids), set(ids)
    unknown = [repr(key) for key in dict.fromkeys(ids) if key not in known]
    absent = [repr(key) for key in test_ids if key not in wanted]
    problems = []
    if unknown:
        problems.append(f"{about}: {listed('ids that the table lacks', unknown, remedy)}")
    if absent:
        problems.append(f"{about}: {listed('test ids that it lacks', absent, remedy)}")
    return problems


def id_problems(
    found: list[tuple[int, str]],
    expected: list[str] | None,
    *,
    complete: bool,
    repeats: bool = False,
    ordered: bool = True,
) -> list[str]:
    """What is wrong with the (line, id) of the rows.

    complete: no row of the file had to be left out. repeats: an id may have several rows, in any order. ordered: the
    rows must come in the order of `expected`.
    """
    problems = []
    lines: dict[str, list[int]] = {}
    for line, name in found:
        lines.setdefault(name, []).append(line)
    twice = [f"'{name}' (lines {', '.join(map(str, at[:3]))})" for name, at in lines.items() if len(at) > 1]
    if twice and not repeats:
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
    if repeats:
        return problems
    if complete and len(found) != len(expected):
        problems.append(f"there are {len(found)} rows, expected {len(expected)}.")
    if ordered and complete and not (twice or unknown or absent):
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
