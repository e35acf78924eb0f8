"""The format `class`: a training target an image, such as "tile-good", written just as the training table has it."""

import functools
import re
from collections.abc import Sequence
from typing import Any

from src.errors import ProjectError, nearest
from src.listing import nfc
from src.submission.formats.base import BadCell, Context, Format, Row

CLASS_METRICS = ("macro_f1", "accuracy", "balanced_accuracy")  # those that compare texts of any number of classes
_SHOWN = 8


class ClassLabel(Format):
    """The text of a class; the classes are those of the context, compared letter by letter."""

    name = "class"

    def write(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> list[Row]:
        known = set(_classes(context))
        for name, value in zip(ids, values, strict=True):
            if not isinstance(value, str):
                raise ProjectError(
                    f"the format 'class' needs the text of a class for each image, and '{name}' has {value!r} "
                    f"({type(value).__name__}). Decide a class for each image."
                )
            if value not in known:
                raise ProjectError(
                    f"'{name}' has the class '{value}', which is not one of the competition."
                    f"{nearest(value, context.classes)} Classes: {self.expected(context)}."
                )
        return [Row((name,), (text,)) for name, text in zip(ids, values, strict=True)]

    def read(self, text: str, context: Context, image_id: str | None = None) -> str:
        if text in _known(_classes(context)):
            return text
        raise BadCell(*_problem(text, context.classes))

    def expected(self, context: Context) -> str:
        shown = ", ".join(map(repr, context.classes[:_SHOWN]))
        more = f" and {len(context.classes) - _SHOWN} more" if len(context.classes) > _SHOWN else ""
        return f"one of {shown}{more}"


@functools.lru_cache(maxsize=4)
def _known(classes: tuple[str, ...]) -> frozenset[str]:
    return frozenset(classes)


@functools.lru_cache(maxsize=4096)  # a file repeats its mistakes, and the nearest of many classes takes a while to find
def _problem(text: str, classes: tuple[str, ...]) -> tuple[str, str, str | None]:
    """kind, remedy and what was found, of a text that is no class."""
    if not text.strip():
        return "is empty", "Every row needs a class.", None
    if text.strip() in classes:
        return "has spaces around the class", "Strip them: df[column] = df[column].str.strip().", None
    if nfc(text) in {nfc(name) for name in classes}:
        remedy = "Write the texts of the training table: some systems store Korean letters in parts (NFD)."
        return "has another Unicode form than the class", remedy, None
    twin = next((name for name in classes if name.casefold() == text.strip().casefold()), None)
    if twin is not None:
        found = f"'{text[:60]}' instead of '{twin}'"
        return "differs from the class in capital letters", "Write the texts of the training table.", found
    if re.fullmatch(r"-?\d+(\.0+)?", text.strip()):
        return "is a number, not the text of a class", "Map numbers to texts: df[column] = df[column].map(names).", None
    found = f"'{text[:60]}'{nearest(text[:200], classes)}"
    return "is not a class of this competition", "Write the texts of the training table, spelled just so.", found


def _classes(context: Context) -> tuple[str, ...]:
    if not context.classes:
        raise ProjectError("the format 'class' writes training targets, and they are not known here: give classes=….")
    return context.classes
