"""The bundled competition of classes: the same pixels each time, twelve classes, honest tables, no leak."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.competition import read_competition
from src.data import sample, sample_anomaly
from src.data import sample_defect_classes as recipe
from src.folds import assign_folds
from src.manifest import read_manifest, read_solution
from src.submission.validate import submission_warnings, validate_submission, vocabulary

ARRAYS = "eeeac13ec4c18e40a7f92a0cbb1687657f580e0412fb14a4b5c371c0f815be43"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.make_sample("sample_defect_classes", tmp_path_factory.mktemp("made") / "defect_classes")


def read(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_recipe_is_frozen() -> None:
    """Figures that were measured on these pictures hold as long as this does; the JPEG bytes may differ."""
    textures, rows = sample_anomaly.load_textures(), recipe.plan()
    chosen = {(row.split, recipe.target_of(row)): row for row in rows}.values()  # one of each class and split
    digest = hashlib.sha256(repr([(row.id, row.split, recipe.target_of(row), row.group) for row in rows]).encode())
    for row in chosen:
        picture = recipe.draw(row, textures)
        assert picture.image.shape == (112, 112, 3) and picture.image.dtype == np.uint8
        assert picture.mask.any() == (row.kind != "normal")
        digest.update(picture.image.tobytes() + picture.mask.tobytes())
    assert digest.hexdigest() == ARRAYS


def test_twelve_classes(root: Path) -> None:
    train, solution = (Counter(row["label"] for row in read(root / f"{name}.csv")) for name in ("train", "solution"))
    assert len(train) == 12
    for texture in recipe.TEXTURES:
        assert (train[f"{texture}-good"], solution[f"{texture}-good"]) == (20, 10)
        for kind in recipe.KINDS:
            assert (train[f"{texture}-{kind}"], solution[f"{texture}-{kind}"]) == (10, 5)
    assert list(read(root / "test.csv")[0]) == ["id", "file"]  # nothing about the category


def test_the_competition_reads(root: Path) -> None:
    spec = read_competition("sample_defect_classes", {"root": str(root)})
    manifest = read_manifest(spec)
    train, test = (manifest[manifest["split"] == name] for name in ("train", "test"))
    assert len(train) == 150 and len(test) == 75 and len(manifest.attrs["classes"]) == 12
    assert set(train["category"]) == set(recipe.TEXTURES) and test["category"].isna().all()
    assert (train["label"] == 0).sum() == 60
    solution = read_solution(spec)
    assert (solution["label"] == 0).sum() == 30 and set(solution["category"]) == set(recipe.TEXTURES)
    known = vocabulary(manifest)
    submission = root / "sample_submission.csv"
    assert validate_submission(submission, spec, test["id"].tolist(), **known) == []
    assert len(submission_warnings(submission, spec, test["id"].tolist(), **known)) == 2
    folds = assign_folds(manifest, n_folds=3, seed=0, holdout=0.2, one_class=False)
    assert (train.assign(fold=folds).groupby(["fold"])["target"].nunique() == 12).all()


def test_pictures_and_masks(root: Path) -> None:
    for row in read(root / "train.csv") + read(root / "solution.csv"):
        assert (row["mask"] == "") == row["label"].endswith("-good")
        if row["mask"]:
            mask = cv2.imread(str(root / row["mask"]), cv2.IMREAD_UNCHANGED)
            assert mask.shape == (112, 112) and set(np.unique(mask)) == {0, 255}
            assert 10 < np.count_nonzero(mask) < mask.size // 4, row["id"]


def test_windows_are_of_one_split() -> None:
    rows = recipe.plan()
    cells = {s: {(r.texture, r.window) for r in rows if r.split == s} for s in ("train", "test")}
    assert len(cells["train"]) == 9 and len(cells["test"]) == 3 and not cells["train"] & cells["test"]
    for texture in recipe.TEXTURES:  # each window has every class
        for window in sample_anomaly.windows(texture, "train"):
            kinds = {row.kind for row in rows if (row.texture, row.window, row.split) == (texture, window, "train")}
            assert kinds == {"normal", *recipe.KINDS}


def test_pictures_are_not_those_of_the_other_sample() -> None:
    textures = sample_anomaly.load_textures()
    row = recipe.plan()[0]
    other = sample_anomaly.make_picture(row, textures)
    small = cv2.resize(other.image, (112, 112), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small - recipe.draw(row, textures).image).mean() > 5
    assert sample.recipe_version("sample_defect_classes") != sample.recipe_version("sample_anomaly")


def test_halving_is_the_mean_of_four() -> None:
    values = np.arange(4 * 6 * 3).reshape(4, 6, 3)
    halved = recipe._sum_of_four(values)
    assert halved.shape == (2, 3, 3)
    assert halved[0, 0, 0] == values[:2, :2, 0].sum() and halved[1, 2, 1] == values[2:, 4:, 1].sum()
