"""`rle`: masks as runs of "start length", one row an image, an image and class, or an object."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from src.boxes import run_length as rle
from src.boxes.types import Detections
from src.errors import ProjectError
from src.submission.formats import options as opt
from src.submission.formats.base import Context, Format, Key, Row
from src.submission.formats.boxes import kept
from src.submission.formats.class_rows import PATTERN, ClassRows, check_pattern
from src.submission.formats.mask_cells import OPTIONS, cell_in_words, check_cells, read_cell, write_cell


class Rle(ClassRows):
    """Runs of mask pixels; `empty` where there are none.

    An image's value is Detections with masks (COCO's compressed text; the image's size must be known), a bool mask
    (height, width), or for rows of classes masks (classes, height, width). `rows` says what a row holds: `image`
    the union of all masks, `class` that of a class, `instance` one object, best first; the ids repeat then, and a
    pixel belongs to the first object that has it, since such graders refuse overlap. `pattern` is how the id of a row
    names its image and class, or for rows of images the image alone ("{id}_1" where all defects are one class).
    """

    name = "rle"
    empty = "all masks are empty"
    optional_roles = ("class",)
    options = {
        "rows": opt.choice("image", "image", "class", "instance"),
        "pattern": PATTERN,
        "labels": opt.label_texts(),
        **OPTIONS,
        "min_score": opt.share(0.0),
    }

    def check(self, options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]) -> dict[str, Any]:
        given = super().check(options, fail)
        check_cells(given, fail)
        rows = given.get("rows", "image")
        if rows == "class":
            return check_pattern(given, fail)
        if given.get("pattern", "{id}") != "{id}" and rows == "instance":
            fail("options.pattern", "rows of objects have none: their ids are the images'. Remove it.")
        if "pattern" in given:
            _check_image_pattern(given["pattern"], fail)
        return given

    def check_together(
        self, columns: Mapping[str, str], options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]
    ) -> None:
        if "class" in columns and options.get("rows", "image") == "image":
            fail("columns.class", "rows of images name no class. Write options.rows: class, or remove the column.")

    def key_columns(self, context: Context) -> list[str]:
        return super().key_columns(context) if _by_class(context) else Format.key_columns(self, context)

    def value_columns(self, context: Context) -> list[str]:
        columns = context.spec.columns
        return [columns["class"], columns["value"]] if self._class_cell(context) else [columns["value"]]

    def readers(self, context: Context) -> list[Callable[[str, Context, str | None], Any]]:
        return [self._read_class, self.read] if self._class_cell(context) else [self.read]

    def keys(self, image_id: str, context: Context) -> list[Key]:
        return super().keys(image_id, context) if _by_class(context) else [(_row_id(image_id, context),)]

    def owner(self, key: Key, context: Context) -> tuple[str, int | None]:
        if _by_class(context):
            return super().owner(key, context)
        before, after = _image_pattern(context).split("{id}")
        whole = key[0].startswith(before) and key[0].endswith(after) and len(key[0]) >= len(before) + len(after)
        return (key[0][len(before) : len(key[0]) - len(after)] if whole else key[0]), None

    def owners(self, ids: Sequence[str], context: Context) -> dict[Key, tuple[str, int | None]]:
        if _by_class(context):
            return super().owners(ids, context)
        return {(_row_id(name, context),): (name, None) for name in ids}

    def repeats(self, context: Context) -> bool:
        return context.option("rows") == "instance"

    def write(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> list[Row]:
        return [row for name, value in zip(ids, values, strict=True) for row in self._rows(name, value, context)]

    def _rows(self, image_id: str, value: Any, context: Context) -> Iterator[Row]:
        keys = self.keys(image_id, context)
        if self.repeats(context):
            objects = list(_apart(_objects(image_id, value, context)))
            for label, mask in objects:
                label_cell = (context.labels.text(label),) if self._class_cell(context) else ()
                yield Row(keys[0], (*label_cell, write_cell(mask, context)))
            if not objects:
                yield Row(keys[0], ("",) * self._class_cell(context) + (context.option("empty"),))
            return
        unions = _unions(image_id, value, len(keys), context)
        for key, mask in zip(keys, unions, strict=True):
            yield Row(key, (context.option("empty") if mask is None else write_cell(mask, context),))

    def read(self, text: str, context: Context, image_id: str | None = None) -> np.ndarray:
        """(N, 2) runs, starts from 0."""
        return read_cell(text, context, context.sizes.get(image_id) if image_id is not None else None)

    def _read_class(self, text: str, context: Context, image_id: str | None = None) -> int:
        return -1 if text == "" else context.labels.index(text)

    def expected(self, context: Context) -> str:
        return cell_in_words(context)

    def collect(self, rows: Sequence[tuple[int | None, list[Any]]], image_id: str, context: Context) -> Detections:
        """Detections with masks, their tight boxes, and the score 1."""
        size = context.sizes.get(image_id)
        boxes, labels, masks = [], [], []
        for label, cells in rows:
            if not len(cells[-1]):
                continue
            if size is None:
                raise ProjectError(f"masks need the size of each image, and that of '{image_id}' is not known.")
            mask = rle.runs_to_mask(cells[-1], size, order=context.option("order"))  # of COCO's text always column
            down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            boxes.append([across[0], down[0], across[-1] + 1, down[-1] + 1])
            labels.append(max(cells[0], 0) if len(cells) == 2 else label or 0)
            masks.append(rle.mask_to_coco(mask))
        return Detections(boxes, np.ones(len(boxes)), labels, tuple(masks))

    def row_problems(
        self, rows: Sequence[tuple[int | None, list[Any]]], image_id: str, context: Context
    ) -> str | None:
        runs = [cells[-1] for _, cells in rows]
        if len(runs) < 2 or not self.repeats(context):
            return None
        if any(not len(part) for part in runs):
            return "have an empty row beside others"
        together = np.concatenate(runs)
        together = together[np.argsort(together[:, 0], kind="stable")]
        overlap = (together[1:, 0] < together.sum(axis=1)[:-1]).any()
        return "have objects that share pixels" if overlap else None

    def _class_cell(self, context: Context) -> bool:
        return "class" in context.spec.columns and not _by_class(context)


def _image_pattern(context: Context) -> str:
    return (context.spec.options or {}).get("pattern") or "{id}"


def _row_id(image_id: str, context: Context) -> str:
    return _image_pattern(context).replace("{id}", image_id)


def _check_image_pattern(pattern: str, fail: Callable[[str, str], NoReturn]) -> None:
    rest = pattern.replace("{id}", "", 1)
    if rest == pattern or "{" in rest or "}" in rest:
        remedy = "Rows of images name no class: write options.rows: class for those that do."
        fail("options.pattern", f"'{pattern}' must hold {{id}} once and no other field, as in '{{id}}_1'. {remedy}")


def _by_class(context: Context) -> bool:
    return context.option("rows") == "class"


def _objects(image_id: str, value: Any, context: Context) -> Iterator[tuple[int, np.ndarray]]:
    """(class, mask) of each object, best first."""
    found = kept(image_id, value, context)
    if not len(found):
        return
    size = context.sizes.get(image_id)
    if found.masks is None:
        raise ProjectError(f"the format 'rle' needs masks, and the detections of '{image_id}' have boxes only.")
    if size is None:
        raise ProjectError(f"masks need the size of each image, and that of '{image_id}' is not known.")
    for label, text in zip(found.labels.tolist(), found.masks, strict=True):
        try:
            yield label, rle.coco_to_mask(text, size)
        except rle.IllegalRuns as error:
            raise ProjectError(f"a mask of the image '{image_id}' {error}.") from error


def _apart(objects: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Each object without the pixels of those before it; nothing where none are left."""
    taken: np.ndarray | None = None
    for label, mask in objects:
        own = mask if taken is None else mask & ~taken
        taken = mask if taken is None else mask | taken
        if own.any():
            yield label, own


def _unions(image_id: str, value: Any, rows: int, context: Context) -> list[np.ndarray | None]:
    """The mask of each row: of the image, or of each class; None where nothing is found."""
    if isinstance(value, np.ndarray):
        if value.dtype != bool:
            raise ProjectError(f"the mask of '{image_id}' is {value.dtype}, expected bool: decide its pixels first.")
        masks = value[None] if value.ndim == 2 else value
        if masks.ndim != 3 or len(masks) != rows:
            raise ProjectError(
                f"the mask of '{image_id}' has the shape {value.shape}, expected (height, width)"
                + (f" or ({rows}, height, width), a mask a class." if rows > 1 else ".")
            )
        size = context.sizes.get(image_id)
        if size is not None and masks.shape[1:] != (size[1], size[0]):
            raise ProjectError(
                f"the mask of '{image_id}' is {masks.shape[2]}×{masks.shape[1]} pixels, and the image "
                f"{size[0]}×{size[1]}. Resize the mask to the original image."
            )
        return list(masks)
    unions: list[np.ndarray | None] = [None] * rows
    for label, mask in _objects(image_id, value, context):
        row = label if _by_class(context) else 0
        if row >= rows:
            raise ProjectError(f"the image '{image_id}' has a mask of the class {label}; there are {rows}.")
        unions[row] = mask if unions[row] is None else unions[row] | mask
    return unions
