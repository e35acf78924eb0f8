"""Images of one split as parallel lists, whatever the layout they were read from, and the checks that all need."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from src.competition import Competition
from src.errors import ProjectError
from src.listing import IMAGE_SUFFIXES

SHOWN = 5  # rows that a message names; it counts the others


@dataclass
class Rows:
    """Images of one split, as parallel lists; None where nothing is known; `sources` for messages."""

    ids: list[str]
    paths: list[str]
    sources: list[str]
    targets: list[str | None] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    masks: list[str | None] = field(default_factory=list)
    categories: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("targets", "groups", "masks", "categories"):
            if not getattr(self, name):
                setattr(self, name, [None] * len(self.ids))


@dataclass
class Answers:
    """What the test images are, as parallel lists; `sources` for messages, `categories` as far as they are known."""

    ids: list[str]
    targets: list[str]
    masks: list[str | None]
    sources: list[str]
    categories: list[str | None]


def one_row_an_image(rows: Rows) -> Rows:
    """The first row of each id; all rows of an id must name the same image and the same group.

    Rows without an id stay, for `check_rows` to name them.
    """
    first: dict[str | int, int] = {}
    for row, identifier in enumerate(rows.ids):
        start = first.setdefault(identifier if identifier.strip() else row, row)
        for what, values in (("images", rows.paths), ("groups", rows.groups)):
            if values[row] != values[start]:
                raise ProjectError(
                    f"{rows.sources[start]}, {rows.sources[row]}: the id '{identifier}' has two {what}, "
                    f"'{values[start]}' and '{values[row]}'. An id is one image; correct one of the rows."
                )
    keep = list(first.values())
    return Rows(*([values[row] for row in keep] for values in vars(rows).values()))


def check_rows(spec: Competition, split: str, rows: Rows) -> None:
    """Refuse an empty split, ids that are empty or repeated, and an image that is twice in the training set."""
    check_ids(spec, split, rows.ids, rows.sources)
    if split == "train":
        remedy = "a copy in another fold would leak. Keep one row"
        if spec.task == "caption":
            remedy += ", or give all captions of an image one id: data.id may name the column of the image's file"
        check_unique(rows.paths, rows.sources, "the image", remedy)


def check_apart(spec: Competition, train: Rows, test: Rows) -> None:
    """Refuse an image that is in both splits."""
    trained = set(train.paths)
    shared = [source for source, path in zip(test.sources, test.paths, strict=True) if path in trained]
    if shared:
        remedy = "A test image must not be trained on: give each image to one split"
        raise spec.error("data.test", f"{len(shared)} images are in the training set too: {listed(shared)}. {remedy}.")


def check_ids(spec: Competition, split: str, ids: Sequence[str], sources: Sequence[str]) -> None:
    if not ids:
        key = split if split == "solution" else f"data.{split}"
        folder = spec.data.layout != "csv" and split != "solution"
        kind = f"images ({', '.join(IMAGE_SUFFIXES)})" if folder else "rows"
        what = {"train": "the training set", "test": "the test set", "solution": "the solution"}[split]
        raise spec.error(key, f"{what} is empty: no {kind} in {_where(spec, split)}.")
    empty = [source for source, value in zip(sources, ids, strict=True) if not value.strip()]
    if empty:
        raise spec.error("data.id", f"{len(empty)} rows have no id: {listed(empty)}. Give each one.")
    check_unique(ids, sources, "the id", "ids must differ. Remove or rename one of the rows")


def check_unique(values: Sequence[str], sources: Sequence[str], what: str, remedy: str) -> None:
    if len(set(values)) == len(values):
        return
    twice = [value for value, count in Counter(values).items() if count > 1]
    where = [source for source, value in zip(sources, values, strict=True) if value == twice[0]]
    others = f" ({len(twice) - 1} more such)" if len(twice) > 1 else ""
    raise ProjectError(f"{listed(where)}: {what} '{twice[0]}' occurs {len(where)} times{others}; {remedy}.")


def _where(spec: Competition, split: str) -> str:
    return str(spec.solution if split == "solution" else spec.locate(getattr(spec.data, split)))


def listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
