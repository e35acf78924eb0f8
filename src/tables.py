"""CSV and TSV tables as text: every cell a string, every row with its line in the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from src.errors import ProjectError, nearest

if TYPE_CHECKING:
    import pandas as pd

# utf-8-sig reads UTF-8 with and without the mark that Excel writes; cp949 is Korean Excel's default.
# Order matters: Korean text in UTF-8 is often legal cp949 too, and would be read as nonsense.
ENCODINGS = ("utf-8-sig", "cp949")
LONGEST_CELL = 2**31 - 1  # run-length masks pass the csv module's 128 KiB


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a whole table; nothing is parsed, so "007" stays "007", "NA" stays "NA" and an empty cell is "".

    Returns:
        One object column of str per named column; the index ("row") is the line in the file where the row
        begins, the header being line 1, as a spreadsheet shows it. Blank lines are skipped.

    Raises:
        ProjectError: no such file, neither UTF-8 nor cp949, no header, a column named twice, or a row with
            another number of cells than the header.
    """
    import pandas as pd  # a header alone, at start-up, must not wait for it

    records = _records(path)
    header = _header(path, records)
    width = len(header)
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, cells in records:
        if len(cells) != width:
            if len(cells) < width or any(cells[width:]):
                raise ProjectError(
                    f"{path}, row {line}: {len(cells)} cells where the header has {width} columns "
                    f"({', '.join(header)}). Put a text that contains the separator in double quotes."
                )
            cells = cells[:width]  # a spreadsheet's empty columns at the end
        rows.append(cells)
        lines.append(line)
    columns = list(zip(*rows, strict=True)) if rows else [()] * width
    return pd.DataFrame(
        {name: pd.Series(cells, dtype=object) for name, cells in zip(header, columns, strict=True) if name}
    ).set_axis(pd.Index(lines, name="row", dtype="int64"), axis=0)


def read_header(path: str | Path) -> list[str]:
    """Column names of a table, in order; raises as `read_table` does for what is wrong with the header."""
    return _header(path, _records(path))


def missing_column(path: str | Path, header: Iterable[str], column: str) -> str:
    """The sentence for a column that a table lacks: the table, the column, the nearest one, what there is."""
    names = [name for name in header if name]
    text = f"{path} has no column '{column}'.{nearest(column, names)} Its columns: {', '.join(names)}."
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        text += " The table is not separated by commas: save it as CSV with commas, or as .tsv with tabs."
    return text


def differing_ids(found: Iterable[str], expected: Iterable[str]) -> str:
    """ "2 ids are missing ('7', '8'), 1 is unknown ('007')", or "" where both are the same set."""
    have, want = dict.fromkeys(found), dict.fromkeys(expected)
    absent = [value for value in want if value not in have]
    extra = [value for value in have if value not in want]
    parts = []
    for ids, one, many in ((absent, "is missing", "are missing"), (extra, "is unknown", "are unknown")):
        if ids:
            shown = ", ".join(map(repr, ids[:3])) + (", …" if len(ids) > 3 else "")
            parts.append(f"{len(ids)} {'id ' + one if len(ids) == 1 else 'ids ' + many} ({shown})")
    return ", ".join(parts)


def _records(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """(first line of the record, its cells) for every record that is not a blank line."""
    path = Path(path)
    text = read_text(path, kind="table")
    csv.field_size_limit(LONGEST_CELL)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise ProjectError(f"{path}, row {line}: unreadable ({error}). Check the quotes there.") from error


def read_text(path: Path, *, kind: str = "file") -> str:
    """A whole file of UTF-8 or cp949 text, without a byte order mark.

    Raises:
        ProjectError: it cannot be read, or is neither.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProjectError(f"could not read the {kind} {path}: {error.strerror or error}.") from error
    for encoding in ENCODINGS:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ProjectError(
        f"{path} is neither UTF-8 nor cp949 (Korean Excel) text. In the spreadsheet, save it as 'CSV UTF-8'."
    )


def _header(path: str | Path, records: Iterator[tuple[int, list[str]]]) -> list[str]:
    header = next(records, (0, []))[1]
    if not any(header):
        raise ProjectError(f"{path} is empty: its first line must name the columns.")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ProjectError(f"{path}: column '{twice[0]}' appears twice in the header. Rename one of them.")
    return header
