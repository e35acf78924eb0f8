"""Scales: library values, no order lost on and beyond the reference, guards, and categories on one scale."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation, zscore

from src.calibration.category_scales import CategoryScale, category_scale, tune_category_scale
from src.calibration.comparison import deal_folds, fixed_answers, held_out_answers, paired_gains
from src.calibration.scales import METHODS, Scale, fit_scale
from src.calibration.threshold import tune_threshold
from src.errors import ProjectError
from src.metrics.anomaly import auroc, f1
from src.metrics.ranking import UndefinedMetric


def test_library_values() -> None:
    random = np.random.default_rng(0)
    reference, scores = random.gamma(2.0, size=101), random.gamma(2.0, size=7)
    normal = np.arange(101) < 80
    np.testing.assert_allclose(fit_scale("mean", reference).apply(reference), zscore(reference))
    spread = median_abs_deviation(reference[normal], scale="normal")
    expected = (scores - np.median(reference[normal])) / spread
    np.testing.assert_allclose(fit_scale("robust_z", reference, normal=normal).apply(scores), expected)


def test_tail_is_the_order_of_magnitude_of_a_false_alarm() -> None:
    normal = np.random.default_rng(1).exponential(size=20_000)
    got = fit_scale("tail", normal).apply(np.log([2.0, 10.0, 100.0, 1000.0]))
    np.testing.assert_allclose(got, [np.log10(2), 1.0, 2.0, 3.0], atol=0.15)


def test_defects_among_the_references_do_not_move_the_scales_of_normals() -> None:
    random = np.random.default_rng(2)
    normal, scores = random.normal(size=200), random.normal(size=5)
    mixed, mask = np.append(normal, np.full(50, 40.0)), np.arange(250) < 200
    for method in ("robust_z", "tail"):
        clean = fit_scale(method, normal).apply(scores)
        np.testing.assert_allclose(fit_scale(method, mixed, normal=mask).apply(scores), clean)
    assert not np.allclose(fit_scale("robust_z", mixed).apply(scores), fit_scale("robust_z", normal).apply(scores))


steps = st.integers(-(10**5), 10**5)


@pytest.mark.parametrize("method", METHODS)
@given(reference=st.lists(steps, min_size=1, max_size=40), scores=st.sets(steps, min_size=2, max_size=40))
@settings(deadline=None, max_examples=60)
def test_no_order_is_lost(method: str, reference: list[int], scores: set[int]) -> None:
    reference = reference * 5 if method == "tail" else reference  # a tail takes five scores at least
    scale = fit_scale(method, np.array(reference) / 64)
    rising = np.array(sorted(scores)) / 64
    placed = scale.apply(rising)
    assert np.isfinite(placed).all() and (np.diff(placed) > 0).all()
    again = Scale.from_dict(json.loads(json.dumps(scale.to_dict())))
    assert (again.apply(rising) == placed).all()
    assert (scale.apply(rising[::-1])[::-1] == placed).all()  # a score's place is its own, whatever the others


def test_ranks_far_from_a_reference_of_zeros_keep_their_order() -> None:
    placed = fit_scale("rank", np.zeros(1)).apply(np.array([-92235.0, -92234.0, 0.0, 92234.0, 92235.0]) / 64)
    assert (np.diff(placed) > 0).all()


@pytest.mark.parametrize(
    ("reference", "spread"),
    [
        ([3.0, 3.0, 3.0, 3.0, 8.0], 1.2533141373155001),  # MAD 0: mean absolute deviation 1
        ([3.0, 3.0, 3.0], 3.0),  # nothing varies: the size of the scores
        ([0.0, 0.0], 1.0),
        ([0.1] * 10, 0.1),  # whose standard deviation is rounding noise
    ],
)
def test_a_spread_is_never_zero(reference: list[float], spread: float) -> None:
    assert fit_scale("robust_z", reference).spread == pytest.approx(spread)
    assert fit_scale("mean", reference).spread > 1e-3


def test_constant_normals_lean_on_all_references() -> None:
    assert fit_scale("robust_z", [1.0, 1.0, 5.0], normal=[1, 1, 0]).spread == pytest.approx(np.std([1, 1, 5]))


def test_refusals() -> None:
    with pytest.raises(
        ProjectError, match=r"'rankk' is not known; choose rank, mean, robust_z, tail. Did you mean 'rank'"
    ):
        fit_scale("rankk", [1.0])
    with pytest.raises(ProjectError, match="index 1 is nan"):
        fit_scale("rank", [1.0, np.nan])
    with pytest.raises(ProjectError, match="none of the 2 reference rows is known to be normal"):
        fit_scale("tail", [1.0, 2.0], normal=[0, 0])
    with pytest.raises(ProjectError, match="2 reference scores but 3 marks"):
        fit_scale("robust_z", [1.0, 2.0], normal=[1, 1, 0])
    with pytest.raises(ProjectError, match="spread above 0"):
        Scale("mean", 0.0, 0.0)
    with pytest.raises(ProjectError, match="cannot be read"):
        Scale.from_dict({"method": "mean"})


def two_categories(counts: tuple[int, int], shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    names = np.repeat(np.array(["a", "b"], object), counts)
    return random.normal(size=len(names)) + shift * (names == "b"), names


def test_categories_that_differ_keep_their_own_centre_and_ones_that_do_not_share_it() -> None:
    scores, names = two_categories((200, 200), 9.0)
    apart = category_scale("robust_z", scores, names)
    for name in "ab":
        assert apart.centres[name] == pytest.approx(np.median(scores[names == name]), abs=0.01)
        own = median_abs_deviation(scores[names == name], scale="normal")
        assert apart.spreads[name] == pytest.approx(own, rel=0.02)
    placed = apart.apply(scores, names)
    assert np.median(placed[names == "a"]) == pytest.approx(np.median(placed[names == "b"]), abs=0.05)


def test_shrunk_centres_are_nearer_to_the_truth_than_medians_where_categories_are_alike() -> None:
    random = np.random.default_rng(7)
    names = np.repeat([f"c{k}" for k in range(8)], 4)
    shrunk, raw = [], []
    for _ in range(30):
        scores = random.normal(size=32)
        shrunk += category_scale("robust_z", scores, names).centres.values()
        raw += np.median(scores.reshape(8, 4), axis=1).tolist()
    assert np.mean(np.square(shrunk)) < 0.6 * np.mean(np.square(raw))


def test_shrinkage_by_hand() -> None:
    """Two categories, equal spreads and counts, so the moment estimate can be worked out on paper."""
    base = np.array([-1.0, 0.0, 1.0])
    scores, names = np.concatenate([base, base + 6]), np.repeat(["a", "b"], 3)
    scale = category_scale("robust_z", scores, names)
    spread = 1.482602218505602  # every median absolute deviation is 1, the pooled one too
    assert scale.spreads == {"a": pytest.approx(spread), "b": pytest.approx(spread)}
    error = np.pi / 2 * spread**2 / 3
    between = 18 - error  # the medians 0 and 6 have variance 18
    kept = between / (between + error)
    assert scale.centres == {"a": pytest.approx(3 - 3 * kept), "b": pytest.approx(3 + 3 * kept)}


def test_unknown_categories_get_the_shared_scale() -> None:
    scores, names = two_categories((50, 50), 5.0)
    names[:5] = None
    normal = np.arange(100) % 7 != 0
    scale = category_scale("tail", scores, names, normal)
    shared = fit_scale("tail", scores, normal=normal).apply([0.0, 3.0])
    assert scale.apply([0.0, 3.0], ["c", None]).tolist() == shared.tolist()
    assert scale.apply([0.0, 3.0], ["a", np.nan])[1] == shared[1]
    assert category_scale("mean", scores, [None] * 100).apply(scores, [None] * 100) == pytest.approx(zscore(scores))


@pytest.mark.parametrize("method", METHODS)
def test_a_category_keeps_its_order_and_a_record_its_scale(method: str) -> None:
    scores, names = two_categories((30, 4), 2.0)
    scale = category_scale(method, scores, names)
    rising = np.linspace(-9, 20, 59)
    for name in ("a", "b", None):
        assert (np.diff(scale.apply(rising, [name] * 59)) > 0).all()
    again = CategoryScale.from_dict(json.loads(json.dumps(scale.to_dict())))
    assert again == scale and (again.apply(scores, names) == scale.apply(scores, names)).all()
    with pytest.raises(ProjectError, match="cannot be read"):
        CategoryScale.from_dict({"method": method})


def tables(shift: float, seed: int = 0) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    random = np.random.default_rng(seed)
    ids = [f"{i:03d}" for i in range(300)]
    anomalous, second = random.random(300) < 0.3, random.random(300) < 0.5
    score = random.normal(size=300) + 2.0 * anomalous + shift * second
    oof = pd.DataFrame({"id": ids, "fold": 0, "score": score})
    labels = pd.Series(anomalous.astype(int), index=ids, dtype="Int64")
    return oof, labels, pd.Series(np.where(second, "cable", "bottle"), index=ids)


@pytest.mark.parametrize("metric", ["auroc", "f1", "pixel_auroc"])
def test_a_scale_by_category_is_taken_where_it_helps(metric: str) -> None:
    oof, labels, categories = tables(shift=4.0)
    scale = tune_category_scale(oof, labels, categories, metric)
    assert scale is not None and scale.value > scale.plain + 0.05 and scale.metric in ("auroc", "f1")
    if scale.metric == "auroc":
        assert scale.plain == pytest.approx(auroc(oof["score"], labels))
        assert auroc(scale.apply(oof["score"], categories), labels) == pytest.approx(scale.value, abs=0.02)


def test_a_scale_by_category_is_left_where_it_does_not_help() -> None:
    taken = [tune_category_scale(*tables(0.0, seed), "auroc") is not None for seed in range(10)]
    assert sum(taken) <= 2
    oof, labels, categories = tables(4.0)
    assert tune_category_scale(oof, labels, pd.Series("bottle", index=categories.index), "auroc") is None
    assert tune_category_scale(oof, labels * 0, categories, "auroc") is None
    assert tune_category_scale(oof, labels.mask(labels >= 0), categories, "auroc") is None
    with pytest.raises(ProjectError, match="out-of-fold rows only"):
        tune_category_scale(oof.assign(fold=-1), labels, categories, "auroc")


def test_folds_are_even_over_strata() -> None:
    strata = np.repeat(["a", "b", "c"], [20, 7, 1])
    folds = deal_folds(strata, seed=3)
    assert folds.shape == (3, 28) and not (folds[0] == folds[1]).all()
    for split in folds:
        for name in "abc":
            counts = np.bincount(split[strata == name], minlength=5)
            assert counts.max() - counts.min() <= 1
    assert (deal_folds(strata, seed=3) == folds).all()


def test_held_out_decisions_never_see_their_own_fold() -> None:
    random = np.random.default_rng(5)
    labels = random.random(80) < 0.4
    scores = random.normal(size=80) + labels
    folds = deal_folds(labels, repeats=1)
    answers = fixed_answers(scores, labels, "f1", folds)[0]
    for fold in range(5):
        held = folds[0] == fold
        threshold = tune_threshold(scores[~held], labels[~held], "f1").value
        assert (answers[held] == (scores[held] >= threshold)).all()
    assert fixed_answers(scores, labels, "auroc", folds).tolist() == [scores.tolist()]
    flipped = np.where(folds[0] == 2, ~labels, labels)  # what fold 2's truth is does not matter to its answers
    assert (held_out_answers(lambda t: scores, flipped, "f1", folds)[0][folds[0] == 2] == answers[folds[0] == 2]).all()
    with pytest.raises(UndefinedMetric):
        fixed_answers(scores, np.arange(80) == 0, "f1", folds)


@pytest.mark.parametrize("metric", ["auroc", "f1"])
def test_paired_gains_match_metrics_of_drawn_rows(metric: str) -> None:
    """The kernels on counts of draws give what the metric gives on the repeated rows."""
    from src.calibration.comparison import _draws, _resampled

    random = np.random.default_rng(6)
    truth = random.random(50) < 0.4
    answers: Any = np.round(random.normal(size=50) + truth, 1)
    answers = answers >= 0.5 if metric == "f1" else answers
    draws = _draws(truth, 20, np.random.default_rng(0))
    assert (draws[:, truth].sum(axis=1) == truth.sum()).all() and (draws.sum(axis=1) == 50).all()
    function = {"auroc": auroc, "f1": f1}[metric]
    expected = [function(np.repeat(answers, row), np.repeat(truth, row)) for row in draws]
    np.testing.assert_allclose(_resampled(metric, answers, truth, draws), expected)
    assert (paired_gains(metric, answers[None], answers[None], truth) == 0).all()
