"""Formats of numbers of objects: `counts` (a column a class), `count` (one number), `count_long` (a row a class)."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from src.errors import ProjectError, nearest
from src.submission.formats import options as opt
from src.submission.formats.base import NUMBER, BadCell, Context, Format, Key, Row
from src.submission.formats.class_rows import PATTERN, ClassRows, check_pattern
from src.tables import read_header

_DECIMALS = opt.whole(None, 1)  # None: whole numbers; else a count may be a fraction, written with so many decimals


class _Numbers(Format):
    """Cells that hold a number of objects."""

    empty = "all counts are 0"

    def read(self, text: str, context: Context, image_id: str | None = None) -> float | int:
        fractions = context.option("decimals") is not None
        if not text.strip():
            raise BadCell("is empty", "Write 0 where nothing is found.")
        if text != text.strip():
            raise BadCell("has spaces around the number", "Strip them: df[column] = df[column].str.strip().")
        if text.lower().lstrip("+-") in ("nan", "na", "n/a", "null", "none", "<na>", "inf", "infinity"):
            raise BadCell("is no finite number", "Write 0 where nothing is found.")
        if text.startswith("-") and NUMBER.fullmatch(text):
            raise BadCell("is negative", "Clip counts at 0: df[column] = df[column].clip(lower=0).")
        if fractions and NUMBER.fullmatch(text) and np.isfinite(float(text)):
            return float(text)
        if re.fullmatch(r"\+?\d{1,18}", text):
            return int(text)
        if NUMBER.fullmatch(text) and not fractions:
            raise BadCell("is a decimal number", "Write whole numbers: df[column] = df[column].astype(int).")
        raise BadCell("is not a number", "Write the digits alone, without units or thousands separators.")

    def expected(self, context: Context) -> str:
        return "a number, 0 or more" if context.option("decimals") is not None else "a whole number, 0 or more"


class Counts(_Numbers):
    """A row an image, a column a class: `columns: {id: test_id, pups: n_pups}`; a class that is not named there has
    a column of its own name. The columns come in the sample submission's order, or without one in that of
    `columns` and of the classes.
    """

    name = "counts"
    roles = ("id",)
    named_columns = True
    options = {"decimals": _DECIMALS}

    def header(self, context: Context) -> list[str]:
        columns, values = context.spec.columns, self.value_columns(context)
        own = [header for header in columns.values() if header in values or header == columns["id"]]
        own += [header for header in values if header not in own]
        if context.spec.sample is None:
            return own
        sample = read_header(context.spec.sample)
        return sample if sorted(sample) == sorted(own) else own

    def value_columns(self, context: Context) -> list[str]:
        columns, classes = context.spec.columns, _classes(context)
        for key in columns:
            if key != "id" and key not in classes:
                raise ProjectError(
                    f"submission.columns: '{key}' is not a class of the competition.{nearest(key, classes)} "
                    f"Its classes: {', '.join(classes)}."
                )
        return [columns[name] if name != "id" and name in columns else name for name in classes]

    def write(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> list[Row]:
        expected = len(_classes(context))
        return [
            Row((name,), tuple(_text(count, name, context) for count in _vector(value, name, expected)))
            for name, value in zip(ids, values, strict=True)
        ]

    def collect(self, rows: Sequence[tuple[int | None, list[Any]]], image_id: str, context: Context) -> np.ndarray:
        return np.array(rows[0][1])


class Count(_Numbers):
    """One number an image: of all classes together, or of the one that the option `class` names."""

    name = "count"
    options = {"decimals": _DECIMALS, "class": opt.text(None, empty=False)}

    def write(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> list[Row]:
        return [
            Row((name,), (_text(self.single(value, name, context), name, context),))
            for name, value in zip(ids, values, strict=True)
        ]

    def single(self, value: Any, image_id: str, context: Context) -> float:
        """The number that is asked for, of a number or of the counts of all classes."""
        if np.ndim(value) == 0:
            return _vector([value], image_id, 1)[0]
        counts = _vector(value, image_id, len(context.classes) or np.size(value))
        wanted = self.wanted(context)
        return float(counts.sum() if wanted is None else counts[wanted])

    def wanted(self, context: Context) -> int | None:
        """Index of the class that is counted; None: all of them."""
        name = context.option("class")
        if name is None:
            return None
        if name not in context.classes:
            raise ProjectError(
                f"submission.options.class: '{name}' is not a class of the competition."
                f"{nearest(name, context.classes)} Its classes: {', '.join(context.classes) or 'not known here'}."
            )
        return context.classes.index(name)


class CountLong(ClassRows, _Numbers):
    """A row an (image, class): the class in the id by `pattern`, or in a column of its own (`columns.class`)."""

    name = "count_long"
    optional_roles = ("class",)
    options = {"decimals": _DECIMALS, "pattern": PATTERN, "labels": opt.label_texts()}

    def check(self, options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]) -> dict[str, Any]:
        return check_pattern(super().check(options, fail), fail)

    def write(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> list[Row]:
        rows = []
        for name, value in zip(ids, values, strict=True):
            keys: list[Key] = self.keys(name, context)
            for key, count in zip(keys, _vector(value, name, len(keys)), strict=True):
                rows.append(Row(key, (_text(count, name, context),)))
        return rows

    def collect(self, rows: Sequence[tuple[int | None, list[Any]]], image_id: str, context: Context) -> np.ndarray:
        of = {label: cells[0] for label, cells in rows}
        return np.array([of[label] for label in range(len(of))])


def _classes(context: Context) -> Sequence[str]:
    names = context.classes or tuple(key for key in context.spec.columns if key != "id")
    if not names:
        raise ProjectError("the format 'counts' has a column a class, and no class is known here. Give data.classes.")
    return names


def _vector(value: Any, image_id: str, expected: int) -> np.ndarray:
    try:
        counts = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise ProjectError(f"the counts of '{image_id}' are no numbers ({error}).") from error
    if len(counts) != expected:
        raise ProjectError(f"'{image_id}' has {len(counts)} counts, expected {expected}, one a class.")
    return counts


def _text(count: float, image_id: str, context: Context) -> str:
    if not np.isfinite(count) or count < 0:
        raise ProjectError(f"'{image_id}' has the count {count:g}: a count is finite and not negative.")
    decimals = context.option("decimals")
    if decimals is not None:
        return f"{count:.{decimals}f}"
    if count != round(count):
        raise ProjectError(
            f"'{image_id}' has the count {count:g}, and this format has whole numbers. Round it, or say how many "
            "decimals the competition takes: submission.options.decimals."
        )
    return str(int(count))
