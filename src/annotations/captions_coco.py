"""COCO captions: images and annotations with a `caption` each, of one split in one JSON file."""

from __future__ import annotations

from typing import Any

from src.annotations.box_tables import table_name
from src.annotations.captions_reading import CaptionReading, add_value
from src.annotations.coco import entries, image_ids, image_rows, listed_images, load_json
from src.competition import Competition
from src.errors import ProjectError, nearest
from src.rows import Rows

KEY = "caption"


def read_train(spec: Competition) -> tuple[Rows, CaptionReading]:
    """The training images and their captions.

    Raises:
        ProjectError: a file that is no COCO JSON, an image that is missing or listed twice, no annotation with a
            caption.
    """
    rows, place, document = _split(spec, "train")
    reading = _captions(document, spec.data.train, place)
    _check_key(spec, "data.train", document, spec.data.train)
    return rows, reading


def read_rows(spec: Competition, split: str) -> Rows:
    """The images of a split."""
    return _split(spec, split)[0]


def read_test(spec: Competition) -> tuple[Rows, CaptionReading | None]:
    """The test images and the captions that their file has; None where it has no annotations."""
    rows, place, document = _split(spec, "test")
    return rows, _captions(document, spec.data.test, place) if document.get("annotations") else None


def read_solution(spec: Competition, rows: Rows) -> CaptionReading:
    """Captions of the test images in another JSON file: COCO's keys, or a list of {image_id, caption} alone.

    The file may list more images than the test set has.

    Raises:
        ProjectError: it is neither, or has no annotation with a caption.
    """
    name, document = table_name(spec.solution, spec.root), load_json(spec.solution)
    if isinstance(document, list):
        document = {"annotations": document}
    elif not isinstance(document, dict):
        raise spec.error("solution", f"{spec.solution} is a {type(document).__name__}, expected COCO's keys or a list.")
    _check_key(spec, "solution", document, name)
    _, place, _ = _split(spec, "test")
    left_out: dict[str, str] = {}
    if document.get("images"):
        known, images = set(rows.ids), listed_images(document, name)
        own = {str(image["id"]): identifier for image, identifier in zip(images, image_ids(spec, images), strict=True)}
        place = {key: identifier for key, identifier in own.items() if identifier in known}
        left_out = {key: identifier for key, identifier in own.items() if identifier not in known}
    return _captions(document, name, place, left_out=left_out)


def _split(spec: Competition, split: str) -> tuple[Rows, dict[str, str], dict[str, Any]]:
    """The images of a split, their ids by the numbers that the file gives them, and the file's content."""
    name = spec.data.train if split == "train" else spec.data.test
    document = load_json(spec.locate(name))
    if not isinstance(document, dict):
        problem = f"{name} is a {type(document).__name__}, and COCO captions have the keys images and annotations."
        raise spec.error(f"data.{split}", f"{problem} A list of records is read by data.layout: jsonl.")
    images = listed_images(document, name)
    rows = image_rows(spec, split, images, name)
    return rows, {str(image["id"]): row for image, row in zip(images, rows.ids, strict=True)}, document


def _captions(
    document: dict[str, Any], name: str, place: dict[str, str], *, left_out: dict[str, str] | None = None
) -> CaptionReading:
    """`place`: number of an image in the document → id. Annotations of images in `left_out` are passed over."""
    reading = CaptionReading()
    for number, annotation in enumerate(entries(document, "annotations", name), 1):
        if not isinstance(annotation, dict):
            raise ProjectError(f"{name}: annotation number {number} is no object with keys, but {annotation!r:.60}.")
        source = f"{name} annotation {annotation.get('id', f'number {number}')}"
        image = str(annotation.get("image_id"))
        if image in place:
            add_value(reading, place[image], annotation.get(KEY), source, KEY)
        elif not left_out or image not in left_out:
            reading.reports.add(source, None, f"no image has the id {annotation.get('image_id')!r}", "set aside")
    return reading


def _check_key(spec: Competition, key: str, document: dict[str, Any], name: str) -> None:
    """Refuse a file in which no annotation has a caption: it may be one of boxes."""
    annotations = [item for item in entries(document, "annotations", name) if isinstance(item, dict)]
    if any(KEY in item for item in annotations):
        return
    if not annotations:
        raise spec.error(key, f"{name} has no annotations. Name the file that has captions.")
    keys = list(dict.fromkeys(name for item in annotations[:100] for name in item))
    near = nearest(KEY, keys)
    problem = f"no annotation in {name} has a `{KEY}`.{near} Their keys: {', '.join(map(str, keys))}."
    raise spec.error(key, f"{problem} Rename the key, or read the file as data.layout: jsonl.")
