"""`coco`: detections as COCO results JSON, a list of entries of all images in one file; written, read, validated."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.boxes.types import Detections
from src.errors import ProjectError
from src.submission.formats import options as opt
from src.submission.formats.base import Context
from src.submission.formats.boxes import kept, on_grid, to_convention
from src.submission.formats.coco_entries import EntryCheck
from src.submission.formats.whole_file import WholeFile
from src.submission.json_reading import read_list
from src.submission.reading import listed


class Coco(WholeFile):
    """[{"image_id", "category_id", "bbox": [x, y, w, h], "score"(, "segmentation": {"size": [h, w], "counts"})}].

    An image without an entry has no detections. As for `prediction_string` the writer clips boxes to images of known
    size and leaves out those without area; of boxes that are written alike it keeps the first.
    """

    name = "coco"
    suffix = ".json"
    empty = "the file has no entry: nothing is found in any image"
    options = {
        "image_id": opt.choice("int", "int", "str"),
        "decimals": opt.whole(None, 0),
        "segmentation": opt.flag(False),
        "max_boxes": opt.whole(None, 1),
        "min_score": opt.share(0.0),
    }

    def content(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> str:
        """The text of the file, an entry a line.

        Raises:
            ProjectError: an id that is no whole number where such are asked for, unknown categories, or a value that
                cannot be written.
        """
        names_of(ids, context)  # two ids of one number are refused
        lines = []
        for name, value in zip(ids, values, strict=True):
            lines += [json.dumps(entry, allow_nan=False) for entry in self._entries(name, value, context)]
        return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"

    def _entries(self, name: str, value: Any, context: Context) -> Iterator[dict[str, Any]]:
        decimals = context.option("decimals")
        found, boxes = on_grid(kept(name, value, context), np.ones(4), decimals, limit=None)
        if context.option("segmentation") and len(found) and found.masks is None:
            raise ProjectError(f"options.segmentation needs masks, and the detections of '{name}' have boxes only.")
        image_id, categories = image_id_of(name, context), categories_of(context)
        written = set()
        for number, box in enumerate(to_convention(boxes, "xywh").tolist()):
            label = int(found.labels[number])
            if categories is not None and not 0 <= label < len(categories):
                raise ProjectError(f"the image '{name}' has the class {label}; the competition has {len(categories)}.")
            if decimals is not None:
                box = [round(side, decimals) if decimals else int(side) for side in box]
            if (label, *box) in written:
                continue
            written.add((label, *box))
            entry: dict[str, Any] = {
                "image_id": image_id,
                "category_id": label if categories is None else categories[label],
                "bbox": box,
                "score": float(found.scores[number]),
            }
            if context.option("segmentation"):
                width, height = self._size(name, context)
                entry["segmentation"] = {"size": [height, width], "counts": found.masks[number]}
            yield entry
            if len(written) == context.option("max_boxes"):
                return

    def _size(self, name: str, context: Context) -> tuple[int, int]:
        if name not in context.sizes:
            raise ProjectError(f"masks need the size of each image, and that of '{name}' is not known.")
        return context.sizes[name]

    def expected(self, context: Context) -> str:
        return 'entries {"image_id", "category_id", "bbox": [x, y, w, h], "score"}'

    def problems(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> list[str]:
        """Every problem of the file; entries are counted from 0, as Python's lists are."""
        entries, problems = _entries_of(path)
        if entries is None:
            return problems
        faults: dict[tuple[str, str], list[str]] = {}
        check = EntryCheck(context, None if ids is None else names_of(ids, context), categories_of(context))
        for number, entry in enumerate(entries):
            fault = check(entry)
            if fault:
                kind, found, remedy = fault
                faults.setdefault((kind, remedy), []).append(f"entry {number}{f' ({found})' if found else ''}")
        problems += [listed(f"entries {kind}", at, remedy) for (kind, remedy), at in faults.items()]
        limit = context.option("max_boxes")
        full = [f"{name!r} ({count})" for name, count in check.counts.items() if limit is not None and count > limit]
        if full:
            problems.append(listed(f"images have more than {limit} boxes", full, "Keep the best by score"))
        return problems

    def values(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> dict[str, Detections]:
        """id → detections of a valid file: of `ids`, or of the images that have entries."""
        entries = _entries_of(path)[0] or []
        names = None if ids is None else names_of(ids, context)
        categories = categories_of(context)
        index = None if categories is None else {value: at for at, value in enumerate(categories)}
        groups: dict[str, list[dict[str, Any]]] = {name: [] for name in ids or ()}
        for entry in entries:
            name = str(entry["image_id"]) if names is None else names[entry["image_id"]]
            groups.setdefault(name, []).append(entry)
        result = {}
        for name, group in groups.items():
            boxes = np.array([entry["bbox"] for entry in group], dtype=np.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            labels = [entry["category_id"] if index is None else index[entry["category_id"]] for entry in group]
            with_masks = bool(group) and all("segmentation" in entry for entry in group)
            masks = tuple(entry["segmentation"]["counts"] for entry in group) if with_masks else None
            result[name] = Detections(boxes, [entry["score"] for entry in group], labels, masks)
        return result


def _entries_of(path: str | Path) -> tuple[list[Any] | None, list[str]]:
    """(the entries, or None where the file is no list; its problems so far)."""
    records, problems = read_list(path)
    return None if records is None else [entry for _, entry in records], problems


def image_id_of(name: str, context: Context) -> int | str:
    """What COCO files call an image, by the option `image_id`."""
    if context.option("image_id") == "str":
        return name
    if not (name.isascii() and name.isdigit()):
        raise ProjectError(
            f"the id '{name}' is not a whole number, as COCO's image ids are. Where the competition's are texts, say "
            "so: submission.options.image_id: str."
        )
    return int(name)


def names_of(ids: Sequence[str], context: Context) -> dict[int | str, str]:
    """What the file says for an image → its id."""
    names: dict[int | str, str] = {}
    for name in ids:
        value = image_id_of(name, context)
        if value in names:
            raise ProjectError(f"the ids '{names[value]}' and '{name}' are one image_id, {value}. Use image_id: str.")
        names[value] = name
    return names


def categories_of(context: Context) -> list[int] | None:
    """The category id of each class; None where classes are not known, and label and id are one."""
    if context.category_ids:
        return list(context.category_ids)
    return list(range(len(context.classes))) if context.classes else None
