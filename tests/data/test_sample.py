"""The bundled competition: the same pixels each time, honest tables, no leak, whole folders only."""

import csv
import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from src.data import sample, sample_anomaly
from src.errors import ProjectError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.make_sample("sample_anomaly", tmp_path_factory.mktemp("made") / "anomaly")


def read(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def load(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    return cv2.imdecode(np.fromfile(path, np.uint8), flags)


def competition(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(bundled=True, name="sample_anomaly", root=folder)


def test_tables(root: Path) -> None:
    train, test = read(root / "train.csv"), read(root / "test.csv")
    solution, submission = read(root / "solution.csv"), read(root / "sample_submission.csv")
    assert Counter(row["kind"] for row in train) == {"normal": 240, **dict.fromkeys(sample_anomaly.KINDS, 4)}
    assert Counter(row["kind"] for row in solution) == {
        "normal": 95,
        **dict.fromkeys(sample_anomaly.KINDS, 13),
    }
    assert list(test[0]) == ["id", "file"] and set(submission[0].values()) == {"0260", "0.5"}
    ids = [row["id"] for row in test]
    assert ids == [row["id"] for row in solution] == [row["id"] for row in submission]
    assert train[7]["id"] == "0007" and len({*ids, *(row["id"] for row in train)}) == 420
    labels = "".join(row["label"][0] for row in solution)
    assert labels.count("nd") > 20, "the labels must be spread over the ids, not sorted"
    assert all((row["label"] == "normal") == (row["kind"] == "normal") for row in train + solution)


def test_masks_belong_to_defects(root: Path) -> None:
    for row in read(root / "train.csv") + read(root / "solution.csv"):
        assert (row["mask"] == "") == (row["label"] == "normal")
        if row["mask"]:
            mask = load(root / row["mask"], cv2.IMREAD_UNCHANGED)
            assert mask.shape == (224, 224) and set(np.unique(mask)) == {0, 255}, row["id"]
            assert 20 < np.count_nonzero(mask) < mask.size // 3, row["id"]
    for row in read(root / "train.csv")[:5] + read(root / "test.csv")[:5]:
        assert load(root / row["file"]).shape == (224, 224, 3)


def test_same_pixels_each_time() -> None:
    textures, rows = sample_anomaly.load_textures(), sample_anomaly.plan()
    chosen = {row.kind: row for row in rows}.values()  # one of each kind

    def digest(seed: int) -> str:
        pictures = [sample_anomaly.make_picture(row, textures, seed) for row in chosen]
        return hashlib.sha256(b"".join(p.image.tobytes() + p.mask.tobytes() for p in pictures)).hexdigest()

    assert digest(1) == digest(1) != digest(2)
    assert sample_anomaly.plan() == rows


def test_no_pixel_of_a_test_window_reaches_a_training_picture() -> None:
    rows = sample_anomaly.plan()
    cells = {s: {(r.texture, r.window) for r in rows if r.split == s} for s in ("train", "test")}
    assert len(cells["train"]) == 9 and len(cells["test"]) == 3 and not cells["train"] & cells["test"]
    textures = sample_anomaly.load_textures()
    ruined = {name: picture.copy() for name, picture in textures.items()}
    for name, picture in ruined.items():
        top, bottom, left, right = sample_anomaly._edges(sample_anomaly.TEST_CELLS[name])
        picture[top:bottom, left:right] = 255 - picture[top:bottom, left:right]
    shifted = [r for r in rows if r.split == "train" and r.kind != "foreign"][:40]
    for row in shifted:  # foreign matter is set to the mean brightness of its whole photograph
        before, after = (sample_anomaly.make_picture(row, t) for t in (textures, ruined))
        assert np.array_equal(before.image, after.image), row


def test_only_the_masked_part_is_damaged() -> None:
    textures = sample_anomaly.load_textures()
    for row in [r for r in sample_anomaly.plan() if r.split == "train" and r.kind in ("scratch", "hole")]:
        picture = sample_anomaly.make_picture(row, textures)
        clean = sample_anomaly.make_picture(sample_anomaly.Row(**{**vars(row), "kind": "normal"}), textures)
        change = np.abs(picture.image.astype(int) - clean.image).max(-1)
        near = cv2.dilate(picture.mask.astype(np.uint8), np.ones((15, 15))) > 0
        assert change[~near].max() <= 3 and change[picture.mask].max() > 10, row


def test_ensure_makes_what_is_missing_or_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setitem(sample.RECIPES, "sample_anomaly", lambda root, *_: (calls.append(root), (root / "x").touch()))
    folder = tmp_path / "anomaly"
    sample.ensure_sample(competition(folder))
    sample.ensure_sample(competition(folder))
    assert len(calls) == 1 and (folder / "x").exists()
    (folder / ".version").write_text("older")
    (folder / "stale").touch()
    sample.ensure_sample(competition(folder))
    assert len(calls) == 2 and not (folder / "stale").exists()
    sample.ensure_sample(SimpleNamespace(bundled=False, name="sample_anomaly", root=tmp_path / "mine"))
    assert not (tmp_path / "mine").exists()


def test_a_stopped_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(root: Path, *_: object) -> None:
        (root / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setitem(sample.RECIPES, "sample_anomaly", stopped)
    with pytest.raises(KeyboardInterrupt):
        sample.make_sample("sample_anomaly", tmp_path / "anomaly")
    assert [path.name for path in tmp_path.iterdir()] == [".anomaly.lock"]


def test_foreign_folders_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(ProjectError, match=r"no bundled sample.*competition\.root"):
        sample.make_sample("sample_anomaly", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    with pytest.raises(ProjectError, match="Did you mean 'sample_anomaly'"):
        sample.make_sample("sample_anomly", tmp_path / "x")


def test_two_processes_make_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from types import SimpleNamespace as S; from pathlib import Path\n"
        "from src.data import sample\n"
        "def make(root, *_): (root / 'x').touch(); time.sleep(0.3); print('made')\n"
        "sample.RECIPES['sample_anomaly'] = make\n"
        "sample.ensure_sample(S(bundled=True, name='sample_anomaly', root=Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "anomaly")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(2)]
    outputs = [run.communicate(timeout=60)[0] for run in runs]
    assert all(run.returncode == 0 for run in runs) and b"".join(outputs).count(b"made\n") == 1
    assert {path.name for path in (tmp_path / "anomaly").iterdir()} == {"x", ".version"}
