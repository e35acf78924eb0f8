"""What a grader would refuse in an archive of maps and masks, and what it takes although nobody means it."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from src.submission.formats.base import Context
from src.submission.formats.plane_files import BadPlane
from src.submission.pack import BadArchive, kind_of, read_archive
from src.submission.reading import listed

if TYPE_CHECKING:
    from src.submission.formats.map_folder import MapFolder, Place

_REPACK = "Pack them as they are expected, or let make_submission.py do it"


def archive_problems(grammar: "MapFolder", path: str | Path, ids: Sequence[str], context: Context) -> list[str]:
    """Every problem of the file, each with its number of places, the first of them and the remedy."""
    path, kind = Path(path), context.option("archive")
    if not path.is_file():
        what = f"is a folder: pack it as .{kind}" if path.is_dir() else "does not exist"
        return [f"the file {path} {what}. Expected {grammar.expected(context)}."]
    problems = []
    found_kind = kind_of(path)
    if found_kind is None:
        size = path.stat().st_size
        return [f"the file is no archive ({size} bytes). Expected {grammar.expected(context)}."]
    if found_kind != kind:
        problems.append(f"the file is a .{found_kind}, expected a .{kind}. Pack it so: options.archive says it.")
    check = _Check(grammar, ids, context)
    damaged = False
    try:
        prefix, wanted = _moved(path, check.places)
        if prefix != wanted:
            problems.append(
                f"the files lie below '{prefix}', expected below '{wanted}'. {_REPACK} (submission.options.top)."
            )
        for name, content in read_archive(path):
            check.add(_renamed(name, prefix, wanted), name, content)
    except BadArchive as error:
        damaged = True
        problems.append(f"the archive cannot be read: {error}. Write or download it again.")
    return problems + check.problems(complete=not damaged)


def archive_warnings(grammar: "MapFolder", path: str | Path, ids: Sequence[str], context: Context) -> list[str]:
    """What is odd about the planes of a valid archive."""
    flat, full, at_limit = [], [], []
    masks = anomalous = 0
    limit = np.finfo(context.option("dtype")).max
    for sample_id, part, plane in grammar.stream(path, ids, context):
        if part == "mask":
            masks += 1
            anomalous += bool(plane.any())
            if plane.all():
                full.append(repr(sample_id))
        elif plane.min() == plane.max():
            flat.append(repr(sample_id))
        elif np.abs(plane).max() >= limit:
            at_limit.append(repr(sample_id))
    warnings = []
    if flat:
        warnings.append(listed("maps hold one value alone", flat, "They rank no pixel above another"))
    if at_limit:
        what = f"maps reach the end of {context.option('dtype')}'s range ({limit:g})"
        warnings.append(listed(what, at_limit, "Pixels beyond it are alike; divide the maps by a constant"))
    if masks and not anomalous:
        warnings.append(f"{grammar.empty}.")
    if full:
        warnings.append(listed("masks call every pixel anomalous", full, "The pixel threshold may be too low"))
    return warnings


class _Check:
    """Files of the archive, held one by one against those that must be there."""

    def __init__(self, grammar: "MapFolder", ids: Sequence[str], context: Context) -> None:
        self.grammar, self.context = grammar, context
        self.places: Mapping[str, Place] = grammar.places(ids, context)
        self.seen: dict[str, int] = {}
        self.extra: list[str] = []
        self.linked: list[str] = []
        self.faults: dict[tuple[str, str], list[str]] = {}

    def add(self, name: str, written: str, content: bytes | None) -> None:
        """`name`: where the file belongs; `written`: what the archive says."""
        if name not in self.places:
            self.extra.append(f"'{written}'")
            return
        self.seen[name] = self.seen.get(name, 0) + 1
        if content is None:
            self.linked.append(f"'{written}'")
            return
        place = self.places[name]
        try:
            plane = self.grammar.decoded(place, content, self.context)
        except BadPlane as error:
            self._fault(f"{place.part}s {error.kind}", error.remedy, written, error.found)
            return
        from src.submission.formats.map_folder import size_problem

        problem = size_problem(plane, place.id, self.context)
        if problem:
            remedy = "Resize them to the original images"
            self._fault(f"{place.part}s are of another size than their image", remedy, written, problem)

    def _fault(self, kind: str, remedy: str, name: str, found: str) -> None:
        self.faults.setdefault((kind, remedy), []).append(f"'{name}'{f' ({found})' if found else ''}")

    def problems(self, *, complete: bool) -> list[str]:
        result = []
        missing = [f"'{name}'" for name in self.places if name not in self.seen]
        if missing and complete:
            result.append(listed("files are missing", missing, "Each test image needs its own"))
        if self.extra:
            result.append(listed("files are not expected", self.extra, "Leave them out"))
        twice = [f"'{name}' ({count} times)" for name, count in self.seen.items() if count > 1]
        if twice:
            result.append(listed("files occur more than once", twice, "Keep one of each"))
        if self.linked:
            result.append(listed("entries are links, not files", self.linked, "Pack the files themselves"))
        result += [listed(kind, at, remedy) for (kind, remedy), at in self.faults.items()]
        return result


def _moved(path: Path, places: Mapping[str, object]) -> tuple[str, str]:
    """(the folder that holds all files, the one that should) where nothing but that folder is wrong; else twice ""."""
    names = []
    for name, _ in read_archive(path):
        if name in places:
            return "", ""
        names.append(name)
    if not names or not places:
        return "", ""
    found, wanted = _shared_folder(names), _shared_folder(list(places))
    # The shared folder may be deeper than the one that was moved, where all files happen to lie in one below it.
    while found and wanted and PurePosixPath(found).name == PurePosixPath(wanted).name:
        found, wanted = (_parent(folder) for folder in (found, wanted))
    return (found, wanted) if any(_renamed(name, found, wanted) in places for name in names) else ("", "")


def _shared_folder(names: Sequence[str]) -> str:
    """The deepest folder that all files are in; "" for the top."""
    folders = [name.split("/")[:-1] for name in names]
    shared = []
    for level in zip(*folders, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return "/".join(shared)


def _parent(folder: str) -> str:
    return folder.rpartition("/")[0]


def _renamed(name: str, prefix: str, wanted: str) -> str:
    """The name under `wanted` instead of `prefix`."""
    if prefix == wanted:
        return name
    rest = name.removeprefix(f"{prefix}/") if prefix else name
    return f"{wanted}/{rest}" if wanted else rest
