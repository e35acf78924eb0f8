"""COCO JSON: images, categories and annotations of one split in one file.

Boxes are [x, y, width, height] in pixels, measured from the upper left corner of the upright picture. Masks are not
read; where a box is missing, the polygons' bounds serve. `iscrowd` makes a region ignored. An image without
annotations is an image without objects.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from src.annotations.classes import Vocabulary, given_vocabulary
from src.annotations.reading import Marks, Reading
from src.competition import Competition
from src.errors import ProjectError, nearest
from src.layouts import resolve_files
from src.listing import Tree, nfc
from src.rows import Rows, check_rows


def read_split(spec: Competition, split: str, *, objects: bool) -> tuple[Rows, Reading | None]:
    """The images of a split and, with `objects`, what is marked in them.

    Raises:
        ProjectError: a file that is no COCO JSON, an image that is missing or listed twice, an unknown category.
    """
    name = spec.data.train if split == "train" else spec.data.test
    document = load(spec.locate(name))
    images = listed_images(document, name)
    rows = image_rows(spec, split, images, name)
    if not objects:
        return rows, None
    place = {str(image["id"]): row for row, image in enumerate(images)}
    return rows, _objects(document, name, place, rows.ids, images, vocabulary(spec, document, name))


def image_rows(spec: Competition, split: str, images: list[dict[str, Any]], name: str) -> Rows:
    """The images that a file lists (`listed_images`) as rows of a split; `name` is the file, for messages.

    Raises:
        ProjectError: an image that is missing or outside the root, or an id or a training image that is there twice.
    """
    sources = [f"{name} image {image['id']}" for image in images]
    files = [str(image["file_name"]) for image in images]
    folder = spec.data.images_of(split)
    paths = resolve_files(spec, "data.images", "image", files, sources, Tree(spec.root), start=folder)
    rows = Rows(image_ids(spec, images), paths, sources)
    check_rows(spec, split, rows)
    return rows


def read_answers(spec: Competition, rows: Rows, classes: Vocabulary) -> Reading | None:
    """What is marked in the test images: by the solution file, or by the test file itself; None where neither does."""
    test = load(spec.locate(spec.data.test))
    images = listed_images(test, spec.data.test)
    document, name = (test, spec.data.test) if spec.solution is None else (load(spec.solution), spec.solution.name)
    if not document.get("annotations"):
        if spec.solution is not None:
            raise spec.error("solution", f"{spec.solution} has no annotations. Name the file that has, or null.")
        return None
    place = {str(image["id"]): row for row, image in enumerate(images)}
    if document is not test and document.get("images"):
        of_id = {identifier: row for row, identifier in enumerate(rows.ids)}
        own = listed_images(document, name)
        own_ids = image_ids(spec, own)
        known = set(own_ids)
        absent = [identifier for identifier in of_id if identifier not in known]
        if absent:
            raise spec.error("solution", f"{spec.solution} does not list the test image '{absent[0]}'. List each one.")
        pairs = zip(own, own_ids, strict=True)
        place = {str(image["id"]): of_id[identifier] for image, identifier in pairs if identifier in of_id}
    if not document.get("categories"):
        document = {**document, "categories": load(spec.locate(spec.data.train)).get("categories")}
    return _objects(document, name, place, rows.ids, images, classes)


def vocabulary(spec: Competition, document: dict[str, Any], name: str) -> Vocabulary:
    """The categories in the order of their ids, or the spec's classes with the ids of the categories of their names."""
    categories = _categories(document, name)
    given = given_vocabulary(spec)
    if given is None:
        return Vocabulary.of(categories.values(), categories)
    id_of = {label: key for key, label in categories.items()}
    for label in given.names:
        if label not in id_of:
            known = f"Its categories: {', '.join(id_of)}."
            raise spec.error("data.classes", f"{name} has no category '{label}'.{nearest(label, id_of)} {known}")
    return Vocabulary.of(given.names, [id_of[label] for label in given.names])


def _objects(
    document: dict[str, Any],
    name: str,
    place: dict[str, int],
    identifiers: list[str],
    images: list[dict[str, Any]],
    classes: Vocabulary,
) -> Reading:
    """`place`: image id of the document → row."""
    marks = [Marks() for _ in identifiers]
    reading = Reading(list(marks), sizes=[_size(image) for image in images], vocabulary=classes)
    categories = _categories(document, name)
    for number, annotation in enumerate(entries(document, "annotations", name), 1):
        if not isinstance(annotation, dict):
            raise ProjectError(f"{name}: annotation number {number} is no object with keys, but {annotation!r:.60}.")
        source = f"{name} annotation {annotation.get('id', f'number {number}')}"
        row = place.get(str(annotation.get("image_id")))
        if row is None:
            reading.report(source, None, f"no image has the id {annotation.get('image_id')!r}", "set aside")
            continue
        category = _number(annotation.get("category_id"))
        if category not in categories:
            known = ", ".join(f"{key} ({label})" for key, label in list(categories.items())[:12])
            raise ProjectError(f"{source}: category_id {annotation.get('category_id')!r} is unknown. Known: {known}.")
        box = _box(annotation)
        if isinstance(box, str):
            reading.report(source, identifiers[row], box, "set aside")
            continue
        marks[row].add(box, categories[category], source, ignored=bool(annotation.get("iscrowd")))
    return reading


def _box(annotation: dict[str, Any]) -> list[float] | str:
    """xyxy, or what is wrong with it."""
    box = annotation.get("bbox")
    if box:
        try:
            x, y, width, height = (float(value) for value in box)
        except (TypeError, ValueError):
            return f"bbox is not four numbers: {box!r:.80}"
        return [x, y, x + width, y + height]
    polygons = annotation.get("segmentation")
    if not isinstance(polygons, list) or not polygons:
        return "neither a bbox nor polygons"
    try:
        numbers = [[float(value) for value in polygon] for polygon in polygons]
        xs = [value for polygon in numbers for value in polygon[0::2]]
        ys = [value for polygon in numbers for value in polygon[1::2]]
        return [min(xs), min(ys), max(xs), max(ys)]
    except (TypeError, ValueError):
        return "no bbox, and its polygons are not lists of numbers"


def load_json(path: Path) -> Any:
    """Whatever a JSON file holds, in UTF-8, UTF-16 or cp949. Raises ProjectError: it cannot be read, or is no JSON."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProjectError(f"could not read {path}: {error.strerror or error}.") from error
    try:
        try:
            return json.loads(content)
        except UnicodeDecodeError:
            return json.loads(content.decode("cp949"))
    except (ValueError, RecursionError) as error:  # of the decoder as of the parser
        raise ProjectError(f"{path} is not JSON ({error}). It may be cut off: fetch it again.") from error


def load(path: Path) -> dict[str, Any]:
    """A COCO document. Raises ProjectError: it is no JSON, or a list alone."""
    document = load_json(path)
    if not isinstance(document, dict):
        raise ProjectError(
            f"{path} is a {type(document).__name__}, and COCO JSON has keys: images, annotations, categories. "
            "A list alone is a file of results."
        )
    return document


def entries(document: dict[str, Any], key: str, name: str) -> list[Any]:
    """A list of the document; [] where it has none. Raises ProjectError: it is no list."""
    values = document.get(key) or []
    if not isinstance(values, list):
        raise ProjectError(f"{name}: `{key}` is a {type(values).__name__}, expected a list.")
    return values


def listed_images(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The images of a document, each with an `id` of its own and a `file_name`. Raises ProjectError: there is none."""
    images = entries(document, "images", name)
    if not images:
        raise ProjectError(f"{name} lists no images. Its keys: {', '.join(map(str, document)) or 'none'}.")
    seen: set[str] = set()
    for number, image in enumerate(images, 1):
        for key in ("id", "file_name"):
            if not isinstance(image, dict) or image.get(key) in (None, ""):
                raise ProjectError(f"{name}: image number {number} has no `{key}`.")
        if str(image["id"]) in seen:
            raise ProjectError(f"{name}: two images have the id {image['id']!r}. Give each its own.")
        seen.add(str(image["id"]))
    return images


def image_ids(spec: Competition, images: Iterable[dict[str, Any]]) -> list[str]:
    """As `data.id` says: the number, the file's name as it is written, or that without folder and suffix."""
    if spec.data.id == "id":
        return [str(image["id"]) for image in images]
    names = [nfc(str(image["file_name"])) for image in images]
    if spec.data.id == "file_name":
        return names
    return [name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or name for name in names]


def _categories(document: dict[str, Any], name: str) -> dict[int, str]:
    """id → name, in the order of the ids."""
    found: dict[int, str] = {}
    for number, category in enumerate(entries(document, "categories", name), 1):
        key = _number(category.get("id")) if isinstance(category, dict) else None
        if key is None or not str(category.get("name", "")).strip():
            raise ProjectError(f"{name}: category number {number} needs an `id` (a number) and a `name`.")
        label = nfc(str(category["name"]).strip())
        if key in found or label in found.values():
            raise ProjectError(f"{name}: two categories have the id {key} or the name '{label}'. Give each its own.")
        found[key] = label
    if not found:
        raise ProjectError(f"{name} lists no categories. It needs them to name the classes.")
    return dict(sorted(found.items()))


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    width, height = _number(image.get("width")), _number(image.get("height"))
    return (width, height) if width and height and min(width, height) > 0 else None
