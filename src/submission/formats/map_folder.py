"""`map_folder`: an archive of image files, an anomaly map and a mask for each test image.

MVTec AD 2's server takes `anomaly_images/<object>/<split>/<name>.tiff`, float16, and
`anomaly_images_thresholded/<object>/<split>/<name>.png`, 0 and 255, below one folder of any name in a .tar.gz: what its
"public code utils" check and pack. Other competitions take masks alone, in a .zip.
"""

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from src.competition import SubmissionSpec
from src.errors import ProjectError, nearest
from src.submission.formats import options as opt
from src.submission.formats.base import Context
from src.submission.formats.plane_files import (
    MAP_SUFFIXES,
    MASK_SUFFIXES,
    decode_map,
    decode_mask,
    encode_map,
    encode_mask,
)
from src.submission.formats.whole_file import WholeFile
from src.submission.pack import archive_writer, read_archive

PARTS = ("map", "mask")
_FIELDS = ("id", "parent", "name")
_OF_MAPS, _OF_MASKS = ("maps_folder", "maps_suffix", "dtype"), ("masks_folder", "masks_suffix", "white")


class MapAndMask(NamedTuple):
    """What is written of an image: (H, W) float, higher is more anomalous, and (H, W) bool; None where not written."""

    map: np.ndarray | None
    mask: np.ndarray | None


class Place(NamedTuple):
    """Which image, and which of PARTS, a file of the archive is."""

    id: str
    part: str


class MapFolder(WholeFile):
    """An archive of files, one image's after another's; planes are written and read one at a time.

    An image's value is `MapAndMask`, or the plane alone where `write` asks for one: float (H, W) for `maps`, bool
    (H, W) for `masks`. Planes have the size of the original image.
    """

    name = "map_folder"
    suffix = ".tar.gz"
    empty = "all masks are empty"
    options = {
        "write": opt.choice("both", "both", "maps", "masks"),
        "pattern": opt.text("{id}", empty=False),
        "top": opt.text(""),
        "maps_folder": opt.text("anomaly_images"),
        "maps_suffix": opt.choice(".tiff", *MAP_SUFFIXES),
        "dtype": opt.choice("float16", "float16", "float32"),
        "masks_folder": opt.text("anomaly_images_thresholded"),
        "masks_suffix": opt.choice(".png", *MASK_SUFFIXES),
        "white": opt.choice_of_numbers(255, 1, 255),
        "archive": opt.choice("tar.gz", "tar.gz", "zip"),
    }

    def check(self, options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]) -> dict[str, Any]:
        given = super().check(options, fail)
        _check_pattern(given.get("pattern"), fail)
        for key in ("top", "maps_folder", "masks_folder"):
            parts = given.get(key, "").split("/")
            if given.get(key) and (".." in parts or "" in parts):
                fail(f"options.{key}", f"'{given[key]}': expected folder names with '/' between them, as in 'a/b'.")
        unused = {"maps": _OF_MASKS, "masks": _OF_MAPS}.get(given.get("write", "both"), ())
        for key in unused:
            if given.get(key, self.options[key].default) != self.options[key].default:
                fail(f"options.{key}", f"write: {given['write']} leaves those files out. Remove the line.")
        return given

    def file_suffix(self, spec: SubmissionSpec) -> str:
        return f".{spec.options.get('archive') or 'tar.gz'}"

    def parts(self, context: Context) -> tuple[str, ...]:
        """Those of PARTS that are written."""
        return {"maps": ("map",), "masks": ("mask",)}.get(context.option("write"), PARTS)

    def places(self, ids: Sequence[str], context: Context) -> dict[str, Place]:
        """The name in the archive of every file that the images must have, and whose it is, image by image.

        Raises:
            ProjectError: two files of one name, or an id that leads out of its folder.
        """
        result: dict[str, Place] = {}
        for sample_id in ids:
            for part in self.parts(context):
                name = self._file_name(sample_id, part, context)
                if name in result:
                    raise ProjectError(
                        f"the file {name} would be of '{result[name].id}' and of '{sample_id}'. Choose another "
                        "submission.options.pattern, or different folders for maps and masks."
                    )
                result[name] = Place(sample_id, part)
        return result

    def _file_name(self, sample_id: str, part: str, context: Context) -> str:
        parent, _, last = sample_id.rpartition("/")
        stem = context.option("pattern").format(id=sample_id, parent=parent, name=last)
        pieces = stem.split("/")
        if "\\" in stem or any(piece in ("", ".", "..") for piece in pieces):
            raise ProjectError(
                f"the id '{sample_id}' makes the file name '{stem}', which leads out of its folder or names none. "
                "Choose another submission.options.pattern: {id}, or {parent} (before the last '/') and {name}."
            )
        folder, suffix = (context.option(f"{part}s_{what}") for what in ("folder", "suffix"))
        return "/".join([*(text for text in (context.option("top"), folder) if text), stem]) + suffix

    def write_file(self, path: str | Path, ids: Sequence[str], values: Sequence[Any], context: Context) -> None:
        """Encode and pack image by image.

        Raises:
            ProjectError: a value of another kind, shape or size than its image's, or a map that is not finite. Nothing
                is written then.
        """
        names = {place: name for name, place in self.places(ids, context).items()}
        with archive_writer(path, context.option("archive")) as archive:
            for sample_id, value in zip(ids, values, strict=True):
                for part, plane in zip(self.parts(context), self._planes(sample_id, value, context), strict=True):
                    archive.add(names[Place(sample_id, part)], self._encoded(part, plane, context))

    def _encoded(self, part: str, plane: np.ndarray, context: Context) -> bytes:
        if part == "map":
            return encode_map(plane, context.option("dtype"))
        return encode_mask(plane, context.option("masks_suffix"), context.option("white"))

    def _planes(self, sample_id: str, value: Any, context: Context) -> list[np.ndarray]:
        """The planes of an image, checked, in the order of `parts`."""
        parts = self.parts(context)
        if len(parts) == 1 and isinstance(value, np.ndarray):
            value = MapAndMask(value, value)
        if not isinstance(value, MapAndMask):
            raise ProjectError(
                f"the format 'map_folder' needs MapAndMask values for write: {context.option('write')}, and "
                f"'{sample_id}' has {type(value).__name__}."
            )
        planes = []
        for part in parts:
            plane = np.asarray(getattr(value, part))
            fits = plane.dtype.kind == "f" if part == "map" else plane.dtype == bool
            if plane.ndim != 2 or not fits:
                wanted = "floats" if part == "map" else "bool"
                raise ProjectError(
                    f"the {part} of '{sample_id}' is {plane.dtype} of the shape {plane.shape}; expected {wanted} of "
                    "(height, width)."
                )
            if part == "map" and not np.isfinite(plane).all():
                raise ProjectError(f"the map of '{sample_id}' is not finite throughout. Predict in 32-bit precision.")
            problem = size_problem(plane, sample_id, context)
            if problem:
                raise ProjectError(f"the {part} of '{sample_id}' has {problem}. Resize it to the original image.")
            planes.append(plane)
        return planes

    def decoded(self, place: Place, content: bytes, context: Context) -> np.ndarray:
        """The plane of a file; BadPlane where the grader would refuse it."""
        if place.part == "map":
            return decode_map(content, context.option("dtype"))
        return decode_mask(content, context.option("white"))

    def stream(
        self, path: str | Path, ids: Sequence[str], context: Context, *, parts: Sequence[str] = PARTS
    ) -> Iterator[tuple[str, str, np.ndarray]]:
        """(id, part, plane) of the files of a valid archive, in the archive's order, one in memory at a time."""
        places = self.places(ids, context)
        for name, content in read_archive(path):
            if places[name].part in parts:
                yield *places[name], self.decoded(places[name], content, context)

    def expected(self, context: Context) -> str:
        folders = " and ".join(self._file_name("…", part, context) for part in self.parts(context))
        return f"a .{context.option('archive')} of {folders}"

    def problems(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> list[str]:
        from src.submission.formats.map_folder_check import archive_problems

        return archive_problems(self, path, _named(ids), context)

    def values(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> dict[str, MapAndMask]:
        """id → planes of a valid archive. All of them at once: `stream` has them one by one."""
        found: dict[str, dict[str, np.ndarray]] = {sample_id: {} for sample_id in _named(ids)}
        for sample_id, part, plane in self.stream(path, _named(ids), context):
            found[sample_id][part] = plane
        return {sample_id: MapAndMask(of.get("map"), of.get("mask")) for sample_id, of in found.items()}

    def warnings(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> list[str]:
        from src.submission.formats.map_folder_check import archive_warnings

        return archive_warnings(self, path, _named(ids), context)


def size_problem(plane: np.ndarray, sample_id: str, context: Context) -> str | None:
    """What is wrong with the size of a plane; None where it is its image's, or that is not known."""
    size = context.sizes.get(sample_id)
    if size is None or plane.shape == (size[1], size[0]):
        return None
    return f"{plane.shape[1]}×{plane.shape[0]} pixels, and the image {size[0]}×{size[1]}"


def _named(ids: Sequence[str] | None) -> Sequence[str]:
    if ids is None:
        raise ProjectError("the files of the format 'map_folder' are named for the test images: give their ids.")
    return ids


def _check_pattern(pattern: str | None, fail: Callable[[str, str], NoReturn]) -> None:
    """Of known fields: {id}, or {name} with or without {parent}, each once."""
    if pattern is None:
        return
    example = "As in '{id}', or '{parent}/test_private/{name}' for ids such as can/000_regular."
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        fail("options.pattern", f"'{pattern}': {error}. {example}")
    for name in fields:
        if name not in _FIELDS:
            fail("options.pattern", f"unknown field '{name}'.{nearest(name, _FIELDS)} {example}")
    if sorted(fields) not in (["id"], ["name"], ["name", "parent"]):
        fail("options.pattern", f"'{pattern}' must hold {{id}}, or {{name}} and {{parent}}, each once. {example}")
