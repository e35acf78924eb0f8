"""Folds: whole groups, even targets, the same draw for the same rows, a file that must fit its data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from src.errors import ProjectError
from src.folds import assign_folds, fold_hash, read_folds, write_folds


def make_manifest(targets: list[str | None], groups: list[str | None] | None = None, test: int = 3) -> pd.DataFrame:
    """A manifest of train rows with these targets ("ok..." is normal), and some test rows."""
    count = len(targets)
    labels = [pd.NA if t is None else int(not t.startswith("ok")) for t in targets]
    return pd.DataFrame(
        {
            "id": pd.Series([f"{i:03d}" for i in range(count)] + [f"t{i}" for i in range(test)], dtype=object),
            "split": ["train"] * count + ["test"] * test,
            "target": pd.Series(targets + [None] * test, dtype=object),
            "label": pd.array(labels + [pd.NA] * test, dtype="Int64"),
            "group": pd.Series((groups or [None] * count) + [None] * test, dtype=object),
        }
    )


def draw(manifest: pd.DataFrame, n_folds: int, *, seed: int = 0, holdout: float = 0.2, one_class: bool = True):
    return assign_folds(manifest, n_folds=n_folds, seed=seed, holdout=holdout, one_class=one_class)


def by_id(manifest: pd.DataFrame, folds: pd.Series) -> dict[str, int]:
    return dict(zip(manifest.loc[folds.index, "id"], folds.tolist(), strict=True))


def test_every_training_row_gets_one_fold_and_targets_are_even() -> None:
    manifest = make_manifest(["ok a"] * 50 + ["ok b"] * 20 + ["crack"] * 10 + ["hole"] * 5)
    folds = draw(manifest, 5)
    assert folds.name == "fold"
    assert folds.dtype == np.int64
    assert folds.index.tolist() == list(range(85))
    table = pd.crosstab(manifest.loc[folds.index, "target"], folds)
    assert (table.loc["ok a"] == 10).all()
    assert (table.loc["ok b"] == 4).all()
    assert (table.loc["crack"] == 2).all()
    assert (table.loc["hole"] == 1).all()


def test_rare_targets_are_spread_by_label() -> None:
    manifest = make_manifest(["ok"] * 40 + [f"kind {i // 2}" for i in range(10)])
    folds = draw(manifest, 5)
    assert (pd.crosstab(manifest.loc[folds.index, "label"], folds).loc[1] == 2).all()


@pytest.mark.parametrize("one_class", [True, False])
def test_targets_that_are_all_rare(one_class: bool) -> None:
    manifest = make_manifest(["ok"] * 3 + ["a", "a", "b", "b"])
    folds = draw(manifest, 3, one_class=one_class)
    assert set(folds) == {0, 1, 2}


def test_folds_do_not_depend_on_the_order_of_rows() -> None:
    manifest = make_manifest(["ok"] * 60 + ["crack"] * 7 + [None] * 3, [str(i % 13) for i in range(70)])
    shuffled = manifest.sample(frac=1, random_state=3)
    renumbered = shuffled.reset_index(drop=True)
    for data in (manifest, manifest.assign(group=None)):
        for n_folds in (1, 4):
            expected = by_id(data, draw(data, n_folds))
            other = data.loc[shuffled.index]
            assert by_id(other, draw(other, n_folds)) == expected
            other = renumbered.assign(group=other["group"].to_numpy())
            assert by_id(other, draw(other, n_folds)) == expected


def test_the_seed_decides() -> None:
    manifest = make_manifest(["ok"] * 60)
    for n_folds in (1, 3):
        assert draw(manifest, n_folds, seed=1).equals(draw(manifest, n_folds, seed=1))
        assert not draw(manifest, n_folds, seed=1).equals(draw(manifest, n_folds, seed=2))


def test_a_hold_out_of_normal_rows_and_all_defects() -> None:
    manifest = make_manifest(["ok a"] * 50 + ["ok b"] * 10 + ["crack"] * 4 + [None] * 2)
    folds = draw(manifest, 1)
    table = pd.crosstab(manifest.loc[folds.index, "target"].fillna("unknown"), folds)
    assert table.loc["ok a", 0] == 10
    assert table.loc["ok b", 0] == 2
    assert table.loc["crack", 0] == 4
    assert table.loc["unknown", 0] == 0
    assert set(folds) == {-1, 0}


def test_a_hold_out_of_both_classes() -> None:
    manifest = make_manifest(["ok"] * 80 + ["crack"] * 20)
    folds = draw(manifest, 1, holdout=0.25, one_class=False)
    table = pd.crosstab(manifest.loc[folds.index, "target"], folds)
    assert table[0].to_dict() == {"ok": 20, "crack": 5}


def test_no_hold_out() -> None:
    manifest = make_manifest(["ok"] * 8 + ["crack"] * 2)
    assert draw(manifest, 1, holdout=0).tolist() == [-1] * 8 + [0] * 2
    assert draw(manifest, 1, holdout=0, one_class=False).tolist() == [-1] * 10


def test_a_small_hold_out_is_one_row_and_a_big_one_leaves_one() -> None:
    manifest = make_manifest(["ok"] * 4)
    assert draw(manifest, 1, holdout=0.01).tolist().count(0) == 1
    assert draw(manifest, 1, holdout=0.99).tolist().count(0) == 3


def test_a_grouped_hold_out_is_near_its_share() -> None:
    rng = np.random.default_rng(0)
    groups = [f"lot {i}" for i in rng.integers(0, 40, 400)]
    manifest = make_manifest(["ok a" if i % 4 else "ok b" for i in range(400)], groups)
    folds = draw(manifest, 1, holdout=0.3)
    held = manifest.loc[folds.index[folds == 0]]
    assert abs(len(held) - 120) <= 10
    assert abs((held["target"] == "ok b").sum() - 30) <= 8
    assert set(held["group"]).isdisjoint(manifest.loc[folds.index[folds == -1], "group"])


rows = st.lists(
    st.tuples(st.sampled_from(["ok", "ok", "ok b", "crack", "hole", None]), st.sampled_from([*"ABCDEFGH", None])),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])
@given(rows=rows, n_folds=st.integers(2, 5), seed=st.integers(0, 2**40), one_class=st.booleans())
def test_no_group_straddles_folds(rows: list, n_folds: int, seed: int, one_class: bool) -> None:
    manifest = make_manifest([target for target, _ in rows], [group for _, group in rows])
    try:
        folds = draw(manifest, n_folds, seed=seed, one_class=one_class)
    except ProjectError:
        train = manifest.iloc[: len(rows)]
        groups = train["group"].fillna(train["id"])
        trained = train["label"].ne(1).fillna(True) if one_class else pd.Series(True, index=train.index)
        assert groups[trained].nunique() < n_folds or train["group"].notna().any()
        assume(False)
    assert set(folds) == set(range(n_folds))
    train = manifest.loc[folds.index]
    assert (folds.groupby(train["group"]).nunique() == 1).all()
    for fold in range(n_folds):
        left = train[folds != fold]
        assert (left["label"].ne(1).fillna(True)).any() or not one_class


@settings(max_examples=80, deadline=None, derandomize=True)
@given(rows=rows, holdout=st.floats(0, 0.99), seed=st.integers(0, 1000), one_class=st.booleans())
def test_no_group_straddles_a_hold_out(rows: list, holdout: float, seed: int, one_class: bool) -> None:
    manifest = make_manifest([target for target, _ in rows], [group for _, group in rows])
    try:
        folds = draw(manifest, 1, seed=seed, holdout=holdout, one_class=one_class)
    except ProjectError as error:
        assert "data.holdout" in str(error)
        return
    train = manifest.loc[folds.index]
    pool = train["label"].eq(0).fillna(False) if one_class else train["label"].isin([0, 1]) | train["label"].isna()
    assert (folds[pool].groupby(train["group"][pool]).nunique() == 1).all()
    assert (folds[pool] == -1).any() or not pool.any()
    assert (folds[pool] == 0).any() == (holdout > 0 and bool(pool.any()))
    if one_class:
        assert (folds[train["label"].eq(1).fillna(False)] == 0).all()


@pytest.mark.parametrize(
    ("manifest", "settings_", "message"),
    [
        (make_manifest(["ok"] * 3), {"n_folds": 5}, "folds=5 needs at least 5 training images, and there are 3"),
        (make_manifest(["ok"] * 3 + ["x"] * 9), {"n_folds": 5}, "at least 5 normal training images, and there are 3"),
        (make_manifest(["ok"] * 9, list("aaabbbccc")), {"n_folds": 4}, "training groups, and there are 3"),
        (make_manifest(["ok"] * 9, list("aaabbbccc")), {"n_folds": 4}, "folds=3, or competition.data.group=null"),
        (make_manifest(["ok"] * 4, list("aaaa")), {"n_folds": 1}, "data.holdout=0.2 needs two groups"),
        (make_manifest(["ok"]), {"n_folds": 1}, "data.holdout=0.2 needs two normal images"),
        (make_manifest(["ok"] * 4), {"n_folds": 0}, "folds=0: expected 1"),
        (make_manifest(["ok"] * 4), {"n_folds": 1, "holdout": 1.0}, "data.holdout=1.0: expected a share"),
        (make_manifest(["ok"] * 4), {"n_folds": 1, "holdout": -0.1}, "data.holdout=-0.1"),
    ],
)
def test_folds_that_cannot_be(manifest: pd.DataFrame, settings_: dict, message: str) -> None:
    with pytest.raises(ProjectError) as caught:
        draw(manifest, **settings_)
    assert message in str(caught.value)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("n_folds", [1, 2, 5])
def test_a_class_to_learn_is_trained_on_in_every_fold(n_folds: int, grouped: bool) -> None:
    targets = [f"{number:02d}" for number in range(40) for _ in range((1, 2, 3, 12)[number % 4])]
    groups = [f"{target}{row % 5}" for row, target in enumerate(targets)] if grouped else None
    manifest = make_manifest(targets, groups).assign(category=None)
    manifest.attrs["classes"] = sorted(set(targets))
    folds = draw(manifest, n_folds, one_class=False)
    train = manifest.loc[folds.index]
    for fold in range(n_folds):
        assert set(train.loc[folds != fold, "target"]) == set(targets)
        assert (folds == fold).sum() > 0.5 * len(folds) * (0.2 if n_folds == 1 else 1 / n_folds)
    single = train["target"].map(train["target"].value_counts()) == 1
    assert (folds[single] == -1).all() and (n_folds == 1 or grouped or (folds[~single] >= 0).all())
    if grouped:
        assert (folds.groupby(train["group"]).nunique() == 1).all()


def test_a_file_of_folds_reads_back(tmp_path: Path) -> None:
    manifest = make_manifest(["ok"] * 9 + ["crack"])
    manifest.loc[0, "id"] = '가, "7"\n'
    folds = draw(manifest, 3)
    write_folds(tmp_path / "sub" / "folds.csv", manifest, folds)
    assert (tmp_path / "sub/folds.csv").read_text().startswith("id,fold\n")
    back = read_folds(tmp_path / "sub/folds.csv", manifest)
    pd.testing.assert_series_equal(back, folds)
    other = manifest.iloc[::-1]
    assert by_id(other, read_folds(tmp_path / "sub/folds.csv", other)) == by_id(manifest, folds)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["folds.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,fold\n000,0\n", "does not fit the training set: 1 id is missing ('001')"),
        ("id,fold\n0,0\n001,1\n", "1 id is missing ('000'), 1 id is unknown ('0')"),
        ("id,fold\n000,0\n001,1\n001,0\n", "row 4: the id '001' occurs twice"),
        ("id,fold\n000,0\n001,one\n", "row 3: fold 'one' is not an integer"),
        ("id,fold\n000,0\n001,-2\n", "row 3: fold '-2' is not an integer"),
        ("id,folds\n000,0\n001,1\n", "has no column 'fold'. Did you mean 'folds'?"),
    ],
)
def test_a_file_of_folds_that_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "folds.csv").write_text(text)
    with pytest.raises(ProjectError) as caught:
        read_folds(tmp_path / "folds.csv", make_manifest(["ok", "ok"]))
    assert message in str(caught.value)


def test_the_hash_follows_the_folds() -> None:
    manifest = make_manifest(["ok"] * 9)
    folds = draw(manifest, 3)
    assert fold_hash(manifest, folds) == fold_hash(manifest, folds.iloc[::-1])
    assert fold_hash(manifest, folds) != fold_hash(manifest, (folds + 1) % 3)
    assert len(fold_hash(manifest, folds)) == 64


# detection ---------------------------------------------------------------------------------------------------


def objects_manifest(images: list[list[int] | None], groups: list[str | None] | None = None) -> pd.DataFrame:
    """A detection manifest whose images have these labels; None: unknown."""
    manifest = make_manifest([None] * len(images), groups)
    classes = 1 + max((label for labels in images if labels for label in labels), default=0)
    rows = [*images, *[None] * (len(manifest) - len(images))]
    counts = [None if row is None else np.bincount(np.array(row, np.int64), minlength=classes) for row in rows]
    tags = [None if row is None else np.unique(np.array(row, np.int64)) for row in rows]
    return manifest.assign(counts=pd.Series(counts, dtype=object), tags=pd.Series(tags, dtype=object))


def shares(manifest: pd.DataFrame, folds: pd.Series, chosen: list[bool]) -> list[int]:
    """How many of the chosen training images are in each fold."""
    return folds[np.array(chosen)].value_counts().reindex(range(folds.max() + 1), fill_value=0).tolist()


def test_rare_classes_full_and_empty_images_are_in_every_fold() -> None:
    images = [[0]] * 40 + [[0] * 9] * 20 + [[0, 0, 1]] * 8 + [[]] * 12
    order = np.random.default_rng(0).permutation(len(images))
    images = [images[row] for row in order]
    for one_class in (True, False):  # detection has no normal images: it says nothing
        manifest = objects_manifest(images)
        folds = draw(manifest, 4, one_class=one_class)
        assert shares(manifest, folds, [1 in labels for labels in images]) == [2] * 4
        assert shares(manifest, folds, [not labels for labels in images]) == [3] * 4
        assert shares(manifest, folds, [len(labels) == 9 for labels in images]) == [5] * 4
        held = draw(manifest, 1, holdout=0.25, one_class=one_class)
        assert (held == 0).sum() == 20
        for chosen, number in (([1 in r for r in images], 2), ([not r for r in images], 3)):
            assert (held[np.array(chosen)] == 0).sum() == number


def test_a_class_in_two_images_is_in_two_folds() -> None:
    images = [[0]] * 30 + [[0, 0, 0, 1], [0, 1]]
    manifest = objects_manifest(images)
    for seed in range(5):
        assert sorted(shares(manifest, draw(manifest, 2, seed=seed), [1 in labels for labels in images])) == [1, 1]


def test_groups_and_unknown_images_of_detection() -> None:
    images = [[0], [0, 1], None, []] * 10
    groups = [f"scene {row // 2}" for row in range(40)]
    manifest = objects_manifest(images, groups)
    for folds in (draw(manifest, 5), draw(manifest, 1)):
        assert (folds.groupby(manifest.loc[folds.index, "group"]).nunique() == 1).all()
    assert set(draw(manifest, 5)) == set(range(5))
    with pytest.raises(ProjectError, match="folds=5 needs at least 5 training images, and there are 3"):
        draw(objects_manifest([[0], [1], []]), 5)
