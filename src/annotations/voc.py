"""Pascal VOC: an XML file an image, found by the image's name; what the file says of its own name is not trusted.

Coordinates are pixels counted from 1, the last included, as VOC defines them: a box over a whole image of width W has
xmin 1 and xmax W. It becomes [0, W] by taking 1 from xmin and ymin alone, as Detectron2 does. Tools that count from 0
write VOC files too: where any training box has an xmin or ymin below 1, nothing is taken off.

`difficult` makes an object ignored. An image without an XML file is one of which nothing is known (None), and is
reported; one whose XML has no object is an image without objects.
"""

import re
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from src.annotations.classes import Vocabulary, given_vocabulary
from src.annotations.image_lists import read_images
from src.annotations.reading import Marks, Reading
from src.competition import Competition
from src.errors import ProjectError
from src.listing import Tree, nfc
from src.rows import Rows, listed
from src.tables import read_text

CORNERS = ("xmin", "ymin", "xmax", "ymax")
_ENCODING = re.compile(rb"""<\?xml[^>]*encoding=["']([A-Za-z0-9._-]+)["']""")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def read_split(spec: Competition, split: str, *, objects: bool) -> tuple[Rows, Reading | None]:
    """The images of a split and, with `objects`, what is marked in them.

    Raises:
        ProjectError: images that are missing, no XML file for any image, or one that cannot be read.
    """
    rows, relatives = read_images(spec, split)
    if not objects:
        return rows, None
    reading = _objects(spec, split, rows, relatives)
    if all(marks is None for marks in reading.marks):
        where = spec.locate(spec.data.annotations)
        raise spec.error(
            "data.annotations",
            f"no XML file in {where} or beside the images has the name of a training image, such as "
            f"'{relatives[0]}'. Name the folder of the XML files.",
        )
    _count_from_zero(reading, _first_pixel(reading))
    return rows, reading


def read_answers(spec: Competition, rows: Rows, classes: Vocabulary) -> Reading | None:
    """What is marked in the test images; None where no test image has an XML file."""
    relatives = read_images(spec, "test")[1]
    reading = _objects(spec, "test", rows, relatives)
    unknown = [source for source, marks in zip(rows.sources, reading.marks, strict=True) if marks is None]
    if len(unknown) == len(rows.ids):
        return None
    if unknown:
        problem = f"{len(unknown)} test images have no XML file: {listed(unknown)}."
        remedy = "Add them (without <object> where there is none), or remove all of the test set's."
        raise spec.error("data.annotations", f"{problem} {remedy}")
    train, train_relatives = read_images(spec, "train")
    _count_from_zero(reading, _first_pixel(_objects(spec, "train", train, train_relatives)))
    reading.vocabulary = classes
    return reading


def _objects(spec: Competition, split: str, rows: Rows, relatives: list[str]) -> Reading:
    """Marks as the files have them, coordinates untouched."""
    tree = Tree(spec.root)
    start = spec.data.images if spec.data.listed(split) else (spec.data.train if split == "train" else spec.data.test)
    index = _xml_files(spec, tree)
    reading = Reading([None] * len(rows.ids), vocabulary=given_vocabulary(spec))
    for row, relative in enumerate(relatives):
        stem = nfc(relative).rpartition(".")[0]
        below = stem[len(start) + 1 :] if stem.startswith(f"{start}/") else stem
        bare = stem.rpartition("/")[2]
        path = tree.find(f"{relative.rpartition('.')[0]}.xml") or index.get(below) or index.get(stem)
        path = path or index.get(f"*/{bare}")
        if path is None:
            reading.report(rows.sources[row], rows.ids[row], "it has no XML file", "its objects are unknown")
            continue
        name = str(Path(path).relative_to(spec.root))
        reading.marks[row], reading.sizes[row] = _read(Path(path), name, rows.ids[row], reading)
    return reading


def _xml_files(spec: Competition, tree: Tree) -> dict[str, str]:
    """Stem below the folder of annotations → path, and "*/name" → path for the names that are there once."""
    index: dict[str, str] = {}
    bare: dict[str, list[str]] = {}
    for relative, path in tree.files(spec.data.annotations, lambda name: name.lower().endswith(".xml")):
        stem = nfc(relative)[: -len(".xml")]
        index[stem] = path
        bare.setdefault(stem.rpartition("/")[2], []).append(path)
    return index | {f"*/{name}": paths[0] for name, paths in bare.items() if len(paths) == 1}


def _read(path: Path, name: str, identifier: str, reading: Reading) -> tuple[Marks, tuple[int, int] | None]:
    """The objects of one file and the size of the image that it claims."""
    root = parse(path, name)
    marks = Marks()
    for number, element in enumerate(root.iter("object"), 1):
        source = f"{name} object {number}"
        label = (element.findtext("name") or "").strip()
        if not label:
            raise ProjectError(f"{source}: it has no <name>. Write its class.")
        corners = element.find("bndbox")
        texts = [corners.findtext(key) if corners is not None else None for key in CORNERS]
        try:
            box = [float(text) for text in texts]
        except (TypeError, ValueError):
            found = ", ".join(f"{key} {text!r}" for key, text in zip(CORNERS, texts, strict=True))
            reading.report(source, identifier, f"no box of four numbers ({found})", "set aside")
            continue
        difficult = (element.findtext("difficult") or "0").strip().lower() in ("1", "true")
        marks.add(box, nfc(label), source, ignored=difficult)
    try:
        size = int(float(root.findtext("size/width"))), int(float(root.findtext("size/height")))
    except (TypeError, ValueError, OverflowError):
        return marks, None
    return marks, size if min(size) > 0 else None


def parse(path: Path, name: str) -> Element:
    """The root element of an XML file. A document type is refused: entities can make a small file a huge one.

    Raises:
        ProjectError: unreadable, no XML, of another root than <annotation>, or with a document type.
    """
    text = _text(path)
    builder = TreeBuilder()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> NoReturn:
        raise ProjectError(f"{name}: it has a document type (<!DOCTYPE), which no annotation needs. Remove that line.")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode("utf-8"), True)
    except expat.ExpatError as error:
        raise ProjectError(f"{name}: not readable as XML ({error}). Mend or remove the file.") from error
    root = builder.close()
    if root.tag != "annotation":
        raise ProjectError(f"{name}: its root is <{root.tag}>, and Pascal VOC's is <annotation>.")
    return root


def _text(path: Path) -> str:
    """Decoded by the encoding that the file declares, else UTF-8 or cp949; without the declaration."""
    content = path.read_bytes()
    declared = _ENCODING.match(content.removeprefix(b"\xef\xbb\xbf"))
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            text = content.decode("utf-16")
        elif declared is not None and declared[1].lower() not in (b"utf-8", b"utf8"):
            text = content.decode(declared[1].decode("ascii"))
        else:
            text = read_text(path)
    except (LookupError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path}: its text cannot be decoded ({error}). Save it as UTF-8.") from error
    return _DECLARATION.sub("", text)


def _first_pixel(reading: Reading) -> int:
    """1 where the training boxes may count from 1, else 0."""
    low = [value for marks in reading.marks if marks is not None for box in marks.boxes for value in box[:2]]
    return 1 if min(low, default=1) >= 1 else 0


def _count_from_zero(reading: Reading, first: int) -> None:
    for marks in reading.marks:
        if marks is not None:
            marks.boxes = [[box[0] - first, box[1] - first, box[2], box[3]] for box in marks.boxes]
