"""What every reader of annotations answers: marks per image, as the files have them, before they are cleaned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from src.annotations.classes import Vocabulary


@dataclass
class Marks:
    """The objects of one image: xyxy boxes (any numbers), class names, ignored flags, and where each is written."""

    boxes: list[Sequence[float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    ignored: list[bool] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def add(self, box: Sequence[float], label: str, source: str, *, ignored: bool = False) -> None:
        self.boxes.append(box)
        self.labels.append(label)
        self.ignored.append(ignored)
        self.sources.append(source)


class Reports(list):
    """Dicts of `source`, `id`, `problem`, `action`. Shared, never copied deep: pandas deep-copies a table's attrs with
    every selection, which thousands of reports would make slow."""

    def add(self, source: str, identifier: str | None, problem: str, action: str) -> None:
        self.append({"source": source, "id": identifier, "problem": problem, "action": action})

    def __deepcopy__(self, memo: dict) -> Reports:
        return self


@dataclass
class Reading:
    """One split's annotations, as lists parallel to its images.

    marks: None where it is not known what is in the image; Marks without boxes where nothing is.
    counts: objects of each class name, where a table of counts says so. tags: class names that are in the image.
    sizes: (width, height) that the annotation file says, if it does; the picture's own header comes first.
    normalized: boxes are shares of the width and height.
    vocabulary: the classes, where the files or the spec list them; None: those that the annotations name.
    order: class names that precede the others, sorted, in a vocabulary that the annotations make.
    reports: what was mended, set aside or found odd.
    """

    marks: list[Marks | None]
    counts: list[dict[str, int] | None] = field(default_factory=list)
    tags: list[list[str]] = field(default_factory=list)
    sizes: list[tuple[int, int] | None] = field(default_factory=list)
    normalized: bool = False
    vocabulary: Vocabulary | None = None
    order: tuple[str, ...] = ()
    reports: Reports = field(default_factory=Reports)

    def __post_init__(self) -> None:
        count = len(self.marks)
        self.counts = self.counts or [None] * count
        self.tags = self.tags or [[] for _ in range(count)]
        self.sizes = self.sizes or [None] * count

    def report(self, source: str, identifier: str | None, problem: str, action: str) -> None:
        self.reports.add(source, identifier, problem, action)

    def names(self) -> list[str]:
        """Class names that occur, once each, in the order of the files."""
        found = dict.fromkeys(name for marks in self.marks if marks is not None for name in marks.labels)
        found |= dict.fromkeys(name for counts in self.counts if counts is not None for name in counts)
        return list(found | dict.fromkeys(name for tags in self.tags for name in tags))
