"""Whole files or none."""

import json
import os
import stat

import pytest

from src.atomic import atomic_path, write_json, write_text
from src.errors import ProjectError


def test_writes_and_replaces(tmp_path) -> None:
    target = tmp_path / "한글 폴더" / "a b.json"
    write_json(target, {"id": "007", "값": 1})
    write_json(target, {"id": "008"})
    assert json.loads(target.read_text(encoding="utf-8")) == {"id": "008"}
    assert [p.name for p in target.parent.iterdir()] == ["a b.json"]


def test_an_error_leaves_the_old_file_and_no_rest(tmp_path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_one_clear_message(tmp_path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(ProjectError, match=r"a\.txt.*No space left.*untouched"), atomic_path(target):
        raise OSError(28, "No space left on device")
    assert target.read_text() == "old"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(tmp_path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(ProjectError, match=r"a\.txt"):
        write_text(tmp_path / "a.txt", "x")


def test_nan_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())
