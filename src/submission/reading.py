"""A submission file read from disk as a grader reads it: text cells with their lines, and what is wrong with them."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from src.tables import LONGEST_CELL

_SHOWN = 5
_SAVE = "df.to_csv(path, index=False, encoding='utf-8')"


@dataclass
class SubmissionFile:
    """`rows` are (line in the file, cells) without the header; a file too broken to be parsed has problems only."""

    header: list[str] = field(default_factory=list)
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_file(path: str | Path) -> SubmissionFile:
    """Read and parse; never raises for what the file holds. CRLF and quoted cells are fine."""
    path = Path(path)
    result = SubmissionFile()
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        result.problems.append(
            f"the file {path} {kind}. Check the path, or make it: python make_submission.py runs=[…]."
        )
        return result
    content = path.read_bytes()
    if not content.strip():
        result.problems.append(
            f"the file is empty ({len(content)} bytes). Expected a header line and one row an image."
        )
        return result
    text = _decoded(content, result.problems)
    if text is None:
        return result
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line, blank, records = 1, [], []
    try:
        for cells in reader:
            if cells:
                records.append((line, cells))
            else:
                blank.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        result.problems.append(
            f"line {line}: cannot be parsed as CSV ({error}). A quote is opened and not closed, or text follows a "
            f'closing quote. Double the quotes inside a quoted cell ("") or let pandas write it: {_SAVE}.'
        )
        return result
    if not records:
        result.problems.append("the file has only blank lines. Expected a header line and one row an image.")
        return result
    inner = [f"line {number}" for number in blank if number < records[-1][0]]
    if inner:
        result.problems.append(listed("blank lines between the rows", inner, "Remove them"))
    result.header, result.rows = records[0][1], records[1:]
    return result


def header_problems(
    header: Sequence[str], expected: Sequence[str], known_ids: Sequence[str] = ()
) -> tuple[list[str], bool]:
    """What is wrong with the first line, and whether that line is no header at all but a row."""
    header, expected = list(header), list(expected)
    if header == expected:
        return [], False
    found, wanted = ",".join(header), ",".join(expected)
    known = set(known_ids)
    if any(cell in known for cell in header):
        return [
            f"line 1: there is no header; found the row '{found}', expected '{wanted}'. Write it with header=True."
        ], True
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        mark = next(mark for mark in ";\t|" if mark in header[0])
        return [f"line 1: cells are separated by {mark!r}, expected commas ('{wanted}'). Save with sep=','."], False
    problems = []
    missing = [name for name in expected if name not in header]
    strange = []
    for name in header:
        if name in expected:
            continue
        twin = next((other for other in missing if other.lower() == name.strip().lower()), None)
        if name.strip() == "" or name.startswith("Unnamed:"):
            problems.append(
                f"line 1: found an index column ('{name}') that pandas wrote, expected '{wanted}'. Save with {_SAVE}."
            )
        elif twin is not None:
            missing.remove(twin)
            problems.append(f"line 1: column {name!r} must be written {twin!r}, letter for letter. Rename it.")
        else:
            strange.append(name)
    if len(strange) == len(missing) == 1:
        problems.append(f"line 1: found column '{strange[0]}' where '{missing[0]}' is expected. Rename it.")
    else:
        problems += [f"line 1: column '{n}' is not expected ('{wanted}'). Drop it: df[{expected}]." for n in strange]
        problems += [f"line 1: column '{n}' is missing; found '{found}', expected '{wanted}'." for n in missing]
    for name in sorted({name for name in header if header.count(name) > 1}):
        problems.append(f"line 1: column '{name}' appears {header.count(name)} times. Keep one.")
    if not problems:
        problems.append(f"line 1: columns are in the order '{found}', expected '{wanted}'. Save df[{expected}].")
    return problems, False


def listed(what: str, places: Sequence[str], remedy: str) -> str:
    """One problem with its number of places, the first five of them, and the remedy."""
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return f"{what} ({len(places)}): {', '.join(places[:_SHOWN])}{more}. {remedy}."


def _decoded(content: bytes, problems: list[str]) -> str | None:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.append(f"the file is UTF-16, expected UTF-8. Save it again: {_SAVE}.")
        return None
    if content.startswith(b"\xef\xbb\xbf"):
        problems.append(
            "line 1: the file begins with a byte order mark (Excel's 'CSV UTF-8', or encoding='utf-8-sig'), which many "
            f"graders take for a part of the first column's name. Save it without: {_SAVE}."
        )
        content = content[3:]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        guess = ""
        try:
            content.decode("cp949")
            guess = " It looks like CP949, which Korean Excel writes."
        except UnicodeDecodeError:
            guess = " It may be cut off or not be a text file."
        problems.append(f"line {line}: the bytes are not UTF-8.{guess} Expected UTF-8. Save it again: {_SAVE}.")
        return None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        problems.append(
            f"line {line}: the file holds zero bytes, so it is not a text file or was cut off. Write it again."
        )
        return None
    return text
