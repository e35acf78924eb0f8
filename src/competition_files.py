"""Whether what a competition spec names is there: root, tables, folders, columns. Reads headers, no rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from src.errors import ProjectError, nearest
from src.tables import missing_column, read_header

if TYPE_CHECKING:
    from src.competition import Competition

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
            names = ("id", "target", "group", "mask") if split == "train" else ("id",)
            columns += [(f"data.{name}", getattr(data, name)) for name in names]
            _check_table(spec, f"data.{split}", spec.locate(getattr(data, split)), columns)
    else:
        for split in ("train", "test"):
            folder = spec.locate(getattr(data, split))
            if not folder.is_dir():
                raise _absent(spec, f"data.{split}", folder)
    if spec.submission.sample is not None:
        header = _check_table(spec, "sample_submission", spec.submission.sample, [])
        if header != list(spec.submission.columns.values()):
            raise spec.error(
                "submission.columns",
                f"{spec.submission.sample} has the columns {', '.join(header)}, and this file says "
                f"{', '.join(spec.submission.columns.values())}. Write the sample's, in its order.",
            )
    if spec.solution is not None:
        columns = zip(("data.id", "data.target"), spec.solution_columns, strict=True)
        _check_table(spec, "solution", spec.solution, columns)


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
        return spec.error(key, f"{path} is a folder, and a table is needed. Images alone: layout: folder.")
    if path.is_file():
        return spec.error(key, f"{path} is a file, and a folder is needed here.")
    beside = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    mvtec = spec.data.layout == "mvtec"
    categories = [name for name in beside if mvtec and (path.parent / name / path.name).is_dir()]
    if categories:
        remedy = f"Choose one: competition.root={spec.root / categories[0]}"
        return spec.error("root", f"{spec.root} holds categories ({', '.join(categories[:8])}). {remedy}")
    there = f" {path.parent} has: {', '.join(beside[:12])}." if beside else ""
    return spec.error(key, f"{path} does not exist.{nearest(path.name, beside)}{there}")
