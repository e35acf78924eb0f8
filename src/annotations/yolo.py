"""YOLO text files: an image's labels in the file of its name, with `images` in its path replaced by `labels`.

A line is "class cx cy width height" in shares of the upright picture's width and height, or "class x1 y1 x2 y2 x3
y3 …", a polygon whose bounds are taken. An image without a file, or with an empty one, is an image without objects.
"""

from pathlib import Path

from src.annotations.classes import Vocabulary, given_vocabulary, read_class_file
from src.annotations.image_lists import read_images
from src.annotations.reading import Marks, Reading
from src.competition import Competition
from src.errors import ProjectError
from src.listing import Tree
from src.rows import Rows
from src.tables import read_text

# where exporters put the names of the classes, looked for in this order
CLASS_FILES = ("data.yaml", "dataset.yaml", "data.yml", "classes.txt", "obj.names", "labels/classes.txt")


def read_split(spec: Competition, split: str, *, objects: bool) -> tuple[Rows, Reading | None]:
    """The images of a split and, with `objects`, what is marked in them.

    Raises:
        ProjectError: images that are missing, no label file for any image, a line that is no label, a class number
            that the list of classes does not have, or no such list.
    """
    rows, relatives = read_images(spec, split)
    if not objects:
        return rows, None
    classes, named = vocabulary(spec)
    reading, files = _objects(spec, rows, relatives, classes, named)
    if not files:
        expected = f"{_label_path(relatives[0])}"
        problem = f"no training image has a label file: '{relatives[0]}' should have '{expected}'."
        raise spec.error("data.train", f"{problem} Put images under images/ and labels under labels/.")
    return rows, reading


def read_answers(spec: Competition, rows: Rows, classes: Vocabulary) -> Reading | None:
    """What is marked in the test images; None where no test image has a label file."""
    relatives = read_images(spec, "test")[1]
    reading, files = _objects(spec, rows, relatives, classes, vocabulary(spec)[1])
    return reading if files else None


def vocabulary(spec: Competition) -> tuple[Vocabulary, str]:
    """The classes, and what names them: the spec, the file that it names, or one of CLASS_FILES under the root.

    Raises:
        ProjectError: nothing names them.
    """
    given = given_vocabulary(spec)
    if given is not None:
        return given, spec.data.classes if isinstance(spec.data.classes, str) else "data.classes"
    for name in CLASS_FILES:
        if (spec.root / name).is_file():
            return read_class_file(spec.root / name), name
    looked = f"looked for {', '.join(CLASS_FILES)} in {spec.root}"
    raise spec.error("data.classes", f"not given, and no file names the classes ({looked}). List the names, or a file.")


def _objects(
    spec: Competition, rows: Rows, relatives: list[str], classes: Vocabulary, named: str
) -> tuple[Reading, int]:
    """The marks, and how many images have a label file."""
    tree = Tree(spec.root)
    reading = Reading([Marks() for _ in relatives], normalized=True, vocabulary=classes)
    files = 0
    for relative, marks in zip(relatives, reading.marks, strict=True):
        name = _label_path(relative)
        path = tree.find(name)
        if path is None:
            continue
        files += 1
        for number, line in enumerate(read_text(Path(path)).splitlines(), 1):
            if line.strip():
                source = f"{name}:{number}"
                label, box = _parse(line, source)
                if label not in classes.ids:
                    last = f"{named} has {len(classes.ids)} classes, {min(classes.ids)} to {max(classes.ids)}"
                    raise ProjectError(f"{source}: class {label}, and {last}. Correct the line or the classes.")
                marks.add(box, classes.names[classes.ids.index(label)], source)
    return reading, files


def _parse(line: str, source: str) -> tuple[int, list[float]]:
    """Class number and xyxy in shares."""
    try:
        first, *numbers = (float(text) for text in line.split())
    except ValueError:
        raise ProjectError(f"{source}: '{line.strip():.60}' holds something that is no number.") from None
    if len(numbers) == 4:
        cx, cy, width, height = numbers
        box = [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
    elif len(numbers) >= 6 and len(numbers) % 2 == 0:
        xs, ys = numbers[0::2], numbers[1::2]
        box = [min(xs), min(ys), max(xs), max(ys)]
    else:
        raise ProjectError(
            f"{source}: {len(numbers) + 1} numbers, where a label has 5 (class cx cy width height), or a class and a "
            "polygon of 3 points or more. A file with a score at the end of each line holds predictions."
        )
    if not first.is_integer():
        raise ProjectError(f"{source}: the class is {first:g}, where a whole number is expected.")
    return int(first), box


def _label_path(relative: str) -> str:
    """images/train/a.jpg → labels/train/a.txt, by the last folder of that name; without one, beside the image."""
    *folders, name = relative.split("/")
    for place in range(len(folders) - 1, -1, -1):
        if folders[place] == "images":
            folders[place] = "labels"
            break
    return "/".join([*folders, f"{name.rpartition('.')[0]}.txt"])
