"""`submission.options` of a competition: what each format may be told, checked where the YAML is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from src.errors import nearest
from src.section import kind


@dataclass(frozen=True)
class Option:
    """One option: its value when it is not given, what it may be in words, and whether a value is that."""

    default: Any
    expected: str
    fits: Callable[[Any], bool]


def checked_options(
    known: Mapping[str, Option], form: str, options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]
) -> dict[str, Any]:
    """The options that are given (null counts as not given), each of its type.

    `fail(key, problem)` raises; the key is relative to `submission`, as in "options.order".
    """
    for key, value in options.items():
        if key not in known:
            listing = f"Its options: {', '.join(known)}." if known else "It has none."
            fail(f"options.{key}", f"the format '{form}' has no such option.{nearest(str(key), known)} {listing}")
        if value is not None and not known[key].fits(value):
            fail(f"options.{key}", f"expected {known[key].expected}, found {kind(value)}.")
    return {key: value for key, value in options.items() if value is not None}


def flag(default: bool) -> Option:
    return Option(default, "true or false", lambda value: isinstance(value, bool))


def whole(default: int | None, least: int) -> Option:
    return Option(
        default, f"a whole number, {least} or more", lambda value: _is_whole(value) and value >= least
    )


def share(default: float) -> Option:
    return Option(
        default,
        "a number between 0 and 1",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1,
    )


def text(default: str | None, *, empty: bool = True) -> Option:
    expected = "a text, in quotes" if empty else "a text that is not empty, in quotes"
    return Option(default, expected, lambda value: isinstance(value, str) and (empty or value != ""))


def choice(default: str | None, *values: str) -> Option:
    return Option(default, " or ".join(values), lambda value: isinstance(value, str) and value in values)


def choice_of_numbers(default: int, *values: int) -> Option:
    return Option(default, " or ".join(map(str, values)), lambda value: _is_whole(value) and value in values)


def words(*values: str) -> Option:
    """A list of some of `values`, none twice."""
    return Option(
        None,
        f"a list of some of {', '.join(values)}, none twice",
        lambda value: isinstance(value, list | tuple)
        and all(isinstance(item, str) and item in values for item in value)
        and 0 < len(value) == len(set(value)),
    )


def label_texts() -> Option:
    """How a class is written: index | name | category_id, a number added to the index, or a text for each class."""
    return Option(
        "index",
        "index, name, category_id, a whole number that is added to the index, or a mapping of class to text",
        lambda value: _is_whole(value)
        or (isinstance(value, str) and value in ("index", "name", "category_id"))
        or (isinstance(value, dict) and bool(value) and all(_is_scalar(v) for v in value.values())),
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""
