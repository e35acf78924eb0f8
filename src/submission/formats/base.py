"""What every submission format is made of: the cells of an image's rows, written, read back and described.

A format is a subclass of Format and a line in FORMATS. The file around the cells (header, order, ids, quoting,
encoding) is the same for all tables, as is the validator, which reads every cell with the format's own reader.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np

from src.competition import SubmissionSpec
from src.errors import ProjectError, nearest
from src.submission.formats.options import Option, checked_options

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
Key = tuple[str, ...]  # the cells that say which row it is: (id,) or (id, class)


class BadCell(ValueError):
    """A cell that the grammar does not allow.

    `kind` groups such rows in messages, `remedy` says what to do, `found` is the part of a long cell that is wrong.
    """

    def __init__(self, kind: str, remedy: str, found: str | None = None) -> None:
        super().__init__(kind)
        self.kind, self.remedy, self.found = kind, remedy, found


@dataclass(frozen=True)
class Context:
    """What a grammar depends on.

    classes: names, in the order of the label indices; category_ids: the ids that the competition's files use for
    them; both () where unknown. sizes: id → (width, height) in pixels, of the images whose size is known.
    threshold: the score at and above which an image is anomalous, or a box is kept. records: the file whose JSON
    records a submission repeats with its answers: the sample submission, or else the test file; None without one.
    """

    spec: SubmissionSpec
    classes: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    threshold: float | None = None
    records: Path | None = None

    def option(self, name: str) -> Any:
        from src.submission.formats import FORMATS

        given = (getattr(self.spec, "options", None) or {}).get(name)
        return FORMATS[self.spec.format].options[name].default if given is None else given

    @cached_property
    def labels(self) -> "Labels":
        """How classes are written, by the option `labels`."""
        return Labels(self, self.option("labels"))


class Labels:
    """Class index ↔ text. Without class names the texts are whole numbers, and any of them is a class.

    Raises:
        ProjectError: names or category ids are asked for and not known, a mapping does not fit the classes, or two
            classes have one text.
    """

    def __init__(self, context: Context, how: Any) -> None:
        classes = context.classes
        self.offset = how if isinstance(how, int) else 0
        self.texts: list[str] | None = None
        if isinstance(how, dict):
            self.texts = _mapped({str(key): str(value) for key, value in how.items()}, classes)
        elif how == "category_id" and context.category_ids:
            self.texts = [str(value) for value in context.category_ids]
        elif how in ("name", "category_id") and not classes:
            raise ProjectError(
                f"submission.options.labels: {how} needs the competition's classes, and they are not known here. "
                "Give them: data.classes, or classes= where a file is written or checked from Python."
            )
        elif how == "name":
            self.texts = list(classes)
        elif classes:
            self.texts = [str(index + self.offset) for index in range(len(classes))]
        if self.texts is not None and len(set(self.texts)) < len(self.texts):
            twice = next(text for text in self.texts if self.texts.count(text) > 1)
            raise ProjectError(f"submission.options.labels: two classes are written '{twice}'. Give each its own text.")

    @cached_property
    def _index(self) -> dict[str, int]:
        return {text: index for index, text in enumerate(self.texts or ())}

    def text(self, index: int) -> str:
        if self.texts is None:
            return str(index + self.offset)
        if not 0 <= index < len(self.texts):
            raise ProjectError(f"a prediction has the class {index}, and the competition has {len(self.texts)}.")
        return self.texts[index]

    def index(self, text: str) -> int:
        """The class of a text; BadCell where it is none."""
        if text in self._index:
            return self._index[text]
        if self.texts is None and re.fullmatch(r"\d{1,18}", text) and int(text) >= self.offset:
            return int(text) - self.offset
        if re.fullmatch(r"-?\d+\.0+", text) and (self.texts is None or text.split(".")[0] in self._index):
            raise BadCell("has a label with a decimal point", "Write labels as whole numbers.", f"'{text}'")
        raise BadCell(
            "has a label that is not a class of this competition",
            f"Classes are written {self.in_words()}.",
            f"'{text}'{nearest(text, self.texts or ())}",
        )

    def in_words(self) -> str:
        if self.texts is None:
            return f"as whole numbers from {self.offset}"
        shown = ", ".join(map(repr, self.texts[:8]))
        return shown if len(self.texts) <= 8 else f"{shown} and {len(self.texts) - 8} more"

    def refuse_inside(self, separators: Sequence[str]) -> None:
        """ProjectError for a class whose text would be read as several tokens."""
        for text in self.texts or ():
            if any(mark in text for mark in separators if mark):
                raise ProjectError(
                    f"the class '{text}' cannot be written in a cell whose tokens are separated by "
                    f"{' or '.join(repr(mark) for mark in dict.fromkeys(separators) if mark)}. Map it: "
                    f"submission.options.labels: {{{text}: {re.sub(r'[^0-9A-Za-z가-힣]+', '_', text)}, …}}."
                )


@dataclass(frozen=True)
class Row:
    """One row to write: its key cells and its value cells."""

    key: Key
    cells: tuple[str, ...]


class Format:
    """One grammar of a table; `src.submission.formats.whole_file` has those of files that are none.

    name: what a competition's `submission.format` says. suffix: how the file's name ends. roles: the keys that
    `submission.columns` must have, and those that it may have. options: what `submission.options` may hold. empty:
    the warning of a file that holds nothing, or None.
    """

    name: ClassVar[str]
    suffix: ClassVar[str] = ".csv"
    whole_file: ClassVar[bool] = False
    roles: ClassVar[tuple[str, ...]] = ("id", "value")
    optional_roles: ClassVar[tuple[str, ...]] = ()
    named_columns: ClassVar[bool] = False  # further keys of `columns` are class names
    options: ClassVar[Mapping[str, Option]] = {}
    empty: ClassVar[str | None] = None

    def file_suffix(self, spec: SubmissionSpec) -> str:
        """How the name of a submission's file ends; `suffix` unless an option says otherwise."""
        return self.suffix

    def check(self, options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]) -> dict[str, Any]:
        """The given options, each of its type and fitting the others; `fail(key, problem)` raises."""
        return checked_options(self.options, self.name, options, fail)

    def check_together(
        self, columns: Mapping[str, str], options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]
    ) -> None:
        """Hold columns and options, each checked, against one another; `fail(key, problem)` raises."""

    def header(self, context: Context) -> list[str]:
        """All columns, in order."""
        return list(context.spec.columns.values())

    def key_columns(self, context: Context) -> list[str]:
        """The columns whose cells are a row's key."""
        return [context.spec.columns["id"]]

    def value_columns(self, context: Context) -> list[str]:
        return [context.spec.columns["value"]]

    def keys(self, image_id: str, context: Context) -> list[Key]:
        """The keys of the rows that an image must have."""
        return [(image_id,)]

    def owner(self, key: Key, context: Context) -> tuple[str, int | None]:
        """(image id, class or None) of a key, read from the key alone; the image's id may be unknown."""
        return key[0], None

    def owners(self, ids: Sequence[str], context: Context) -> dict[Key, tuple[str, int | None]]:
        """The owner of every key that the images must have."""
        return {key: self.owner(key, context) for name in ids for key in self.keys(name, context)}

    def repeats(self, context: Context) -> bool:
        """Whether an image may have several rows of one key, in any order."""
        return False

    def write(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> list[Row]:
        """The rows of all images, image by image.

        Raises:
            ProjectError: a value that has no text, naming its id.
        """
        raise NotImplementedError

    def read(self, text: str, context: Context, image_id: str | None = None) -> Any:
        """The value of a cell; BadCell when the grammar does not allow it."""
        raise NotImplementedError

    def readers(self, context: Context) -> list[Callable[[str, Context, str | None], Any]]:
        """What reads the cells of each value column."""
        return [self.read] * len(self.value_columns(context))

    def expected(self, context: Context) -> str:
        """What a cell holds, in words that follow "expected"."""
        raise NotImplementedError

    def collect(self, rows: Sequence[tuple[int | None, list[Any]]], image_id: str, context: Context) -> Any:
        """The value of an image from the (class, values of the cells) of its rows."""
        return rows[0][1][0]

    def row_problems(
        self, rows: Sequence[tuple[int | None, list[Any]]], image_id: str, context: Context
    ) -> str | None:
        """What is wrong among the rows of one image although each is well formed; None where nothing is."""
        return None

    def doubts(self, values: Mapping[str, Any], context: Context) -> list[str]:
        """What a grader takes in a valid file and nobody means to submit, apart from one value for all.

        `values`: id → value; of a table what the first value cell of the image reads as.
        """
        return []


def shortest(values: np.ndarray) -> list[str]:
    """Shortest decimals that keep every number distinct: float32's where all of them are float32, else float64's."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if np.array_equal(single.astype(np.float64), values):
        return [str(number) for number in single]
    return [repr(number) for number in values.tolist()]


def fingerprint(value: Any) -> Any:
    """Something hashable that is equal for equal values of cells."""
    from src.boxes.types import Detections

    if isinstance(value, Detections):
        return (value.boxes.tobytes(), value.scores.tobytes(), value.labels.tobytes(), value.masks)
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes())
    return tuple(map(fingerprint, value)) if isinstance(value, list) else value


def _mapped(mapping: dict[str, str], classes: Sequence[str]) -> list[str]:
    if not classes:
        return list(mapping.values())
    for name in mapping:
        if name not in classes:
            raise ProjectError(
                f"submission.options.labels: '{name}' is not a class of the competition.{nearest(name, classes)}"
            )
    lacking = [name for name in classes if name not in mapping]
    if lacking:
        raise ProjectError(f"submission.options.labels: the class '{lacking[0]}' has no text. Add it.")
    return [mapping[name] for name in classes]
