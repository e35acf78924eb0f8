"""One mapping of a YAML spec: unknown keys refused, types and choices checked, dotted names in messages."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from src.errors import ProjectError, nearest

REQUIRED: Any = object()
MISSING = "???"  # OmegaConf's mark for a value that must be given


class Section:
    """Typed reading of `values`, which may hold only `keys`.

    Every method raises ProjectError "file: dotted.key: what is wrong. What to type".
    """

    def __init__(self, values: Any, keys: Iterable[str], source: str, prefix: str = "") -> None:
        self.source = source
        self.prefix = prefix
        if not isinstance(values, dict):
            where = prefix.rstrip(".") or "the file"
            raise ProjectError(f"{source}: {where}: expected keys with values, found {kind(values)}.")
        self.values: dict[Any, Any] = values
        known = list(keys)
        for key in values:
            if key not in known:
                self.fail(str(key), f"unknown key.{nearest(str(key), known)} Known keys: {', '.join(known)}.")

    def fail(self, key: str, problem: str) -> NoReturn:
        raise ProjectError(f"{self.source}: {self.prefix}{key}: {problem}")

    def section(self, key: str, keys: Iterable[str], *, remedy: str = "") -> "Section":
        return Section(self._get(key, REQUIRED, remedy), keys, self.source, f"{self.prefix}{key}.")

    def text(self, key: str, default: str | Any = REQUIRED, *, choices: Iterable[str] = (), remedy: str = "") -> str:
        """A text that is not empty; one of `choices`, if there are any. Null counts as not given."""
        value = self.optional_text(key, default, choices=choices, remedy=remedy)
        if value is None and default is REQUIRED:
            self._mistyped(key, value, choices)
        return default if value is None else value

    def optional_text(
        self, key: str, default: Any = None, *, choices: Iterable[str] = (), remedy: str = ""
    ) -> str | None:
        """As `text`, but null (None) is an answer."""
        value = self._get(key, default, remedy)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            self._mistyped(key, value, choices)
        options = list(choices)
        if options and value not in options:
            self.fail(key, f"'{value}' is not one of {', '.join(options)}.{nearest(value, options)}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, default, "")
        if not isinstance(value, bool):
            self.fail(key, f"expected true or false, found {kind(value)}.")
        return value

    def texts(self, key: str, default: Any = REQUIRED, *, remedy: str = "") -> tuple[str, ...]:
        """One value or a list of values, as texts: `normal: 0` is the target "0". Null is not given."""
        value = self._get(key, default, remedy)
        if value is None:
            value = default
        if value is REQUIRED or value == []:
            self.fail(key, f"not given. {remedy}".rstrip())
        values = list(value) if isinstance(value, list | tuple) else [value]
        return tuple(self._scalar(key, item) for item in values)

    def text_map(self, key: str, keys: Iterable[str], *, remedy: str) -> dict[str, str]:
        """A mapping that has exactly these keys, its values as texts, in the order written."""
        names = list(keys)
        inner = self.section(key, names, remedy=remedy)
        for name in names:
            inner._get(name, REQUIRED, remedy)
        return {name: inner._scalar(name, value) for name, value in inner.values.items()}

    def open_map(self, key: str, *, remedy: str) -> dict[str, str]:
        """A mapping of any keys, keys and values as texts, in the order written; not empty."""
        values = self._get(key, REQUIRED, remedy)
        if not isinstance(values, dict) or not values:
            self.fail(key, f"expected keys with values, found {kind(values)}. {remedy}".rstrip())
        inner = Section(values, values, self.source, f"{self.prefix}{key}.")
        return {inner._scalar(str(name), name): inner._scalar(str(name), value) for name, value in values.items()}

    def given(self, key: str) -> bool:
        return self.values.get(key) is not None

    def value(self, key: str, default: Any) -> Any:
        """Whatever stands there, for a key of which several types are legal; null is not given."""
        found = self._get(key, default, "")
        return default if found is None else found

    def _get(self, key: str, default: Any, remedy: str) -> Any:
        value = self.values.get(key, default)
        if value is REQUIRED or (isinstance(value, str) and value == MISSING):
            self.fail(key, f"not given. {remedy}".rstrip())
        return value

    def _scalar(self, key: str, value: Any) -> str:
        text = isinstance(value, str | int | float) and not isinstance(value, bool)
        if not text or value in ("", MISSING):
            self.fail(key, f'expected a text, found {kind(value)}. Quote it, as in "yes".')
        return str(value)

    def _mistyped(self, key: str, value: Any, choices: Iterable[str]) -> NoReturn:
        expected = " or ".join(choices) or "a text"
        self.fail(key, f"expected {expected}, found {kind(value)}. If it is a text, quote it.")


def kind(value: Any) -> str:
    """How a message names a value of the wrong type."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()} (YAML reads yes, no, on and off as such)"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text '{value}'" if value else "an empty text"
    return f"the {'list' if isinstance(value, list | tuple) else type(value).__name__} {value}"


def shown(path: str | Path, base: Path) -> str:
    """A path as a user knows it: relative to `base` where it lies below it."""
    path = Path(path)
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
