"""Rows of one image and one class: the class stands in the id (`pattern`), or in a column of its own."""

import re
import string
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from src.errors import ProjectError, nearest
from src.submission.formats import options as opt
from src.submission.formats.base import BadCell, Context, Format, Key

_FIELDS = ("id", "class", "index", "number", "category_id")
PATTERN = opt.text("{id}_{class}", empty=False)


def check_pattern(options: dict[str, Any], fail: Callable[[str, str], NoReturn]) -> dict[str, Any]:
    """The options, their pattern being of known fields: {id}, and one way to name the class."""
    pattern = options.get("pattern")
    if pattern is None:
        return options
    example = "As in '{id}_{class}'."
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        fail("options.pattern", f"'{pattern}': {error}. {example}")
    for name in fields:
        if name not in _FIELDS:
            known = ", ".join(f"{{{field}}}" for field in _FIELDS)
            fail("options.pattern", f"unknown field '{name}'.{nearest(name, _FIELDS)} Its fields: {known}.")
    if fields.count("id") != 1 or len(fields) != 2:
        fail("options.pattern", f"'{pattern}' must hold {{id}} and one field of the class, each once. {example}")
    return options


class ClassRows(Format):
    """A format whose rows are of one class each; mixed into those that have it.

    `pattern` has the fields {id} and one of {class} (the name, or the text that a mapping in `labels` gives it),
    {index} (from 0), {number} (from 1) and {category_id}.
    """

    def key_columns(self, context: Context) -> list[str]:
        columns = context.spec.columns
        return [columns[role] for role in ("id", "class") if role in columns]

    def keys(self, image_id: str, context: Context) -> list[Key]:
        if "class" in context.spec.columns:
            return [(image_id, text) for text in self._texts(context)]
        pattern = context.option("pattern")
        literal = list(string.Formatter().parse(pattern))
        fields = [name for _, name, _, _ in literal]
        other = next(name for name in fields if name not in (None, "id"))
        return [(pattern.format(**{"id": image_id, other: text}),) for text in self._fields(other, context)]

    def owner(self, key: Key, context: Context) -> tuple[str, int | None]:
        if "class" in context.spec.columns:
            try:
                return key[0], context.labels.index(key[1])
            except BadCell:
                return key[0], None
        expression, texts = "", []
        for literal, name, _, _ in string.Formatter().parse(context.option("pattern")):
            expression += re.escape(literal)
            if name == "id":
                expression += "(?P<id>.*)"
            elif name is not None:
                texts = self._fields(name, context)
                expression += f"(?P<label>{'|'.join(re.escape(t) for t in sorted(texts, key=len, reverse=True))})"
        match = re.fullmatch(expression, key[0], re.DOTALL)
        return (match["id"], texts.index(match["label"])) if match else (key[0], None)

    def owners(self, ids: Sequence[str], context: Context) -> dict[Key, tuple[str, int | None]]:
        result: dict[Key, tuple[str, int | None]] = {}
        for name in ids:
            for label, key in enumerate(self.keys(name, context)):
                if key in result:
                    raise ProjectError(
                        f"the row '{', '.join(key)}' would stand for '{result[key][0]}' and for '{name}'. Choose "
                        "another submission.options.pattern."
                    )
                result[key] = (name, label)
        return result

    def _texts(self, context: Context) -> list[str]:
        if context.labels.texts is None:
            raise self._classless()
        return context.labels.texts

    def _classless(self) -> ProjectError:
        return ProjectError(f"the format '{self.name}' has a row a class, and the classes are not known here.")

    def _fields(self, name: str, context: Context) -> list[str]:
        """The text of every class for one field of the pattern."""
        count = len(context.classes)
        if not count:
            raise self._classless()
        if name == "category_id":
            return [str(value) for value in (context.category_ids or range(count))]
        if name == "class":
            mapped = isinstance(context.option("labels"), dict)
            return self._texts(context) if mapped else list(context.classes)
        return [str(index + (name == "number")) for index in range(count)]
