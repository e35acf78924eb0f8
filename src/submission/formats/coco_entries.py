"""The entries of COCO results JSON, held one by one against what a grader takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.boxes import run_length as rle
from src.errors import nearest
from src.submission.formats.base import Context

_KEYS = ("image_id", "category_id", "bbox", "score")
_SLACK = 0.01  # pixels beyond the edge that the decimals of other programs may cost
Fault = tuple[str, str, str]  # kind, what was found, remedy


class EntryCheck:
    """What is wrong with one entry after another: (kind, what was found, remedy), or None.

    names: image_id → id of the images that may be written, or None where they are not known; categories: the ids of
    the classes, or None.
    """

    def __init__(self, context: Context, names: Mapping[Any, str] | None, categories: Sequence[int] | None) -> None:
        self.context, self.names, self.categories = context, names, categories
        self.counts: dict[Any, int] = {}
        self.seen: set[tuple[Any, ...]] = set()

    def __call__(self, entry: Any) -> Fault | None:
        if not isinstance(entry, dict):
            return "are not objects", f"{str(entry)[:40]}", 'Write {"image_id": …, …} for each box'
        for key in _KEYS:
            if key not in entry:
                return f"lack '{key}'", nearest(key, entry).strip(), f"Every entry needs {', '.join(_KEYS)}"
        steps = (self._image, self._category, self._score, self._box, self._mask, self._repeated)
        return next((fault for fault in (step(entry) for step in steps) if fault), None)

    def _image(self, entry: dict[str, Any]) -> Fault | None:
        value, kind = entry["image_id"], self.context.option("image_id")
        if type(value).__name__ != kind:
            words = "a whole number" if kind == "int" else "a text"
            return f"have an image_id that is not {words}", repr(value), f"Write it as {words}, as the test file does"
        if self.names is not None and value not in self.names:
            hint = nearest(str(value), map(str, self.names)) if len(self.names) <= 2000 else ""
            example = next(iter(self.names), "")
            remedy = f"Expected ids such as {example!r}"
            return "have an image_id that is not in the test set", f"{value!r}{hint}", remedy
        self.counts[value] = self.counts.get(value, 0) + 1
        return None

    def _category(self, entry: dict[str, Any]) -> Fault | None:
        value = entry["category_id"]
        if type(value) is not int:
            return "have a category_id that is not a whole number", repr(value), "Write the id, not the name"
        if self.categories is not None and value not in self.categories:
            known = ", ".join(map(str, self.categories[:8])) + (", …" if len(self.categories) > 8 else "")
            return "have a category_id that is no class", repr(value), f"The ids are {known}"
        return None

    def _score(self, entry: dict[str, Any]) -> Fault | None:
        value = entry["score"]
        if not _is_number(value):
            return "have a score that is not a finite number", repr(value), "Leave such entries out"
        if not 0 <= value <= 1:
            return "have a score outside [0, 1]", repr(value), "Write probabilities, not percent"
        return None

    def _box(self, entry: dict[str, Any]) -> Fault | None:
        box = entry["bbox"]
        if not isinstance(box, list) or len(box) != 4:
            return "have a bbox that is not four numbers", str(box)[:60], "Write [x, y, width, height]"
        if not all(map(_is_number, box)):
            return "have a bbox that holds other than finite numbers", str(box)[:60], "Leave such entries out"
        if box[2] <= 0 or box[3] <= 0:
            remedy = "Write [x, y, width, height], and leave out boxes without area"
            return "have a bbox whose width or height is not positive", str(box), remedy
        remedy = "Write [x, y, width, height] in pixels of the original image, clipped to it"
        if min(box[:2]) < -_SLACK:
            return "have boxes outside the image (negative coordinates)", str(box), remedy
        size = self._size(entry)
        if size and (box[0] + box[2] > size[0] + _SLACK or box[1] + box[3] > size[1] + _SLACK):
            return "have boxes outside the image (beyond its size)", f"{box}, image {size[0]}×{size[1]}", remedy
        return None

    def _mask(self, entry: dict[str, Any]) -> Fault | None:
        mask = entry.get("segmentation")
        if mask is None:
            if self.context.option("segmentation"):
                return "lack 'segmentation'", "", "Every entry needs the mask of its object"
            return None
        remedy = 'Write {"size": [height, width], "counts": text} as pycocotools.mask.encode answers, decoded to text'
        shape = mask.get("size") if isinstance(mask, dict) else None
        if not isinstance(shape, list) or len(shape) != 2 or not isinstance(mask.get("counts"), str):
            return "have a segmentation that is no run-length mask", str(mask)[:60], remedy
        size = self._size(entry)
        if size and shape != [size[1], size[0]]:
            return "have a mask of another size than the image", f"{shape}, image [{size[1]}, {size[0]}]", remedy
        try:
            covered = int(rle.expand_counts(mask["counts"]).sum())
        except rle.IllegalRuns as error:
            return f"have a mask whose text {error.kind}", "", remedy
        if covered != shape[0] * shape[1]:
            return "have a mask that does not cover its image", f"{covered} pixels of {shape[0] * shape[1]}", remedy
        return None

    def _repeated(self, entry: dict[str, Any]) -> Fault | None:
        key = (entry["image_id"], entry["category_id"], *entry["bbox"])
        if key in self.seen:
            return "repeat a box of the same image and category", str(entry["bbox"]), "Keep one of them"
        self.seen.add(key)
        return None

    def _size(self, entry: dict[str, Any]) -> tuple[int, int] | None:
        value = entry["image_id"]
        return self.context.sizes.get(str(value) if self.names is None else self.names[value])


def _is_number(value: Any) -> bool:
    """A number that is finite, also as a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
