"""What the columns of the prediction store hold, per task, and the check of a table against it."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.errors import ProjectError, nearest

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, whether a cell may be null, and a check.

    arrow: "string", "int64", "float64" or "list<…>" of one.
    check: says what is wrong with a value of the right type, in words that follow "but"; None when it is
    fine.
    """

    name: str
    arrow: str
    nullable: bool = False
    check: Callable[[Any], str | None] | None = None


def _id(value: str) -> str | None:
    return None if value else "an id is not empty"


def _fold(value: int) -> str | None:
    return None if value >= -1 else "a fold is 0 or more, or -1 for test rows"


def _finite(value: float) -> str | None:
    return None if math.isfinite(value) else "it must be finite"


def _all_finite(values: list[float]) -> str | None:
    return None if all(map(math.isfinite, values)) else "all of its numbers must be finite"


def _probabilities(values: list[float]) -> str | None:
    fine = values and all(0 <= value <= 1 for value in values)
    return None if fine else "there must be one or more, each between 0 and 1"


def _relative_path(value: str) -> str | None:
    outside = value.startswith(("/", "\\")) or ":" in value or ".." in re.split(r"[/\\]", value)
    return "it must be a path below the folder of the Parquet file" if outside or not value else None


def _size(value: int) -> str | None:
    return None if value > 0 else "an image is at least 1 pixel wide and high"


def _boxes(value: list[list[float]]) -> str | None:
    for box in value:
        if len(box) != 4 or not all(map(math.isfinite, box)) or box[0] > box[2] or box[1] > box[3]:
            return f"box {box} is not [x1, y1, x2, y2] with x1 ≤ x2 and y1 ≤ y2, finite, in pixels"
    return None


def _candidates(value: list[str]) -> str | None:
    fine = value and all(text.strip() for text in value)
    return None if fine else "there must be one caption or more, none empty"


_KEYS = (Column("id", "string", check=_id), Column("fold", "int64", check=_fold))
SCHEMAS: dict[str, tuple[Column, ...]] = {
    "anomaly": (
        *_KEYS,
        Column("score", "float64", check=_finite),
        Column("probs", "list<float64>", nullable=True, check=_probabilities),
        Column("map", "string", nullable=True, check=_relative_path),
    ),
    "detection": (
        *_KEYS,
        Column("width", "int64", check=_size),
        Column("height", "int64", check=_size),
        Column("boxes", "list<list<float64>>", check=_boxes),
        Column("scores", "list<float64>", check=_all_finite),
        Column("labels", "list<int64>"),
        Column("masks", "list<string>", nullable=True),
    ),
    "caption": (
        *_KEYS,
        Column("candidates", "list<string>", check=_candidates),
        Column("candidate_scores", "list<float64>", check=_all_finite),
        Column("image_scores", "list<float64>", nullable=True, check=_all_finite),
        Column("flags", "list<string>", nullable=True),
    ),
}
# Lists that run side by side within a row.
_PARALLEL = {
    "detection": ("boxes", "scores", "labels", "masks"),
    "caption": ("candidates", "candidate_scores", "image_scores"),
}


def schema_of(task: str) -> tuple[Column, ...]:
    """A task's columns.

    Raises:
        ProjectError: the task has no schema.
    """
    if task not in SCHEMAS:
        known = ", ".join(SCHEMAS)
        raise ProjectError(f"task '{task}' has no prediction schema.{nearest(task, SCHEMAS)} Known: {known}.")
    return SCHEMAS[task]


def check_frame(frame: "pd.DataFrame", task: str, metadata: Mapping[str, Any], path: Path) -> dict[str, list[Any]]:
    """The columns as lists of plain Python values; nullable columns that are left out as None in every row.

    Raises:
        ProjectError: a missing or unknown column, a cell of another type or out of range, the same (id, fold)
            twice, or lists of a row that should be equally long; names file, column, row (from 0) and id.
    """
    schema = schema_of(task)
    names = [column.name for column in schema]
    for name in frame.columns:
        if name not in names:
            raise ProjectError(
                f"{path}: column '{name}' is not part of task '{task}'.{nearest(str(name), names)} "
                f"Its columns: {', '.join(names)}."
            )
    result: dict[str, list[Any]] = {}
    for column in schema:
        if column.name in frame.columns:
            cells = enumerate(frame[column.name].tolist())
            result[column.name] = [_checked(value, column, row, result, path) for row, value in cells]
        elif column.nullable:
            result[column.name] = [None] * len(frame)
        else:
            raise ProjectError(f"{path}: column '{column.name}' is missing; task '{task}' needs it.")
    _check_keys(result, path)
    _check_lengths(result, task, metadata, path)
    return result


def _checked(value: Any, column: Column, row: int, done: Mapping[str, list[Any]], path: Path) -> Any:
    where = f"{path}: column '{column.name}', row {row}"
    if column.name != "id":
        where += f" (id '{done['id'][row]}')"
    if _is_null(value):
        if column.nullable:
            return None
        raise ProjectError(f"{where} is missing or NaN; expected {column.arrow}.")
    try:
        plain = _plain(value, column.arrow)
    except TypeError as error:
        raise ProjectError(f"{where} is {value!r}; expected {column.arrow}, found {error}.") from None
    problem = column.check(plain) if column.check else None
    if problem:
        raise ProjectError(f"{where} is {str(plain)[:80]!r}, but {problem}.")
    return plain


def _is_null(value: Any) -> bool:
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return True
    return type(value).__name__ in ("NAType", "NaTType")  # pandas' own nulls, without importing pandas here


def _plain(value: Any, arrow: str) -> Any:
    """A Python value of the Arrow type; nothing is guessed.

    Raises:
        TypeError: the value is of another type, which the message names.
    """
    if arrow.startswith("list<"):
        if isinstance(value, (list, tuple, np.ndarray)):
            return [_plain(item, arrow[5:-1]) for item in value]
    elif isinstance(value, (bool, np.bool_)):
        pass  # a bool is an int to Python, and never meant as one here
    elif arrow == "string" and isinstance(value, str):
        return str(value)
    elif arrow == "int64" and isinstance(value, (int, np.integer)):
        return int(value)
    elif arrow == "float64" and isinstance(value, (int, float, np.integer, np.floating)):
        return float(value)
    raise TypeError(type(value).__name__)


def _check_keys(columns: Mapping[str, list[Any]], path: Path) -> None:
    seen: dict[tuple[str, int], int] = {}
    for row, key in enumerate(zip(columns["id"], columns["fold"], strict=True)):
        if key in seen:
            raise ProjectError(
                f"{path}: id '{key[0]}' appears twice in fold {key[1]} (rows {seen[key]} and {row}). "
                "Average the predictions of one image before they are written."
            )
        seen[key] = row


def _check_lengths(columns: Mapping[str, list[Any]], task: str, metadata: Mapping[str, Any], path: Path) -> None:
    parallel = _PARALLEL.get(task, ())
    classes = metadata.get("class_names") if task == "anomaly" else None
    for row, sample_id in enumerate(columns["id"]):
        lengths = {name: len(columns[name][row]) for name in parallel if columns[name][row] is not None}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ProjectError(f"{path}: row {row} (id '{sample_id}') has lists of different lengths: {listed}.")
        probs = columns["probs"][row] if task == "anomaly" else None
        if probs is not None and classes is not None and len(probs) != len(classes):
            raise ProjectError(
                f"{path}: column 'probs', row {row} (id '{sample_id}') has {len(probs)} values "
                f"for {len(classes)} class_names."
            )
