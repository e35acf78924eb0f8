"""`map_folder`: MVTec AD 2's archive, byte for byte the same twice, read back, and every fault named."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.competition import Competition
from src.errors import ProjectError
from src.submission.formats import FORMATS, write_submission
from src.submission.formats.map_folder import MapAndMask
from src.submission.formats.plane_files import encode_map, encode_mask
from src.submission.pack import join, main, read_archive
from src.submission.validate import read_values, submission_warnings, validate_submission

MakeSpec = Callable[..., Competition]
IDS = ["000_regular", "001_regular"]
SIZES = {"000_regular": (5, 4), "001_regular": (3, 6)}
MVTEC = {"pattern": "can/test_private/{id}", "top": "submission"}
NAMES = [
    f"submission/anomaly_images{kind}/can/test_private/{name}.{suffix}"
    for name in IDS
    for kind, suffix in (("", "tiff"), ("_thresholded", "png"))
]


def planes(seed: int = 0) -> list[MapAndMask]:
    random = np.random.default_rng(seed)
    maps = [random.random((height, width)).astype(np.float32) for width, height in SIZES.values()]
    return [MapAndMask(plane, plane > 0.5) for plane in maps]


def written(spec: Competition, path: Path, values: Sequence[Any] | None = None) -> Path:
    write_submission(path, IDS, planes() if values is None else values, spec, sizes=SIZES)
    assert validate_submission(path, spec, IDS, sizes=SIZES) == []
    return path


@pytest.fixture
def mvtec(make_boxes_spec: MakeSpec) -> Competition:
    return make_boxes_spec("map_folder", {}, **MVTEC)


def test_what_mvtecs_own_check_looks_at(mvtec: Competition, tmp_path: Path) -> None:
    """Names, types and values as its script reads them: tifffile, Pillow, a tar with one folder at its top."""
    tifffile = pytest.importorskip("tifffile")
    from PIL import Image

    written(mvtec, tmp_path / "s.tar.gz")
    with tarfile.open(tmp_path / "s.tar.gz", "r:gz") as archive:
        assert archive.getnames() == NAMES
        archive.extractall(tmp_path, filter="data")
    for name, value in zip(IDS, planes(), strict=True):
        plane = tifffile.imread(tmp_path / f"submission/anomaly_images/can/test_private/{name}.tiff")
        assert plane.dtype == np.float16 and np.array_equal(plane, value.map.astype(np.float16))
        mask = np.asarray(Image.open(tmp_path / f"submission/anomaly_images_thresholded/can/test_private/{name}.png"))
        assert mask.dtype == np.uint8 and np.array_equal(mask, value.mask * 255)


def test_the_same_planes_make_the_same_bytes(mvtec: Competition, tmp_path: Path) -> None:
    for kind in ("tar.gz", "zip"):
        spec = _with(mvtec, archive=kind)
        first, second = (written(spec, tmp_path / f"{name}.{kind}").read_bytes() for name in ("a", "b"))
        assert first == second


def test_read_back(mvtec: Competition, tmp_path: Path) -> None:
    for spec in (mvtec, _with(mvtec, archive="zip", dtype="float32", white=1, masks_suffix=".bmp", maps_suffix=".tif")):
        found = read_values(written(spec, tmp_path / "s"), spec, IDS)
        dtype = spec.submission.options.get("dtype", "float16")
        for name, value in zip(IDS, planes(), strict=True):
            assert np.array_equal(found[name].map, value.map.astype(dtype)) and found[name].map.dtype == dtype
            assert np.array_equal(found[name].mask, value.mask) and found[name].mask.dtype == bool
        assert submission_warnings(tmp_path / "s", spec, IDS) == []


def test_masks_alone_in_a_zip(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("map_folder", {}, write="masks", masks_folder="", archive="zip")
    path = written(spec, tmp_path / "s.zip", [value.mask for value in planes()])
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["000_regular.png", "001_regular.png"]
    assert read_values(path, spec, IDS)["000_regular"].map is None
    assert FORMATS["map_folder"].file_suffix(spec.submission) == ".zip"


def test_maps_alone(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("map_folder", {}, write="maps")
    assert FORMATS["map_folder"].file_suffix(spec.submission) == ".tar.gz"
    path = written(spec, tmp_path / "s.tar.gz", [value.map for value in planes()])
    assert [name for name, _ in read_archive(path)] == [f"anomaly_images/{name}.tiff" for name in IDS]


def test_ids_with_folders(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    ids = ["can/000", "vial/000"]
    spec = make_boxes_spec("map_folder", {}, write="masks", pattern="{parent}/test_private/{name}")
    path = write_submission(tmp_path / "s.tar.gz", ids, [np.zeros((2, 2), bool)] * 2, spec)
    folder = "anomaly_images_thresholded"
    assert [name for name, _ in read_archive(path)] == [f"{folder}/{o}/test_private/000.png" for o in ("can", "vial")]
    clash = make_boxes_spec("map_folder", {}, pattern="{name}")
    with pytest.raises(ProjectError, match="would be of 'can/000' and of 'vial/000'"):
        write_submission(tmp_path / "t.tar.gz", ids, planes(), clash)
    with pytest.raises(ProjectError, match="leads out of its folder"):
        write_submission(tmp_path / "t.tar.gz", ["../x", "y"], planes(), make_boxes_spec("map_folder", {}))


def test_one_image_at_a_time(mvtec: Competition, tmp_path: Path) -> None:
    alive: list[int] = []

    class Plane(np.ndarray):
        def __del__(self) -> None:
            alive.remove(id(self))

    class Lazy(Sequence):
        def __len__(self) -> int:
            return 200

        def __getitem__(self, index: int) -> MapAndMask:
            if index >= len(self):
                raise IndexError(index)
            plane = np.full((4, 5), index / 7, np.float32).view(Plane)
            alive.append(id(plane))
            assert len(alive) <= 2, "images are kept after they are written"
            return MapAndMask(plane, np.zeros((4, 5), bool))

    ids = [f"{number:03d}" for number in range(200)]
    write_submission(tmp_path / "s.tar.gz", ids, Lazy(), mvtec)
    assert len(list(read_archive(tmp_path / "s.tar.gz"))) == 400


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (MapAndMask(np.zeros((4, 5)), np.zeros((5, 4), bool)), "the mask of '000_regular' has 4×5 pixels, and the im"),
        (MapAndMask(np.full((4, 5), np.nan), np.zeros((4, 5), bool)), "is not finite throughout"),
        (MapAndMask(np.zeros((4, 5)), np.zeros((4, 5))), "the mask of '000_regular' is float64 .*; expected bool"),
        (MapAndMask(None, np.zeros((4, 5), bool)), "the map of '000_regular' is object"),
        (np.zeros((4, 5)), "needs MapAndMask values for write: both, and '000_regular' has ndarray"),
    ],
)
def test_refused_values_leave_no_file(value: Any, message: str, mvtec: Competition, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=message):
        write_submission(tmp_path / "s.tar.gz", IDS, [value, planes()[1]], mvtec, sizes=SIZES)
    assert list(tmp_path.iterdir()) == []


def packed(path: Path, files: dict[str, bytes], *twice: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in [*files, *twice]:
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            archive.addfile(entry, io.BytesIO(files[name]))
    return path


def whole() -> dict[str, bytes]:
    result = {}
    for index, value in enumerate(planes()):
        result[NAMES[2 * index]] = encode_map(value.map, "float16")
        result[NAMES[2 * index + 1]] = encode_mask(value.mask, ".png", 255)
    return result


def test_every_fault_at_once(mvtec: Competition, tmp_path: Path) -> None:
    import tifffile
    from PIL import Image

    files = whole()
    first, mask, second, other = NAMES
    files[first] = encode_map(np.zeros((5, 4)), "float16")
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 5), 7, np.uint8)).save(buffer, "PNG")
    files[mask] = buffer.getvalue()
    files[second] = encode_map(planes()[1].map, "float32")
    del files[other]
    files["submission/readme.txt"] = b"hello"
    problems = validate_submission(packed(tmp_path / "s.tar.gz", files, second), mvtec, IDS, sizes=SIZES)
    assert problems == [
        f"files are missing (1): '{other}'. Each test image needs its own.",
        "files are not expected (1): 'submission/readme.txt'. Leave them out.",
        f"files occur more than once (1): '{second}' (2 times). Keep one of each.",
        f"maps are of another size than their image (1): '{first}' (4×5 pixels, and the image 5×4). "
        "Resize them to the original images.",
        f"masks hold values other than 0 and 255 (1): '{mask}' (value 7). Write 0 for normal pixels and 255 for "
        "anomalous ones.",
        f"maps are not of the type float16 (2): '{second}' (type float32), '{second}' (type float32). Convert: "
        "plane.astype(np.float16).",
    ]
    for name, content, message in (
        (first, b"II*\0broken", "maps are no readable TIFF (1)"),
        (mask, b"\x89PNGbroken", "masks are no readable image (1)"),
        (first, _tiff(tifffile, np.full((4, 5), np.inf, np.float16)), "hold NaN or infinite values (1): "),
        (first, _tiff(tifffile, np.zeros((4, 5, 3), np.float16)), "more than one channel or page (1): "),
        (mask, _png(Image, np.zeros((4, 5, 3), np.uint8)), "masks are not 8-bit grey (1): "),
        (mask, _png(Image, np.zeros((4, 5), bool)), "(mode 1)"),
    ):
        path = packed(tmp_path / "s.tar.gz", {**whole(), name: content})
        problems = validate_submission(path, mvtec, IDS, sizes=SIZES)
        assert len(problems) == 1 and message in problems[0], problems


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("submission/", "", "the files lie below '', expected below 'submission'"),
        ("submission/", "./mine/", "the files lie below 'mine', expected below 'submission'"),
        ("submission/", "deep/submission/", "the files lie below 'deep', expected below ''"),
    ],
)
def test_wrong_nesting(old: str, new: str, message: str, mvtec: Competition, tmp_path: Path) -> None:
    files = {name.replace(old, new, 1): content for name, content in whole().items()}
    path = packed(tmp_path / "s.tar.gz", files)
    problems = validate_submission(path, mvtec, IDS, sizes=SIZES)
    assert len(problems) == 1 and message in problems[0], problems
    files.popitem()
    problems = validate_submission(packed(path, files), mvtec, IDS, sizes=SIZES)
    assert len(problems) == 2 and "files are missing (1)" in problems[1], problems


def test_swapped_folders_are_extra_and_missing(mvtec: Competition, tmp_path: Path) -> None:
    files = {name.replace("test_private", "test_public"): content for name, content in whole().items()}
    problems = validate_submission(packed(tmp_path / "s.tar.gz", files), mvtec, IDS, sizes=SIZES)
    assert len(problems) == 2 and "missing (4)" in problems[0] and "not expected (4)" in problems[1], problems


def test_files_that_are_no_archive(mvtec: Competition, tmp_path: Path) -> None:
    path = tmp_path / "s.tar.gz"
    assert "does not exist. Expected a .tar.gz of submission/anomaly_images" in _only(mvtec, path)
    path.mkdir()
    assert "is a folder: pack it as .tar.gz" in _only(mvtec, path)
    path.rmdir()
    path.write_text("id,value\n")
    assert "the file is no archive (9 bytes)" in _only(mvtec, path)
    content = written(mvtec, tmp_path / "whole.tar.gz").read_bytes()
    path.write_bytes(content[:-100])
    assert "the archive cannot be read: it is damaged or cut off" in _only(mvtec, path)
    path.write_bytes(gzip.compress(gzip.decompress(content)[:700]))
    assert any("cannot be read" in problem or "missing" in problem for problem in _problems(mvtec, path))
    written(_with(mvtec, archive="zip"), tmp_path / "s.zip")
    assert "the file is a .zip, expected a .tar.gz" in _only(mvtec, tmp_path / "s.zip")
    with tarfile.open(path, "w:gz") as archive:
        for name in NAMES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(entry)
    assert "entries are links, not files (4)" in _only(mvtec, path)
    with pytest.raises(ProjectError, match="give their ids"):
        validate_submission(path, mvtec)


def test_warnings(mvtec: Competition, tmp_path: Path) -> None:
    first, second = (value.map for value in planes())
    none, all_of_it = np.zeros((4, 5), bool), np.ones((6, 3), bool)
    flat = np.full((4, 5), 0.25, np.float32)
    path = written(mvtec, tmp_path / "s.tar.gz", [MapAndMask(flat, none), MapAndMask(second * 1e5, ~all_of_it)])
    assert submission_warnings(path, mvtec, IDS) == [
        "maps hold one value alone (1): '000_regular'. They rank no pixel above another.",
        "maps reach the end of float16's range (65504) (1): '001_regular'. Pixels beyond it are alike; divide the maps "
        "by a constant.",
        "all masks are empty.",
    ]
    path = written(mvtec, path, [MapAndMask(first, none), MapAndMask(second, all_of_it)])
    assert submission_warnings(path, mvtec, IDS) == [
        "masks call every pixel anomalous (1): '001_regular'. The pixel threshold may be too low."
    ]


def test_archives_of_several_runs_are_joined(
    make_boxes_spec: MakeSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = []
    for name in ("can", "vial"):
        spec = make_boxes_spec("map_folder", {}, top="submission", pattern=f"{name}/test_private/{{id}}")
        parts.append(written(spec, tmp_path / f"{name}.tar.gz"))
    for target in (tmp_path / "all.tar.gz", tmp_path / "all.zip"):
        assert join(parts, target) == 8
        names = [name for name, _ in read_archive(target)]
        assert names == NAMES + [name.replace("/can/", "/vial/") for name in NAMES]
    assert main([str(tmp_path / "twice.zip"), str(parts[0]), str(parts[0])]) == 1
    assert f"{NAMES[0]} is in {parts[0]} and in {parts[0]}" in capsys.readouterr().err
    assert main([str(tmp_path / "one.zip"), *map(str, parts)]) == 0 and "8 files" in capsys.readouterr().out
    (tmp_path / "no.tar.gz").write_text("no")
    for sources, target, message in (
        (parts, tmp_path / "all.rar", r"name the archive \.tar\.gz or \.zip"),
        ([tmp_path / "absent.zip"], tmp_path / "x.zip", "there is no archive"),
        ([tmp_path / "no.tar.gz"], tmp_path / "x.zip", "cannot be joined: it is neither"),
    ):
        with pytest.raises(ProjectError, match=message):
            join(sources, target)
    assert not (tmp_path / "twice.zip").exists() and not (tmp_path / "x.zip").exists()


def _with(spec: Competition, **options: Any) -> Competition:
    from dataclasses import replace

    return replace(spec, submission=replace(spec.submission, options={**spec.submission.options, **options}))


def _problems(spec: Competition, path: Path) -> list[str]:
    return validate_submission(path, spec, IDS, sizes=SIZES)


def _only(spec: Competition, path: Path) -> str:
    problems = _problems(spec, path)
    assert len(problems) == 1, problems
    return problems[0]


def _tiff(tifffile: Any, plane: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, plane)
    return buffer.getvalue()


def _png(image: Any, plane: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    image.fromarray(plane).save(buffer, "PNG")
    return buffer.getvalue()


def test_stream_is_in_the_archives_order(mvtec: Competition, tmp_path: Path) -> None:
    from src.submission.formats.table import context_of

    files = whole()
    path = packed(tmp_path / "s.tar.gz", {name: files[name] for name in sorted(files)})  # maps first, then masks
    found: Iterator = FORMATS["map_folder"].stream(path, IDS, context_of(mvtec))
    assert [(name, part) for name, part, _ in found] == [(n, p) for p in ("map", "mask") for n in IDS]
