"""Reading the `data:` part of a competition spec: keys, types and choices checked by layout and task."""

import string
from pathlib import Path
from typing import Any

from src.data_spec import BoxTable, CaptionTable, CountTable, DataSpec
from src.errors import nearest
from src.listing import locate, nfc, relative_under
from src.section import REQUIRED, Section
from src.target_pattern import parse_pattern

TASK_LAYOUTS = {
    "anomaly": ("csv", "folder", "mvtec"),
    "detection": ("csv", "coco", "voc", "yolo"),
    "caption": ("csv", "coco", "jsonl"),
}
LAYOUTS = ("csv", "folder", "mvtec", "coco", "voc", "yolo", "jsonl")
CONVENTIONS = ("xyxy", "xywh", "cxcywh")
BOX_FORMATS = ("columns", "prediction_string")
ID_KINDS = {
    "coco": ("id", "file_name", "stem"),
    "voc": ("stem", "file_name"),
    "yolo": ("stem", "file_name"),
}
CLASS_FILES = (".txt", ".names", ".yaml", ".yml")

DATA_KEYS = {
    "csv": ("layout", "train", "test", "images", "id", "path", "group"),
    "folder": ("layout", "train", "test", "normal", "target_pattern"),
    "mvtec": ("layout", "train", "test", "normal", "target_pattern", "mask", "categories"),
    "coco": ("layout", "train", "test", "images", "id"),
    "voc": ("layout", "train", "test", "images", "id", "annotations", "classes"),
    "yolo": ("layout", "train", "test", "id", "classes"),
    "jsonl": ("layout", "train", "test", "images", "id", "path", "group", "captions"),
}
TASK_KEYS = {  # further ones of a layout, where they depend on the task
    ("csv", "anomaly"): ("target", "target_pattern", "normal", "mask", "category"),
    ("csv", "detection"): ("boxes", "counts", "tags", "classes"),
    ("csv", "caption"): ("captions",),
    ("coco", "detection"): ("classes",),
}
ALL_KEYS = tuple(dict.fromkeys(key for keys in (*DATA_KEYS.values(), *TASK_KEYS.values()) for key in keys))

ALL = "all"  # of `categories`

NORMAL_REMEDY = "List the target values that mean normal, as in normal: [good]."
CATEGORIES_REMEDY = "List folders below the root, as in categories: [bottle, cable], or write all."
BOXES_REMEDY = "As in boxes: {file: boxes.csv, id: id, label: label, columns: [x1, y1, x2, y2]}."
COUNTS_REMEDY = "As in counts: {file: counts.csv, columns: [apple, cup]}, or {label: class, count: count}."
CAPTIONS_REMEDY = "As in captions: {columns: [caption]}, or {file: captions.csv, id: id, columns: [caption]}."
RECORDS_REMEDY = "As in captions: {columns: [output]}; a nested key is dotted, as in [output.text]."
OBJECTS_REMEDY = "Say where the objects are written, in data.boxes or data.counts."
CLASSES_REMEDY = "List the names, as in classes: [apple, cup], or name a file (.txt, .names, .yaml) under the root."


def read_data(top: Section, root: Path, task: str) -> DataSpec:
    """The `data` section of a spec, checked as far as no file is needed.

    Raises:
        ProjectError: an unknown, missing or ill-typed key, a key that the layout or the task does not use, a
            path that leaves the root, or a test set that is the training set.
    """
    data = top.section("data", ALL_KEYS)
    layout = data.text("layout", choices=LAYOUTS)
    if layout not in TASK_LAYOUTS[task]:
        usable = ", ".join(TASK_LAYOUTS[task])
        data.fail("layout", f"'{layout}' is not a layout of the task {task}. Its layouts: {usable}.")
    objects = task == "detection"
    _check_keys(data, layout, task)
    table, records = layout == "csv", layout == "jsonl"
    target = data.optional_text("target")
    if task == "anomaly" and layout != "mvtec" and (target or not table):
        normal = data.texts("normal", remedy=NORMAL_REMEDY)
    else:
        normal = data.texts("normal", ("good",) if layout == "mvtec" else ())
    named = task != "anomaly" or table
    images, test_images = _images(data, root, layout)
    identifier = data.text("id") if table or records else None
    if layout in ID_KINDS:
        identifier = data.text("id", ID_KINDS[layout][0], choices=ID_KINDS[layout])
    classes, class_ids = _classes(data, root)
    spec = DataSpec(
        layout=layout,
        train=relative(data, "train", root, REQUIRED if named else "train"),
        test=relative(data, "test", root, REQUIRED if named else "test"),
        images=images,
        test_images=test_images,
        id=identifier,
        path=data.text("path") if table or records else None,
        target=target,
        target_pattern=_target_pattern(data, needs_target=table and target is None),
        normal=normal,
        category=data.optional_text("category"),
        categories=_categories(data, root),
        group=data.optional_text("group"),
        mask=data.optional_text("mask", "ground_truth" if layout == "mvtec" else None),
        boxes=_boxes(data, root, identifier),
        counts=_counts(data, root, identifier),
        captions=_captions(data, root, layout, identifier) if task == "caption" and layout != "coco" else None,
        tags=data.optional_text("tags"),
        classes=classes,
        class_ids=class_ids,
        annotations=relative(data, "annotations", root, "Annotations") if layout == "voc" else None,
    )
    _check_template(data, spec)
    if spec.train == spec.test:
        data.fail("test", f"'{spec.test}' is the training data as well. Name what a submission is about.")
    folders = layout in ("folder", "mvtec") or (layout in ("voc", "yolo") and not spec.listed("train"))
    if folders and (_holds(spec.train, spec.test) or _holds(spec.test, spec.train)):
        data.fail("test", f"the folders '{spec.train}' and '{spec.test}' lie in one another. Give two apart.")
    if objects and table and spec.boxes is None and spec.counts is None:
        data.fail("boxes", f"not given. {BOXES_REMEDY} Numbers alone: data.counts. {COUNTS_REMEDY}")
    return spec


def relative(section: Section, key: str, root: Path, default: Any) -> str:
    """A path below the root, as `relative_under` writes it."""
    return _below(section, key, section.text(key, default), root)


def file_below(section: Section, key: str, root: Path) -> Path | None:
    """The absolute path of a file that a key names; None where the key is not given."""
    return locate(root, relative(section, key, root, REQUIRED)) if section.given(key) else None


def _below(section: Section, key: str, text: str, root: Path) -> str:
    path = relative_under(text, str(root))
    if path is None:
        section.fail(key, f"'{text}' leaves the root {root}. Give a path below the root, or another root.")
    return path


def _check_keys(data: Section, layout: str, task: str) -> None:
    """Refuse keys that would be given and not read."""
    used = (*DATA_KEYS[layout], *TASK_KEYS.get((layout, task), ()))
    others = {key for (of_layout, _), keys in TASK_KEYS.items() if of_layout == layout for key in keys}
    for key in ALL_KEYS:
        if key not in used and data.given(key):
            who = f"the task {task}" if key in others else f"the layout {layout}"
            data.fail(key, f"{who} does not use it. Remove the line, or set it to null.")


def _images(data: Section, root: Path, layout: str) -> tuple[str, str | None]:
    """`images`: one folder, or (coco, jsonl) a template with {split} or {train: folder, test: folder}."""
    default = "JPEGImages" if layout == "voc" else "."
    two = layout in ("coco", "jsonl")
    if two and isinstance(data.value("images", None), dict):
        folders = data.section("images", ("train", "test"))
        return tuple(relative(folders, split, root, REQUIRED) for split in ("train", "test"))
    text = data.text("images", default)
    if two and "{split}" in text:
        return tuple(_below(data, "images", text.replace("{split}", split), root) for split in ("train", "test"))
    return relative(data, "images", root, default), None


def _holds(folder: str, path: str) -> bool:
    return folder == "." or path.startswith(f"{folder}/")


def _target_pattern(data: Section, *, needs_target: bool) -> str | None:
    text = data.optional_text("target_pattern")
    if text is None:
        return None
    if needs_target:
        data.fail("target_pattern", "it splits the values of data.target, which is not given. Name that column.")
    try:
        return parse_pattern(text).text
    except ValueError as error:
        data.fail("target_pattern", str(error))


def _categories(data: Section, root: Path) -> tuple[str, ...] | str | None:
    if not data.given("categories"):
        return None
    names = data.texts("categories", remedy=CATEGORIES_REMEDY)
    if names == (ALL,):
        return ALL
    names = tuple(nfc(name) for name in names)
    for name in names:
        if _below(data, "categories", name, root) != name or name == ".":
            data.fail("categories", f"'{name}' is no folder below the root. {CATEGORIES_REMEDY}")
        if names.count(name) > 1:
            data.fail("categories", f"'{name}' is named twice. Name each once.")
    return names


def _check_template(data: Section, spec: DataSpec) -> None:
    remedy = 'Write a column, or a template such as "images/{id}.png".'
    try:
        parts = list(string.Formatter().parse(spec.path or ""))
    except ValueError as error:
        data.fail("path", f"'{spec.path}': {error}. {remedy}")
    for _, column, form, conversion in parts:
        if column == "" or form or conversion:
            data.fail("path", f"'{spec.path}': braces hold the name of a column, nothing else. {remedy}")


def _boxes(data: Section, root: Path, identifier: str | None) -> BoxTable | None:
    if not data.given("boxes"):
        return None
    keys = ("file", "id", "label", "columns", "convention", "normalized", "format", "empty")
    section = data.section("boxes", keys)
    form = section.text("format", "columns", choices=BOX_FORMATS)
    columns = section.texts("columns", remedy=BOXES_REMEDY)
    if form == "prediction_string" and len(columns) != 1:
        section.fail("columns", f"the format prediction_string needs one column, found {len(columns)}.")
    if len(columns) not in (1, 4) or len(set(columns)) != len(columns):
        found = f"{len(columns)} columns ({', '.join(columns)})"
        section.fail("columns", f"expected four columns, or one that holds four numbers, found {found}. {BOXES_REMEDY}")
    label = section.optional_text("label")
    if form == "prediction_string" and label is not None:
        section.fail("label", "the cells of a prediction_string name the classes. Set it to null.")
    file = relative(section, "file", root, REQUIRED) if section.given("file") else None
    return BoxTable(
        file=file,
        id=_id_column(section, file, identifier),
        label=label,
        columns=columns,
        convention=section.text("convention", "xyxy", choices=CONVENTIONS),
        normalized=section.flag("normalized", False),
        format=form,
        empty=section.texts("empty") if section.value("empty", []) else (),
    )


def _counts(data: Section, root: Path, identifier: str | None) -> CountTable | None:
    if not data.given("counts"):
        return None
    section = data.section("counts", ("file", "id", "columns", "label", "count"))
    file = relative(section, "file", root, REQUIRED) if section.given("file") else None
    column = _id_column(section, file, identifier)
    if section.given("columns"):
        for key in ("label", "count"):
            if section.given(key):
                section.fail(key, f"is for one row a class, and columns for one column a class. {COUNTS_REMEDY}")
        return CountTable(file=file, id=column, columns=_count_columns(section))
    if not section.given("label") and not section.given("count"):
        section.fail("columns", f"not given. {COUNTS_REMEDY}")
    label, count = (section.text(key, remedy=COUNTS_REMEDY) for key in ("label", "count"))
    return CountTable(file=file, id=column, label=label, count=count)


def _count_columns(section: Section) -> dict[str, str]:
    """Class → column; a list names both alike."""
    if isinstance(section.value("columns", None), dict):
        mapping = section.open_map("columns", remedy=COUNTS_REMEDY)
    else:
        mapping = {name: name for name in section.texts("columns", remedy=COUNTS_REMEDY)}
    columns = {nfc(name.strip()): column for name, column in mapping.items()}
    if len(columns) < len(mapping) or len(set(columns.values())) < len(columns):
        section.fail("columns", "a class or a column is named twice. Name each once.")
    return columns


def _captions(data: Section, root: Path, layout: str, identifier: str) -> CaptionTable:
    table = layout == "csv"
    remedy = CAPTIONS_REMEDY if table else RECORDS_REMEDY
    keys = ("file", "id", "columns", "separator") if table else ("columns",)
    section = data.section("captions", keys, remedy=remedy)
    columns = section.texts("columns", remedy=remedy)
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        section.fail("columns", f"'{twice}' is named twice. Name each once.")
    file = relative(section, "file", root, REQUIRED) if section.given("file") else None
    separator = section.optional_text("separator")
    if separator is not None and not separator.strip(" "):
        section.fail("separator", "spaces are between words too. Name the sign between two captions, such as '|'.")
    return CaptionTable(file=file, id=_id_column(section, file, identifier), columns=columns, separator=separator)


def _id_column(section: Section, file: str | None, identifier: str | None) -> str:
    column = section.text("id", identifier) if file is not None else identifier
    if file is None and section.given("id") and section.text("id") != identifier:
        section.fail("id", f"the train table has data.id ('{identifier}'). Remove the line, or name a file.")
    return column


def _classes(data: Section, root: Path) -> tuple[tuple[str, ...] | str | None, tuple[int, ...] | None]:
    value = data.value("classes", None)
    if value is None:
        return None, None
    ids: tuple[int, ...] | None = None
    if isinstance(value, str):
        path = relative(data, "classes", root, REQUIRED)
        if not path.lower().endswith(CLASS_FILES):
            near = nearest(Path(path).suffix, CLASS_FILES)
            data.fail("classes", f"'{path}' has none of the suffixes {', '.join(CLASS_FILES)}.{near} {CLASSES_REMEDY}")
        return path, None
    if isinstance(value, dict):
        ids = tuple(_class_id(data, key) for key in value)
        texts = tuple(data.open_map("classes", remedy=CLASSES_REMEDY).values())
    else:
        texts = data.texts("classes", remedy=CLASSES_REMEDY)
    names = tuple(nfc(text.strip()) for text in texts)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "" in names:
        data.fail("classes", f"'{twice[0]}' is named twice." if twice else "a name is blank.")
    return names, ids


def _class_id(data: Section, key: Any) -> int:
    try:
        return int(key)
    except (TypeError, ValueError):
        data.fail("classes", f"'{key}' is no number: a mapping is of numbers to names. {CLASSES_REMEDY}")
