"""The `data:` part of a competition spec as dataclasses: where tables, images and annotations lie."""

import string
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BoxTable:
    """A table with a row a box, or a cell an image.

    file: the table, relative to the root; None: the boxes stand in the train table itself, several rows an image.
    label: the column of class names; None: one class, or (`prediction_string`) the cells name it.
    columns: four columns of numbers, or one column of texts such as "[834.0, 222.0, 56.0, 36.0]".
    convention: xyxy, xywh or cxcywh; normalized: shares of the image's width and height, not pixels.
    format: "columns", or "prediction_string": a cell holds "class [score] box class [score] box …".
    empty: cells that say that there is no object, such as "none 1 0 0 1 1"; an empty cell always does.
    """

    file: str | None
    id: str
    label: str | None
    columns: tuple[str, ...]
    convention: str = "xyxy"
    normalized: bool = False
    format: str = "columns"
    empty: tuple[str, ...] = ()

    def needed(self) -> list[str]:
        """The columns that a table of these boxes has, beside the id."""
        return [*self.columns, *([self.label] if self.label is not None else [])]


@dataclass(frozen=True, kw_only=True)
class CountTable:
    """Numbers of objects: wide (`columns`: class → column) or long (`label` and `count` columns).

    file: relative to the root; None: the counts stand in the train table itself.
    """

    file: str | None
    id: str
    columns: dict[str, str] | None = None
    label: str | None = None
    count: str | None = None

    def needed(self) -> list[str]:
        """The columns that a table of these counts has, beside the id."""
        return list(self.columns.values()) if self.columns is not None else [self.label, self.count]


@dataclass(frozen=True, kw_only=True)
class CaptionTable:
    """Sentences about images: cells of a table with one row an image or several, or keys of JSON records.

    file: csv: the table, relative to the root; None: the captions stand in the train table. jsonl: None.
    columns: csv: each holds a caption; jsonl: keys, dotted where they are nested, of a text or a list of texts.
    separator: csv: what parts several captions of one cell, such as "|"; None: a cell is a caption.
    """

    file: str | None
    id: str
    columns: tuple[str, ...]
    separator: str | None = None

    def needed(self) -> list[str]:
        """The columns that a table of these captions has, beside the id."""
        return list(self.columns)


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where tables and images lie; a column is None where the layout or the competition has none.

    train, test: csv: a table; folder and mvtec: a folder; coco: a JSON file; jsonl: a file with a JSON object a line,
        or a JSON list of objects; voc and yolo: a folder of images or a text file that lists them. Like `images`,
        relative to the root.
    images: the folder that paths start from; test_images: that of the test split (None: the same).
    id: csv: a column; jsonl: a key; coco: "id" | "file_name" | "stem"; voc and yolo: "stem" | "file_name".
    path: a column, or a template over columns such as "{split}/{id}.png" ("split" is "train" or "test",
        unless the table has such a column). jsonl: keys instead of columns, dotted where they are nested.
    target_pattern: how a target names a category and a state, as in "{category}-{state}" (`src.target_pattern`).
    normal: target values (with a pattern: states) that mean normal; everything else is a defect.
    category: csv: a column of the train table, and where it is known of the test table and the solution.
    categories: mvtec: folders below the root that each have `train`, `test` and `mask`; "all": every one; None: the
        root is one.
    mask: csv: a column of mask paths; mvtec: the folder of ground truth.
    tags: csv: a column of class names that are in the image, whether or not boxes say where.
    classes: names in their order, or a file relative to the root, or None: as the data say.
    class_ids: the numbers by which the files call `classes`, where the spec gives them.
    annotations: voc: the folder of XML files.
    """

    layout: str
    train: str
    test: str
    images: str = "."
    test_images: str | None = None
    id: str | None = None
    path: str | None = None
    target: str | None = None
    target_pattern: str | None = None
    normal: tuple[str, ...] = ()
    category: str | None = None
    categories: tuple[str, ...] | str | None = None
    group: str | None = None
    mask: str | None = None
    boxes: BoxTable | None = None
    counts: CountTable | None = None
    captions: CaptionTable | None = None
    tags: str | None = None
    classes: tuple[str, ...] | str | None = None
    class_ids: tuple[int, ...] | None = None
    annotations: str | None = None

    def path_parts(self) -> list[tuple[str, str | None]]:
        """`path` as (literal text, column that follows or None) pairs; a plain column is [("", column)]."""
        if self.path is None:
            return []
        if "{" not in self.path:
            return [("", self.path)]
        return [(literal, column) for literal, column, _, _ in string.Formatter().parse(self.path)]

    def images_of(self, split: str) -> str:
        """The folder of images of a split, relative to the root."""
        return self.test_images if split == "test" and self.test_images is not None else self.images

    def listed(self, split: str) -> bool:
        """voc and yolo: whether the split is a text file with a line an image, rather than a folder."""
        return (self.train if split == "train" else self.test).lower().endswith(".txt")
