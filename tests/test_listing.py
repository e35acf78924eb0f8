"""Paths that stay under a folder, and files found under it whatever form their names take."""

import posixpath
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.listing import Tree, is_image, natural_key, relative_under

PARTS = st.sampled_from(["a", "..", ".", "", "가", "...", "..a", "C:", "root"])


@given(parts=st.lists(PARTS, max_size=8), mark=st.sampled_from("/\\"), start=st.sampled_from([".", "images"]))
def test_no_text_leads_out(parts: list[str], mark: str, start: str) -> None:
    found = relative_under(mark.join(parts), "/root", start)
    if found is None:
        return
    assert not found.startswith("/")
    assert found == posixpath.normpath(found)
    assert found.split("/")[0] != ".."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b.png", "a/b.png"),
        ("./a//b.png", "a/b.png"),
        ("a\\b.png", "a/b.png"),
        ("a/../b.png", "b.png"),
        ("..b.png", "..b.png"),
        ("a..png", "a..png"),
        (".", "."),
        ("/root/a.png", "a.png"),
        ("/rootless/a.png", None),
        ("/root/../a.png", None),
        ("a/../../root/b.png", None),
        ("C:/a.png", None),
        ("c:\\a.png", None),
        ("\\\\server\\a.png", None),
    ],
)
def test_paths_as_people_write_them(text: str, expected: str | None) -> None:
    assert relative_under(text, "/root") == expected


def test_natural_order() -> None:
    names = ["img10", "img9", "Img1", "img09", "10", "9", "가2", "가10", "", "a²"]
    ordered = sorted(names, key=natural_key)
    assert ordered == ["", "9", "10", "a²", "Img1", "img09", "img9", "img10", "가2", "가10"]


def test_image_names() -> None:
    assert all(map(is_image, ["a.jpg", "a.JPEG", "a.Png", "a.bmp", "a.tif", "a.TIFF", "a.webp"]))
    assert not any(map(is_image, ["a.txt", "jpg", ".jpg", "._a.jpg", "a.jpg.part", "a.npy"]))


def test_one_listing_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for i in range(20):
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / f"x/{i}.png").touch()
    calls: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr("os.scandir", lambda path: calls.append(str(path)) or scandir(path))
    tree = Tree(tmp_path)
    assert all(tree.find(f"x/{i}.PNG") == f"{tmp_path}/x/{i}.png" for i in range(20))
    assert tree.find("x/20.png") is None
    assert tree.find("y/0.png") is None
    assert sorted(calls) == [str(tmp_path), f"{tmp_path}/x"]
