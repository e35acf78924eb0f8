"""Whole files or none: write beside the target, flush to the disk, rename."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.errors import ProjectError


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the target's own folder; on success it is fsynced and renamed to the target.

    The temporary name keeps the target's suffix, because writers (pandas, matplotlib, torch) choose by suffix.
    On any error the temporary file is removed and the old target, if there was one, is left as it was.

    Raises:
        ProjectError: the disk is full or the folder cannot be written; the message names the file.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise ProjectError(
            f"could not write {target}: {error.strerror or error}. Free some space or choose another folder; "
            "an older version of the file, if there was one, is untouched."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: str | Path, text: str) -> None:
    """Write UTF-8 text as a whole file."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: str | Path, value: Any) -> None:
    """Write indented UTF-8 JSON as a whole file; NaN is refused, since other readers cannot parse it."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
