"""Blending: ranks with ties, weights, references that keep a threshold's meaning, and refusals that name rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.calibration.scales import METHODS
from src.calibration.threshold import tune_on_oof
from src.ensemble import average_folds, blend_anomaly, reference_rank
from src.errors import ProjectError
from src.metrics.anomaly import auroc
from src.predictions import read_map, write_map, write_predictions


def table(scores: Any, ids: Any = None, fold: int = -1, run: str | None = None, **columns: Any) -> pd.DataFrame:
    ids = [f"{i:03d}" for i in range(len(scores))] if ids is None else ids
    empty = {"probs": [None] * len(ids), "map": [None] * len(ids)}
    lists = {name: pd.Series(values, dtype=object) for name, values in {**empty, **columns}.items()}
    made = pd.DataFrame({"id": pd.Series(list(ids), dtype=object), "fold": fold, "score": np.float64(scores), **lists})
    made.attrs["metadata"] = {"run": run}
    return made


def test_ranks_share_ties() -> None:
    blended = blend_anomaly([table([10, 30, 30, 99])])
    assert blended["score"].tolist() == [0.125, 0.5, 0.5, 0.875]
    assert blended["map"].tolist() == [None] * 4 and blended["fold"].tolist() == [-1] * 4


def test_rank_blend_with_weights_and_other_row_order() -> None:
    first, second = table([1, 2, 3], ["007", "b", "c"]), table([0.9, 0.1, 0.5], ["c", "007", "b"])
    assert blend_anomaly([first, second])["score"].tolist() == pytest.approx([1 / 6, 3 / 6, 5 / 6])
    opposite = table([3, 2, 1], ["007", "b", "c"])
    blended = blend_anomaly([first, opposite], weights=[3, 1])
    assert blended["id"].tolist() == ["007", "b", "c"]
    assert blended["score"].tolist() == pytest.approx([(3 * 1 + 5) / 24, 0.5, (3 * 5 + 1) / 24])
    assert blend_anomaly([first, opposite], method="mean", weights=[3, 1])["score"].tolist() == [1.5, 2.0, 2.5]


def test_result_fits_the_store(tmp_path: Path) -> None:
    write_predictions(tmp_path / "test.parquet", blend_anomaly([table([1, 2]), table([5, 4])]), "anomaly")


def named(frame: pd.DataFrame, *classes: str) -> pd.DataFrame:
    frame.attrs["metadata"]["class_names"] = list(classes)
    return frame


def test_probs_are_averaged_over_the_runs_that_have_them() -> None:
    first, second = table([1, 2], probs=[[1.0, 0.0], [0.5, 0.5]]), table([1, 2], probs=[[0.0, 1.0], None])
    assert blend_anomaly([first, second], weights=[1, 3])["probs"].tolist() == [[0.25, 0.75], [0.5, 0.5]]
    without = table([2, 1])
    blended = blend_anomaly([without, named(first, "good", "crack")], weights=[9, 1])
    assert blended["probs"].tolist() == [[1.0, 0.0], [0.5, 0.5]] and blended["score"][0] > blended["score"][1]
    assert blended.attrs["metadata"]["class_names"] == ["good", "crack"]
    assert blend_anomaly([without, first], weights=[1, 0])["probs"].tolist() == [None, None]
    assert blend_anomaly([without])["probs"].tolist() == [None, None]


def test_probs_pair_up_by_the_name_of_their_class() -> None:
    first = named(table([1, 2, 3], ["a", "b", "c"], probs=[[0.7, 0.2, 0.1]] * 3), "good", "crack", "blob")
    second = named(table([1, 2, 3], ["c", "a", "b"], probs=[[0.0, 1.0, 0.0]] * 3), "blob", "good", "crack")
    blended = blend_anomaly([first, second])
    assert blended.attrs["metadata"]["class_names"] == ["good", "crack", "blob"]
    np.testing.assert_allclose(blended["probs"].tolist(), [[0.85, 0.1, 0.05]] * 3)


def test_runs_of_other_classes_are_refused_by_name() -> None:
    first = named(table([1, 2], run="cnn", probs=[[0.5, 0.5]] * 2), "good", "crack")
    second = named(table([1, 2], run="arcface", probs=[[0.5, 0.5]] * 2), "good", "blob")
    with pytest.raises(ProjectError, match="cnn and arcface predict other classes: only cnn has 'crack'; only arcface"):
        blend_anomaly([table([1, 2]), first, second])
    with pytest.raises(ProjectError, match="old does not say which classes"):
        blend_anomaly([first, table([1, 2], run="old", probs=[[0.5, 0.5]] * 2)])
    with pytest.raises(ProjectError, match="short has rows that are not of 2 probabilities"):
        blend_anomaly([first, named(table([1, 2], run="short", probs=[[1.0]] * 2), "good", "crack")])


def test_scales_of_normal_references() -> None:
    """Defects among the references move rank and mean, but not robust_z: its rows are the normal ones."""
    reference = table([0.0, 1.0, 2.0, 3.0, 4.0, 900.0], fold=0)
    normal = np.array([1, 1, 1, 1, 1, 0], bool)
    test = table([2.0, 5.0])
    blended = blend_anomaly([test], method="robust_z", reference=[reference], normal=[normal])["score"]
    assert blended.tolist() == pytest.approx([0.0, 3 / 1.482602218505602])
    tails = blend_anomaly([test], method="tail", reference=[reference], normal=[normal])["score"]
    assert tails[0] == pytest.approx(0.3, abs=0.15) and tails[1] > 0.7
    assert blend_anomaly([test], method="mean", reference=[reference])["score"][0] < 0


@pytest.mark.parametrize("method", METHODS)
def test_no_test_score_moves_another(method: Any) -> None:
    random = np.random.default_rng(4)
    oof = [table(random.normal(size=60) * s, fold=0) for s in (1, 30)]
    normal = [np.arange(60) < 50] * 2
    test = [table(random.normal(size=20) * s) for s in (1, 30)]
    more = [pd.concat([frame, table([1e4, -1e4], ["x", "y"])], ignore_index=True) for frame in test]
    few, many = (blend_anomaly(t, method=method, reference=oof, normal=normal)["score"] for t in (test, more))
    assert (few == many[:20]).all()


def test_reference_rank_keeps_every_order() -> None:
    random = np.random.default_rng(0)
    reference = np.round(random.normal(size=200), 1)
    scores = np.sort(np.concatenate([random.normal(size=500) * 5, [-1e6, 1e6], reference.max() + [1e-9, 1e-6]]))
    ranks = reference_rank(scores, reference)
    assert (np.diff(ranks) > 0).all() and ranks[0] > -1 and ranks[-1] < 2
    values, counts = np.unique(reference, return_counts=True)
    assert reference_rank(values, reference) == pytest.approx((np.cumsum(counts) - counts / 2) / 200)
    assert (np.diff(reference_rank(np.array([-1.0, 3.0, 4.0, 9.0]), np.full(5, 3.0))) > 0).all()


def test_a_reference_of_normals_does_not_tie_the_anomalies() -> None:
    """A plain distribution function would call every score above the normal ones 1.0."""
    random = np.random.default_rng(1)
    oof = [table(random.normal(size=50) * s, fold=0) for s in (1, 40)]
    labels = np.repeat([0, 1], 100)
    truth = random.normal(labels * 6.0, 1.0)
    test = [table((truth + random.normal(size=200) * 0.5) * s) for s in (1, 40)]
    blended = blend_anomaly(test, reference=oof)["score"]
    assert blended[labels == 1].nunique() == 100
    assert auroc(blended, labels) >= max(auroc(run["score"], labels) for run in test) - 1e-3
    assert np.corrcoef(blended.rank(), truth.argsort().argsort())[0, 1] > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_with_a_reference_a_threshold_carries_over(method: Any) -> None:
    random = np.random.default_rng(2)
    oof = [table(random.normal(size=300) * s + s, fold=0) for s in (1, 50)]
    labels = pd.Series(0, index=oof[0]["id"])
    blended = blend_anomaly(oof, method=method, reference=oof)
    threshold = tune_on_oof(blended, labels, "auroc", target_false_alarm=0.05).value
    for share in (0.0, 0.5):  # however many anomalies the test has, its normal rows keep their scores
        shift = (random.random(400) < share) * 8.0
        test = [table((random.normal(size=400) + shift) * s + s) for s in (1, 50)]
        called = blend_anomaly(test, method=method, reference=oof)["score"] >= threshold
        assert called[shift == 0].mean() < 0.1 and (share == 0.0 or called[shift > 0].mean() > 0.9)


def test_refusals() -> None:
    first, second = table([1, 2, 3], ["007", "b", "c"], run="padim"), table([1, 2, 3], ["7", "b", "c"], run="cfa")
    with pytest.raises(ProjectError, match=r"cfa lacks 1 rows of padim: '007'; padim lacks 1 rows of cfa: '7'"):
        blend_anomaly([first, second])
    with pytest.raises(ProjectError, match="id 'b' more than once"):
        blend_anomaly([table([1, 2], ["b", "b"])])
    with pytest.raises(ProjectError, match="2 runs but 1 weights"):
        blend_anomaly([first, first], weights=[1])
    with pytest.raises(ProjectError, match="not negative"):
        blend_anomaly([first, first], weights=[1, -1])
    with pytest.raises(ProjectError, match="nothing to blend"):
        blend_anomaly([])
    with pytest.raises(ProjectError, match="method 'max'"):
        blend_anomaly([first], method="max")  # type: ignore[arg-type]
    with pytest.raises(ProjectError, match="'robustz' is not known; choose .* Did you mean 'robust_z'"):
        blend_anomaly([first], method="robustz")  # type: ignore[arg-type]
    for method in ("robust_z", "tail"):
        with pytest.raises(ProjectError, match="needs the runs' out-of-fold scores"):
            blend_anomaly([first], method=method)  # type: ignore[arg-type]
    with pytest.raises(ProjectError, match="1 runs but 2 arrays of normal rows"):
        blend_anomaly([first], reference=[table([1, 2], fold=0)], normal=[[True, True]] * 2)
    with pytest.raises(ProjectError, match="reference of padim has test rows"):
        blend_anomaly([first], reference=[first])
    with pytest.raises(ProjectError, match="1 runs but 2 reference"):
        blend_anomaly([first], reference=[first, first])


def test_folds_average_scores_and_maps(tmp_path: Path) -> None:
    planes = [np.full((4, 4), value, np.float32) + np.eye(4, dtype=np.float32) for value in (1, 2, 3)]
    folds = [
        table([k, 10.0], map=[write_map(tmp_path, f"fold_{k}_0", planes[k]), None if k == 1 else "maps/x.npy"])
        for k in range(3)
    ]
    averaged = average_folds(folds, tmp_path)
    assert averaged["score"].tolist() == [1.0, 10.0] and averaged["map"].tolist() == ["maps/mean_000000.npy", None]
    np.testing.assert_allclose(read_map(tmp_path, averaged["map"][0]), np.mean(planes, axis=0), atol=2e-3)
    assert average_folds(folds[:1], tmp_path) is folds[0]
    folds[2].loc[0, "map"] = write_map(tmp_path, "small", planes[0][:2])
    with pytest.raises(ProjectError, match="'000' differ in size"):
        average_folds(folds, tmp_path)
