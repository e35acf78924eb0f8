"""Class strings and categories in manifests and solutions, and what is said of tables that are wrong."""

import shutil
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from src.competition import Competition, load_competition, read_competition
from src.errors import ProjectError
from src.folds import assign_folds
from src.manifest import data_hash, read_manifest, read_solution
from src.row_targets import class_notes
from src.submission.validate import vocabulary
from tests.test_manifest import split, touch

PATTERN = "{category}-{state}"


def spec_of(root: Path, rows: list[str], test: str = "id,file\nt,t.png\n", *, header: str = "label", **changes):
    """A csv competition of these label cells; `changes` go to `data` or, where named so, to the spec."""
    root.mkdir(exist_ok=True)
    lines = [f"{number},{number}.png,{cells}" for number, cells in enumerate(rows)]
    for number in range(len(rows)):
        touch(root / f"{number}.png")
    for name in ("t", "u", "v"):
        touch(root / f"{name}.png")
    (root / "train.csv").write_text("\n".join([f"id,file,{header}", *lines]) + "\n", encoding="utf-8")
    (root / "test.csv").write_text(test, encoding="utf-8")
    top = {key: changes.pop(key) for key in ("metric", "submission", "solution") if key in changes}
    data = {"layout": "csv", "train": "train.csv", "test": "test.csv", "id": "id", "path": "file", "target": "label"}
    config = {
        "name": "mine",
        "task": "anomaly",
        "root": str(root),
        "data": data | {"normal": ["good"], "target_pattern": PATTERN} | changes,
        "metric": "macro_f1",
        "submission": {"format": "class", "columns": {"id": "id", "value": "label"}},
    }
    return load_competition(config | top, source="conf/competition/mine.yaml")


def refused(spec: Competition, *texts: str) -> None:
    with pytest.raises(ProjectError) as caught:
        read_manifest(spec)
    for text in texts:
        assert text in str(caught.value)


# csv ---------------------------------------------------------------------------------------------------------


def test_classes_of_a_pattern(tmp_path: Path) -> None:
    manifest = read_manifest(spec_of(tmp_path, ["tile-good", "nut-bad10", "tile-gray-stroke", "", "nut-bad2"]))
    train = split(manifest, "train")
    assert train["target"].tolist() == ["tile-good", "nut-bad10", "tile-gray-stroke", None, "nut-bad2"]
    assert train["label"].tolist() == [0, 1, 1, pd.NA, 1]
    assert train["category"].tolist() == ["tile", "nut", "tile", None, "nut"]
    assert split(manifest, "test")["category"].tolist() == [None]
    assert manifest.attrs["target_pattern"] == PATTERN
    assert manifest.attrs["classes"] == ["nut-bad2", "nut-bad10", "tile-good", "tile-gray-stroke"]
    assert vocabulary(manifest)["classes"] == tuple(manifest.attrs["classes"])


def test_without_pattern_and_format_nothing_is_added(tmp_path: Path) -> None:
    score = {"format": "score", "columns": {"id": "id", "value": "score"}}
    rows = ["good,a", "bad,"]
    spec = spec_of(tmp_path, rows, header="label,lot", target_pattern=None, metric="auroc", submission=score)
    manifest = read_manifest(spec)
    assert manifest["category"].tolist() == [None, None, None]
    assert manifest.attrs == {"target_pattern": None}


def test_the_hash_of_data_without_categories_is_as_ever(tmp_path: Path) -> None:
    from tests.test_manifest import csv_spec

    for name in ("a.png", "b.png"):
        touch(tmp_path / name)
    spec = csv_spec(tmp_path, "id,file,label,lot\na,a.png,ok,x\nb,b.png,crack,y\n", group="lot")
    known = "1f93628d4ec5a0793dfb48c8dfe99185c64395bc66a5daf01f2fd2af00d5dacd"  # runs compare with what they recorded
    assert data_hash(read_manifest(spec)) == known


def test_categories_count_in_the_hash(tmp_path: Path) -> None:
    def hashed(name: str, rows: list[str]) -> str:
        changes = {"header": "label,part", "category": "part", "target_pattern": None}
        return data_hash(read_manifest(spec_of(tmp_path / name, rows, **changes)))

    assert hashed("a", ["good,x", "bad,y"]) == hashed("b", ["good,x", "bad,y"]) != hashed("c", ["good,x", "bad,x"])


def test_a_column_of_categories(tmp_path: Path) -> None:
    test = "id,file,part\nt,t.png,나사\nu,u.png,\n"
    (tmp_path / "solution.csv").write_text("id,label\nt,bad\nu,good\n")
    changes = {"header": "label,part", "category": "part", "target_pattern": None, "solution": "solution.csv"}
    spec = spec_of(tmp_path, ["good,나사", "bad,metal nut"], test, **changes)
    manifest = read_manifest(spec)
    assert manifest["category"].tolist() == ["나사", "metal nut", "나사", None]
    assert read_solution(spec)["category"].tolist() == ["나사", None]
    (tmp_path / "solution.csv").write_text("id,label,part\nu,good,metal nut\nt,bad,\n")
    assert read_solution(spec)["category"].tolist() == ["나사", "metal nut"]
    spec = spec_of(tmp_path, ["good,나사", "bad,metal nut"], **{**changes, "solution": None})
    assert split(read_manifest(spec), "test")["category"].tolist() == [None]


def test_a_column_decides_how_a_target_is_split(tmp_path: Path) -> None:
    rows = ["wire-good,wire", "wire-end-bent,wire-end", "wire-end-cut,wire"]
    manifest = read_manifest(spec_of(tmp_path, rows, header="label,part", category="part"))
    assert split(manifest, "train")["category"].tolist() == ["wire", "wire-end", "wire"]
    spec = spec_of(tmp_path, [*rows, "nut-good,tile"], header="label,part", category="part")
    refused(spec, "train.csv:5: the target 'nut-good' names the category 'nut'", "the column 'part' 'tile'")


def test_a_solution_is_split_as_training_was(tmp_path: Path) -> None:
    (tmp_path / "solution.csv").write_text("id,label\nt,wire-end-bent\nu,wire-good-2\nv,wire-good\n")
    test = "id,file\nt,t.png\nu,u.png\nv,v.png\n"
    spec = spec_of(tmp_path, ["wire-good", "nut-end-x"], test, solution="solution.csv")
    solution = read_solution(spec)
    assert solution["label"].tolist() == [1, 1, 0]
    assert solution["category"].tolist() == ["wire", "wire", "wire"]
    assert solution["target"].tolist() == ["wire-end-bent", "wire-good-2", "wire-good"]
    (tmp_path / "solution.csv").write_text("id,label\nt,wire-good\nu,wiregood\nv,wire-good\n")
    with pytest.raises(ProjectError, match=r"solution: 1 answered targets do not fit.*solution\.csv:3 'wiregood'"):
        read_solution(spec)


def test_targets_that_do_not_fit_are_named(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, ["tile-good", "tilegood", "", "-bad"])
    refused(
        spec, "mine.yaml: data.target_pattern: 2 training targets do not fit", "train.csv:3 'tilegood', train.csv:5"
    )


def test_a_pattern_that_nothing_fits_names_one_that_all_do(tmp_path: Path) -> None:
    refused(spec_of(tmp_path, ["tile_good", "metal_nut_bad"]), "2 training targets", "All of them fit '{category}_{sta")


def test_no_normal_state_lists_the_states(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, ["tile-good", "nut-good", "tile-crack"], normal=["goood"])
    refused(spec, "data.normal: no training image is normal: goood is not among the states. Did you mean 'good'?")
    refused(spec, "States found: 'good' (2), 'crack' (1)")
    refused(spec_of(tmp_path, ["tile-good", "tile-bad"], normal=["tile-good"]), "Did you mean 'good'?")


@pytest.mark.parametrize(
    ("twin", "how"), [("tile-good ", "spaces"), (unicodedata.normalize("NFD", "타일-good"), "their Unicode form")]
)
def test_targets_that_look_alike(tmp_path: Path, twin: str, how: str) -> None:
    first = unicodedata.normalize("NFC", twin.strip())
    spec = spec_of(tmp_path, [first, "nut-good", f'"{twin}"'])
    refused(spec, f"train.csv:2, train.csv:4: the targets '{first}'", how)


def test_an_unknown_category_of_test_images(tmp_path: Path) -> None:
    test = "id,file,part\nt,t.png,bottel\nu,u.png,bottle\n"
    changes = {"header": "label,part", "category": "part", "target_pattern": None}
    spec = spec_of(tmp_path, ["good,bottle", "good,cable"], test, **changes)
    refused(spec, "data.category: 1 test images have a category that no training image has: test.csv:2 'bottel'")
    refused(spec, "Did you mean 'bottle'? Categories: bottle, cable. Correct the table; an empty cell")
    refused(spec_of(tmp_path, ["good,bottle", "good,"], **changes), "1 training rows have no category: train.csv:3")


def test_notes_of_single_images_and_bare_categories(tmp_path: Path) -> None:
    rows = ["tile-good", "tile-good", "tile-crack", "nut-bad", "nut-bad"]
    notes = class_notes(read_manifest(spec_of(tmp_path, rows)))
    assert len(notes) == 2
    assert notes[0].startswith("1 of 3 classes have one training image") and notes[0].endswith(": tile-crack")
    assert notes[1] == "no normal training image in 1 categories: nut"
    assert class_notes(read_manifest(spec_of(tmp_path, ["tile-good", "tile-good"]))) == []


# folders -----------------------------------------------------------------------------------------------------


def test_folders_named_by_the_pattern(tmp_path: Path) -> None:
    for name in ("train/tile-good/a.png", "train/nut-bad/b.png", "test/x.png"):
        touch(tmp_path / name)
    spec = read_competition("folder", {"root": str(tmp_path), "data.target_pattern": PATTERN})
    train = split(read_manifest(spec), "train")
    assert train["label"].tolist() == [1, 0] and train["category"].tolist() == ["nut", "tile"]


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    root = tmp_path / "mvtec"
    for category in ("cable10", "cable2", "bottle"):
        for name in ("train/good/0", "test/good/0", "test/crack/0", "ground_truth/crack/0_mask"):
            touch(root / category / f"{name}.png")
    touch(root / "license/readme.txt")
    return root


def categories_spec(root: Path, **changes) -> Competition:
    return read_competition(
        "mvtec_categories", {"root": str(root)} | {f"data.{key}": value for key, value in changes.items()}
    )


def test_categories_of_mvtec(mvtec: Path) -> None:
    spec = categories_spec(mvtec)
    manifest = read_manifest(spec)
    assert split(manifest, "train")["id"].tolist() == ["bottle/good/0", "cable2/good/0", "cable10/good/0"]
    test = split(manifest, "test")
    assert test["id"].tolist()[:3] == ["bottle/crack/0", "bottle/good/0", "cable2/crack/0"]
    assert test["category"].tolist() == ["bottle"] * 2 + ["cable2"] * 2 + ["cable10"] * 2
    assert test["target"].isna().all() and test["source"][0] == "bottle/test/crack/0.png"
    solution = read_solution(spec)
    assert solution["id"].tolist() == test["id"].tolist()
    assert solution["label"].tolist() == [1, 0] * 3 and solution["category"].tolist() == test["category"].tolist()
    assert solution["mask"][2] == str(mvtec / "cable2/ground_truth/crack/0_mask.png") and solution["mask"][3] is None
    assert read_manifest(categories_spec(mvtec, categories=["cable10"]))["category"].tolist() == ["cable10"] * 3


def test_categories_of_mvtec_with_a_pattern(mvtec: Path) -> None:
    touch(mvtec / "bottle/train/crack-2/9.png")
    spec = categories_spec(mvtec, target_pattern=PATTERN)
    train = split(read_manifest(spec), "train")
    assert train["target"].tolist() == ["bottle-crack-2", "bottle-good", "cable2-good", "cable10-good"]
    assert train["category"].tolist() == ["bottle", "bottle", "cable2", "cable10"]
    assert train["label"].tolist() == [1, 0, 0, 0]
    assert read_solution(spec)["target"].tolist()[:2] == ["bottle-crack", "bottle-good"]


def test_a_solution_table_of_categories(mvtec: Path) -> None:
    ids = read_manifest(categories_spec(mvtec)).query("split == 'test'")["id"]
    text = "id,score\n" + "".join(f"{name},{name.split('/')[1]}\n" for name in reversed(ids.tolist()))
    (mvtec / "solution.csv").write_text(text)
    spec = read_competition("mvtec_categories", {"root": str(mvtec), "solution": "solution.csv"})
    solution = read_solution(spec)
    assert solution["id"].tolist() == ids.tolist()
    assert solution["category"].tolist() == ["bottle"] * 2 + ["cable2"] * 2 + ["cable10"] * 2


def test_categories_that_are_not_there(mvtec: Path) -> None:
    with pytest.raises(ProjectError, match=r"data\.categories: there is no folder 'botle'.*Did you mean 'bottle'"):
        categories_spec(mvtec, categories=["botle"])
    with pytest.raises(ProjectError, match=r"categories: no folder in .*bottle has a folder 'train'.*categories: null"):
        categories_spec(mvtec / "bottle")
    shutil.rmtree(mvtec / "cable2/test")
    with pytest.raises(ProjectError, match=r"data\.test: .*cable2/test does not exist"):
        categories_spec(mvtec)
    for wrong in ("../x", ".", "bottle/../cable2"):
        with pytest.raises(ProjectError, match=r"data\.categories: .*(leaves the root|no folder below the root)"):
            categories_spec(mvtec, categories=[wrong])
    with pytest.raises(ProjectError, match=r"data\.categories: 'bottle' is named twice"):
        categories_spec(mvtec, categories=["bottle", "bottle"])


# folds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [12, 88])
@pytest.mark.parametrize("groups", [None, 60])
def test_folds_of_many_classes(n_classes: int, groups: int | None) -> None:
    """A class with as many rows as folds is in each fold, as evenly as can be; rarer ones are kept."""
    sizes = [3 if index % 4 == 3 else 40 if index % 4 == 0 else 10 for index in range(n_classes)]
    targets = [f"part{index // 4}-{index}" for index, size in enumerate(sizes) for _ in range(size)]
    rows = len(targets)
    manifest = pd.DataFrame(
        {
            "id": [str(row) for row in range(rows)],
            "split": "train",
            "target": targets,
            "label": pd.array([int(size < 40) for size in sizes for _ in range(size)], dtype="Int64"),
            "group": pd.Series([None if groups is None else f"g{row % groups}" for row in range(rows)], dtype=object),
        }
    )
    folds = assign_folds(manifest, n_folds=5, seed=0, holdout=0.2, one_class=False)
    table = pd.crosstab(manifest["target"], folds)
    assert table.shape == (n_classes, 5) and abs(folds.value_counts() - rows / 5).max() <= 0.1 * rows
    if groups is None:
        large = table[table.sum(axis=1) >= 5]
        assert (large.max(axis=1) - large.min(axis=1)).max() <= 1
    else:
        assert (manifest.assign(fold=folds).groupby("group")["fold"].nunique() == 1).all()
        assert (table[table.sum(axis=1) == 40] > 0).all(axis=None)
