"""The submission ledger: one CSV that ties every file made for a leaderboard to its runs, code and scores.

People may edit it: fill in `public` when the leaderboard answers, add columns and notes, open it in Excel. Whatever
stands there is kept, cell by cell; new rows go to the end.
"""

import csv
import datetime
import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.atomic import write_text
from src.errors import ProjectError, nearest

try:
    import fcntl
except ImportError:  # Windows: one writer at a time
    fcntl = None

COLUMNS = (
    "id", "time", "task", "competition", "runs", "file", "sha256", "git", "config_hash", "metric", "oof", "graded",
    "public", "note",
)  # fmt: skip


def append_entry(path: str | Path, entry: Mapping[str, Any]) -> dict[str, str]:
    """Add one row to the ledger at `path` (made when absent) and answer it as text. Safe with several writers.

    Args:
        entry: values by the names in COLUMNS. `file` (the submission) is required and must exist. What is left out of
            `id` (first 8 digits of the file's hash), `time` (ISO, local with offset), `sha256` and `git` (short
            revision, "+" when files differ from it) is filled in; `runs` may be a list; `public` is for people.

    Raises:
        ProjectError: an unknown name, no such file, or a ledger that cannot be read or written. It is as it was then.
    """
    path = Path(path)
    for name in entry:
        if name not in COLUMNS:
            raise ProjectError(
                f"the ledger has no column '{name}' of its own.{nearest(name, COLUMNS)} Known: {', '.join(COLUMNS)}."
            )
    row = {name: _text(entry.get(name)) for name in COLUMNS}
    for name, value in _facts(row).items():
        row[name] = row[name] or value
    with _locked(path):
        header, rows = _read(path)
        header += [name for name in COLUMNS if name not in header]
        rows.append([row.get(name, "") for name in header])
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([*cells, *[""] * (len(header) - len(cells))] for cells in rows)
        write_text(path, buffer.getvalue())
    return row


def read_ledger(path: str | Path) -> list[dict[str, str]]:
    """All rows as text by column, COLUMNS always among them; an empty list when there is no ledger yet.

    Raises:
        ProjectError: the file is no CSV.
    """
    header, rows = _read(Path(path))
    empty = dict.fromkeys(COLUMNS, "")
    return [{**empty, **dict(zip(header, cells, strict=False))} for cells in rows]


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, 64 hex digits.

    Raises:
        ProjectError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:  # archives of maps may be larger than the memory
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ProjectError(f"the submission {path} cannot be read ({error.strerror or error}).") from error


def _facts(row: Mapping[str, str]) -> dict[str, str]:
    from src.runs import git_revision

    if not row["file"]:
        raise ProjectError("a ledger entry needs `file`, the submission that it is about.")
    digest = file_hash(row["file"])
    facts = {
        "id": (row["sha256"] or digest)[:8],
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "sha256": digest,
    }
    if not row["git"]:
        git = git_revision()
        facts["git"] = f"{(git['revision'] or '')[:10]}{'+' if git['dirty'] else ''}"
    return facts


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value)
    if isinstance(value, float):
        return repr(float(value))
    return str(value)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the ledger's lock file. It stays behind on purpose: removing it would let two writers in."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("a")
    except OSError as error:
        raise ProjectError(f"the ledger {path} cannot be locked ({error.strerror or error}).") from error
    with lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows, cells as they stand; a row longer than the header gives it columns named extra_1, ….

    Read apart from `src.tables`, which refuses ragged rows and repeated names: here a person's row is never refused.
    """
    if not path.is_file():
        return [], []
    content = path.read_bytes()
    for encoding in ("utf-8-sig", "cp949"):  # Excel adds a mark, or in Korea writes CP949
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise ProjectError(f"the ledger {path} is neither UTF-8 nor CP949 text. Save it as CSV UTF-8, or move it away.")
    try:
        records = [cells for cells in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ProjectError(f"the ledger {path} cannot be read as CSV ({error}). Mend it, or move it away.") from error
    if not records:
        return [], []
    header, *rows = records
    if "id" not in header and "file" not in header:
        raise ProjectError(f"{path} is not a ledger (its first line is '{','.join(header)[:80]}'). Move it away.")
    widest = max(map(len, records))
    header += [f"extra_{number}" for number in range(1, widest - len(header) + 1)]
    return header, rows
