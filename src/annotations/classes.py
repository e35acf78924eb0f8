"""The classes of a detection competition: their names in order, and the numbers by which its files call them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.competition import Competition
from src.errors import ProjectError, nearest
from src.listing import natural_key, nfc

ONE_CLASS = "object"  # the name of the only class, where nothing names it


@dataclass(frozen=True)
class Vocabulary:
    """names: NFC, all different; a label is an index of these. ids: the numbers of the files, parallel to them."""

    names: tuple[str, ...]
    ids: tuple[int, ...]

    @classmethod
    def of(cls, names: Iterable[str], ids: Iterable[int] | None = None) -> Vocabulary:
        names = tuple(names)
        return cls(names, tuple(range(len(names))) if ids is None else tuple(ids))

    @classmethod
    def from_labels(cls, found: Iterable[str], first: Iterable[str] = ()) -> Vocabulary:
        """From the labels that occur: `first`, then the others in natural order; numbers are their own ids."""
        first = tuple(first)
        names = (*first, *sorted(set(found) - set(first), key=natural_key))
        numbers = [as_number(name) for name in names]
        return cls.of(names, None if None in numbers else numbers)

    def index(self, label: str) -> int | None:
        """The class of a label: by name, or, where no name is a number, by the files' number."""
        label = nfc(label.strip())
        if label in self.names:
            return self.names.index(label)
        number = as_number(label)
        if number in self.ids and not any(as_number(name) is not None for name in self.names):
            return self.ids.index(number)
        return None

    def unknown(self, label: str) -> str:
        """The sentence for a label that is no class: the nearest one, and what there is."""
        near = nearest(label, self.names)
        shown = ", ".join(self.names[:12]) + (f" and {len(self.names) - 12} more" if len(self.names) > 12 else "")
        return f"'{label}' is no class.{near} Classes: {shown}. Correct it, or add it to data.classes."


def as_number(text: str) -> int | None:
    """The whole number that a label is ("3", "3.0"), or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None


def given_vocabulary(spec: Competition) -> Vocabulary | None:
    """The classes that the spec lists, or the file that it names; None where it leaves them to the data.

    Raises:
        ProjectError: a class file that cannot be read, is empty or names a class twice.
    """
    classes = spec.data.classes
    if classes is None:
        return None
    if isinstance(classes, str):
        return read_class_file(spec.locate(classes))
    return Vocabulary.of(classes, spec.data.class_ids)


def read_class_file(path: Path) -> Vocabulary:
    """A text file with a name a line, or a YAML file with `names:`, a list or a mapping of numbers to names.

    The numbers of a mapping are the ids of its classes; a list and a text file count from 0.

    Raises:
        ProjectError: it cannot be read, names no class, or names one twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"could not read the classes from {path}: {error}. Save it as UTF-8 text.") from error
    ids: list[int] | None = None
    if path.suffix.lower() in (".yaml", ".yml"):
        names = _yaml_names(path, text)
        if isinstance(names, dict):
            pairs = sorted((_whole(path, key), name) for key, name in names.items())
            ids, names = [key for key, _ in pairs], [name for _, name in pairs]
        names = [str(name) for name in names]
    else:
        names = text.rstrip().splitlines()
    names = [nfc(name.strip()) for name in names]
    if not names or "" in names:
        problem = "names no class" if not names else f"has no name for class {names.index('')} (a blank line)"
        raise ProjectError(f"{path} {problem}. Write one name for each number, from 0 up.")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ProjectError(f"{path} names the class '{twice[0]}' twice. Rename one of them.")
    return Vocabulary.of(names, ids)


def _yaml_names(path: Path, text: str) -> Any:
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ProjectError(f"could not read the classes from {path} as YAML: {error}") from error
    names = document.get("names") if isinstance(document, dict) else document
    if not isinstance(names, list | dict) or not names:
        raise ProjectError(f"{path} has no `names:` with a list of classes, as in names: [apple, cup].")
    return names


def _whole(path: Path, key: Any) -> int:
    try:
        return int(key)
    except (TypeError, ValueError):
        raise ProjectError(f"{path}: `names:` has the key '{key}', where a number is expected.") from None
