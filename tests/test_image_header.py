"""Sizes from headers: those of the upright picture, for every kind of file, without decoding."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from src.data.images import read_size
from src.image_header import image_size, image_sizes


def save(path: Path, orientation: int | None = None, size: tuple[int, int] = (30, 20), **options) -> Path:
    picture = Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8))
    if orientation is not None:
        exif = Image.Exif()
        exif[274] = orientation
        options["exif"] = exif
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif", "gif"])
def test_width_and_height(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"사진.{suffix}")
    assert image_size(path) == (30, 20) == read_size(path)[::-1]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_rotated_picture(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = save(tmp_path / f"a.{suffix}", orientation)
    assert image_size(path) == ((20, 30) if orientation > 4 else (30, 20)) == read_size(path)[::-1]


def test_a_png_that_says_it_after_its_pixels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 6)
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    chunk = content[start : start + 12 + int.from_bytes(content[start : start + 4], "big")]
    end = content.index(b"IEND") - 4
    path.write_bytes(content[:start] + content[start + len(chunk) : end] + chunk + content[end:])
    assert image_size(path) == (20, 30) == read_size(path)[::-1]


def test_pixels_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_):
        raise AssertionError("decoded")

    paths = [save(tmp_path / f"a{number}.{suffix}", number) for suffix in ("jpg", "png") for number in (1, 6)]
    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    assert image_sizes([str(path) for path in paths]) == [(30, 20), (20, 30)] * 2


def test_what_cannot_be_read_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "folder.jpg").mkdir()
    paths = [tmp_path / name for name in ("empty.jpg", "text.jpg", "folder.jpg", "absent.jpg")]
    assert image_sizes([str(path) for path in paths]) == [None] * 4


def test_a_cut_off_file_has_one(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", size=(300, 200))
    path.write_bytes(path.read_bytes()[:700])
    assert image_size(path) == (300, 200)
