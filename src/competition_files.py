"""Whether what a competition spec names is there: root, tables, folders, columns. Reads headers, no rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from src.data_section import ALL
from src.errors import ProjectError, nearest
from src.listing import IGNORED_FOLDERS, Tree, natural_key, nfc
from src.tables import missing_column, read_header

if TYPE_CHECKING:
    from src.competition import Competition

TABLES = ("boxes", "counts", "captions")  # parts of `data` that may stand in tables of their own
ROOT_REMEDY = "Type competition.root=/path/to/the/data, or write root: in that file."


def check_files(spec: Competition) -> None:
    """Look for the root, the tables or folders, and the columns that the spec names.

    Raises:
        ProjectError: the first thing that is not there, with the nearest that is.
    """
    data = spec.data
    if not spec.root.is_dir():
        found = "is a file: unpack it" if spec.root.exists() else "does not exist"
        raise spec.error("root", f"the folder {spec.root} {found}. {ROOT_REMEDY}")
    if data.layout == "csv":
        if not spec.images_root.is_dir():
            raise _absent(spec, "data.images", spec.images_root)
        for split in ("train", "test"):
            columns = [("data.path", column) for _, column in data.path_parts() if column != "split"]
            names = ("id", "target", "category", "group", "mask", "tags") if split == "train" else ("id",)
            columns += [(f"data.{name}", getattr(data, name)) for name in names]
            if split == "train":
                columns += [pair for part in TABLES for pair in _object_columns(spec, part, file=None)]
            _check_table(spec, f"data.{split}", spec.locate(getattr(data, split)), columns)
        for part in TABLES:
            table = getattr(data, part)
            if table is not None and table.file is not None:
                columns = _object_columns(spec, part, file=table.file)
                _check_table(spec, f"data.{part}.file", spec.locate(table.file), columns)
    elif data.layout in ("coco", "voc", "yolo", "jsonl"):
        _check_annotated(spec)
    else:
        for category in category_folders(spec):
            for split in ("train", "test"):
                _check_folder(spec, f"data.{split}", below_category(category, getattr(data, split)))
    if isinstance(data.classes, str):
        _check_file(spec, "data.classes", spec.locate(data.classes))
    _check_sample(spec)
    if spec.solution is not None and spec.task != "anomaly":
        _check_file(spec, "solution", spec.solution)
    elif spec.solution is not None:
        columns = zip(("data.id", "data.target"), spec.solution_columns, strict=True)
        _check_table(spec, "solution", spec.solution, columns)


def category_folders(spec: Competition) -> list[str | None]:
    """The folders of `data.categories`, in natural order where it says all, else as listed; [None] without categories.

    Raises:
        ProjectError: one is not there, or there is none at all.
    """
    data = spec.data
    if data.categories is None:
        return [None]
    tree = Tree(spec.root)
    found = [nfc(name) for name in tree.names(".") if not name.startswith(".") and name not in IGNORED_FOLDERS]
    found = sorted(filter(lambda name: tree.find_folder(f"{name}/{data.train}"), found), key=natural_key)
    if not found:
        single = tree.find_folder(data.train) is not None
        remedy = "The root is one category itself: categories: null." if single else "Give the folder that holds them."
        raise spec.error("data.categories", f"no folder in {spec.root} has a folder '{data.train}'. {remedy}")
    if data.categories == ALL:
        return list(found)
    for name in data.categories:
        if tree.find_folder(name) is None:
            raise spec.error(
                "data.categories",
                f"there is no folder '{name}' in {spec.root}.{nearest(name, found)} "
                f"Folders with '{data.train}': {', '.join(found[:20])}.",
            )
    return list(data.categories)


def below_category(category: str | None, name: str) -> str:
    """A folder of a category, relative to the root."""
    return name if category is None else f"{category}/{name}"


def _object_columns(spec: Competition, part: str, *, file: str | None) -> list[tuple[str, str]]:
    """The columns of data.boxes and the like, as (key, column), if these stand in `file` (None: the train table)."""
    table = getattr(spec.data, part)
    if table is None or table.file != file:
        return []
    named = {table.id: "id", getattr(table, "label", None): "label", getattr(table, "count", None): "count"}
    return [(f"data.{part}.{named.get(column, 'columns')}", column) for column in (table.id, *table.needed())]


def _check_annotated(spec: Competition) -> None:
    """coco, jsonl: two files and folders of images; voc, yolo: folders or lists, and voc's folder of annotations."""
    data = spec.data
    for split in ("train", "test"):
        name = getattr(data, split)
        if data.layout in ("coco", "jsonl"):
            _check_file(spec, f"data.{split}", spec.locate(name))
            _check_folder(spec, "data.images", data.images_of(split))
        elif data.listed(split):
            _check_file(spec, f"data.{split}", spec.locate(name))
            if data.layout == "voc":
                _check_folder(spec, "data.images", data.images)
        else:
            _check_folder(spec, f"data.{split}", name)
    if data.layout == "voc":
        _check_folder(spec, "data.annotations", data.annotations)


def _check_sample(spec: Competition) -> None:
    """The sample submission: there, and with the header that the spec says. A JSON one has none."""
    from src.submission.formats import FORMATS, Context

    grammar = FORMATS[spec.submission.format]
    path, columns = spec.submission.sample, spec.submission.columns
    if path is None:
        return
    if grammar.whole_file or path.suffix.lower() == ".json":
        _check_file(spec, "sample_submission", path)
        return
    header = _check_table(spec, "sample_submission", path, [])
    if spec.submission.format == "counts":
        classes = spec.data.classes if isinstance(spec.data.classes, tuple) else ()
        named = {*columns.values(), *(name for name in classes if name not in columns)}
        if not named - set(header) and (not classes or len(named) == len(header)):
            return
        wanted = ", ".join([columns["id"], *(columns.get(name, name) for name in classes)])
        remedy = "Write columns: {id: …, class: header}, a pair for each class whose header is not its name."
    else:
        own = grammar.header(Context(spec.submission))
        if header == own:
            return
        wanted, remedy = ", ".join(own), "Write the sample's, in its order."
        if spec.submission.format == "caption":
            remedy += " Columns that are the same in every row: submission.options.constants."
    raise spec.error(
        "submission.columns",
        f"{path} has the columns {', '.join(header)}, and this file says {wanted}. {remedy}",
    )


def _check_folder(spec: Competition, key: str, name: str) -> None:
    folder = spec.locate(name)
    if not folder.is_dir():
        raise _absent(spec, key, folder)


def _check_file(spec: Competition, key: str, path: Path) -> None:
    if not path.is_file():
        raise _absent(spec, key, path)


def _check_table(spec: Competition, key: str, path: Path, columns: Iterable[tuple[str, str | None]]) -> list[str]:
    """The header of a table that is there and has `columns`: (the spec's key, the column it names) pairs."""
    if not path.is_file():
        raise _absent(spec, key, path)
    try:
        header = read_header(path)
    except ProjectError as error:
        raise spec.error(key, str(error)) from error
    for column_key, column in columns:
        if column is not None and column not in header:
            raise spec.error(column_key, missing_column(path, header, column))
    return header


def _absent(spec: Competition, key: str, path: Path) -> ProjectError:
    """What to say of a table or folder that is not where the spec says."""
    if path.is_dir():
        if spec.task != "anomaly":
            return spec.error(key, f"{path} is a folder, and a file is needed here.")
        return spec.error(key, f"{path} is a folder, and a table is needed. Images alone: layout: folder.")
    if path.is_file():
        return spec.error(key, f"{path} is a file, and a folder is needed here.")
    beside = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    mvtec = spec.data.layout == "mvtec"
    categories = [name for name in beside if mvtec and (path.parent / name / path.name).is_dir()]
    if categories:
        remedy = f"Choose one: competition.root={spec.root / categories[0]}"
        remedy += ", or take all of them: data.categories: all, as in mvtec_categories.yaml."
        return spec.error("root", f"{spec.root} holds categories ({', '.join(categories[:8])}). {remedy}")
    there = f" {path.parent} has: {', '.join(beside[:12])}." if beside else ""
    return spec.error(key, f"{path} does not exist.{nearest(path.name, beside)}{there}")
