"""Records of a JSON Lines file, or of a JSON list, each with its place in the file; values by dotted keys."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import ProjectError, nearest
from src.tables import read_text

ABSENT: Any = object()


@dataclass(frozen=True)
class Record:
    """One JSON object, and where it stands, for messages: "train.jsonl:7", or "train.json record 7"."""

    values: dict[str, Any]
    source: str


def read_records(path: Path, name: str) -> list[Record]:
    """All records of a file; blank lines are passed over. `name` is the file in messages.

    Raises:
        ProjectError: it cannot be read, holds no record, or a line or an item that is no JSON object.
    """
    text = read_text(path)
    records = _of_list(text, name) if text.lstrip().startswith("[") else _of_lines(text, name)
    if not records:
        raise ProjectError(f"{path} is empty: no record, expected a JSON object a line or a list of objects.")
    for record in records:
        if not isinstance(record.values, dict):
            found = type(record.values).__name__
            raise ProjectError(f"{record.source}: a {found}, where an object with keys is expected.")
    return records


def value_at(values: Any, key: str) -> Any:
    """The value of a key, which may be dotted; ABSENT where there is none. A key that itself has a dot comes first."""
    if isinstance(values, dict) and key in values:
        return values[key]
    head, dot, rest = key.partition(".")
    if isinstance(values, list) and head.isdecimal() and int(head) < len(values):
        inner = values[int(head)]
    elif isinstance(values, dict) and dot and head in values:
        inner = values[head]
    else:
        return ABSENT
    return value_at(inner, rest) if dot else inner


def scalar_at(record: Record, key: str, named_by: str, *, optional: bool = False) -> str:
    """A text or whole number as text: 7 is "7" and "007" stays. `named_by` is the spec's key that names `key`.

    Raises:
        ProjectError: no such key (with `optional`: ""), or a value of another type.
    """
    value = value_at(record.values, key)
    if optional and (value is ABSENT or value is None):
        return ""
    if value is ABSENT:
        names = key_names(record.values)
        problem = f"{record.source}: no key '{key}', which {named_by} names.{nearest(key, names)}"
        raise ProjectError(f"{problem} Keys: {', '.join(names[:20]) or 'none'}.")
    if isinstance(value, bool) or not isinstance(value, str | int):
        inner = f" Name a key inside it, as in {key}.{next(iter(value))}." if isinstance(value, dict) and value else ""
        problem = f"{record.source}: '{key}', which {named_by} names, is {value!r:.60}"
        raise ProjectError(f"{problem}, expected a text or a whole number.{inner}")
    return str(value)


def key_names(values: dict[str, Any], *, depth: int = 3) -> list[str]:
    """The keys of a record, dotted where they are nested."""
    names: list[str] = []
    for key, value in values.items():
        names.append(str(key))
        if isinstance(value, dict) and depth > 1:
            names += [f"{key}.{inner}" for inner in key_names(value, depth=depth - 1)]
    return names


def _of_lines(text: str, name: str) -> list[Record]:
    records = []
    # not splitlines: a sentence may hold U+2028 and other characters at which that would cut
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(Record(json.loads(line), f"{name}:{number}"))
        except (ValueError, RecursionError) as error:
            raise ProjectError(_broken(text, name, number, line, error)) from error
    return records


def _of_list(text: str, name: str) -> list[Record]:
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"{name}:{error.lineno}: not JSON ({error.msg}, column {error.colno})"
        raise ProjectError(f"{problem}. Correct the file there; it may be cut off.") from error
    except RecursionError as error:
        raise ProjectError(f"{name}: not readable as JSON, nested too deep.") from error
    return [Record(item, f"{name} record {number}") for number, item in enumerate(items, 1)]


def _broken(text: str, name: str, number: int, line: str, error: Exception) -> str:
    """What to say of a line that is no JSON: the whole file may be one object."""
    if line.lstrip().startswith("{") and number == 1:
        try:
            keys = list(json.loads(text))
        except (ValueError, RecursionError):
            keys = []
        if keys:
            return (
                f"{name} is one object with the keys {', '.join(map(str, keys[:8]))}, expected an object a line or a "
                "list of objects. With the keys images and annotations it is of the layout coco."
            )
    where = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
    what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return f"{name}:{number}: not JSON ({what}{where}): '{line.strip():.60}'. Correct or remove the line."
