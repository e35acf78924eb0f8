"""The format `class`: a training target an image, such as "tile-good", written just as the training table has it."""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from src.errors import ProjectError, nearest
from src.listing import nfc
from src.submission.formats.base import NUMBER, BadCell, Context, Format, Row

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
                    f"{_near(value, context.classes)} Classes: {self.expected(context)}."
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


@functools.lru_cache(maxsize=4)
def _composed(classes: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(nfc, classes))


@functools.lru_cache(maxsize=4)
def _folded(classes: tuple[str, ...]) -> dict[str, str]:
    return {name.casefold(): name for name in reversed(classes)}


@functools.lru_cache(maxsize=4)
def _by_pair(classes: tuple[str, ...]) -> dict[str, list[str]]:
    """Two letters in a row → the classes that have them."""
    result: dict[str, list[str]] = {}
    for name in classes:
        for pair in _pairs(name):
            result.setdefault(pair, []).append(name)
    return result


def _pairs(text: str) -> set[str]:
    return {f" {text} "[at : at + 2] for at in range(len(text) + 1)}


def _near(text: str, classes: tuple[str, ...]) -> str:
    """As `nearest`, among the few classes with the most pairs of letters in common: a file may have many such cells."""
    table = _by_pair(classes)
    common = Counter(name for pair in _pairs(text) for name in table.get(pair, ()))
    return nearest(text, [name for name, _ in common.most_common(3)])


@functools.lru_cache(maxsize=4096)  # a file repeats its mistakes
def _problem(text: str, classes: tuple[str, ...]) -> tuple[str, str, str | None]:
    """kind, remedy and what was found, of a text that is no class."""
    if not text.strip():
        return "is empty", "Every row needs a class.", None
    if text.strip() in _known(classes):
        return "has spaces around the class", "Strip them: df[column] = df[column].str.strip().", None
    if nfc(text) in _composed(classes):
        remedy = "Write the texts of the training table: some systems store Korean letters in parts (NFD)."
        return "has another Unicode form than the class", remedy, None
    twin = _folded(classes).get(text.strip().casefold())
    if twin is not None:
        found = f"'{text[:60]}' instead of '{twin}'"
        return "differs from the class in capital letters", "Write the texts of the training table.", found
    if NUMBER.fullmatch(text.strip()):
        remedy = "Write the class of the highest probability, by its name: classes[probabilities.argmax(1)]."
        return "is a number, not the text of a class", remedy, None
    found = f"'{text[:60]}'{_near(text[:200], classes)}"
    return "is not a class of this competition", "Write the texts of the training table, spelled just so.", found


def _classes(context: Context) -> tuple[str, ...]:
    if not context.classes:
        raise ProjectError("the format 'class' writes training targets, and they are not known here: give classes=….")
    return context.classes
