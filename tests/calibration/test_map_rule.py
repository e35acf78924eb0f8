"""Map rules: smoothing and scores by hand, what tuning finds, and that noise names no rule."""

import numpy as np
import pandas as pd
import pytest
import torch

from src.calibration.map_rule import MapRule, default_candidates, smooth, tune_map_rule
from src.errors import ProjectError
from src.models.anomaly.maps import GaussianBlur

SIDE = 64


def made_up(n: int, *, defects: int, bump: float, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Maps of white noise, the first ones with a faint wide bump; the model's score is the highest pixel."""
    generator = np.random.default_rng(seed)
    maps = generator.normal(size=(n, SIDE, SIDE)).astype(np.float32)
    labels = (np.arange(n) < defects).astype(np.int64)
    for row in range(defects):
        top, left = generator.integers(4, SIDE - 20, 2)
        maps[row, top : top + 16, left : left + 16] += bump
    return list(maps), maps.max(axis=(1, 2)).astype(np.float64), labels


@pytest.mark.parametrize("sigma", [0.5, 2.0, 4.0])
def test_smoothing_is_the_networks_own(sigma: float) -> None:
    plane = np.random.default_rng(0).random((41, 60)).astype(np.float16)
    expected = GaussianBlur(sigma)(torch.tensor(plane.astype(np.float32))[None, None])[0, 0].numpy()
    np.testing.assert_allclose(MapRule(sigma).map(plane), expected, atol=1e-5)


def test_smoothing_takes_maps_of_any_size_and_keeps_its_input() -> None:
    plane = np.zeros((3, 5), dtype=np.float32)
    plane[1, 2] = 1
    before = plane.copy()
    assert smooth(plane, 6.0).shape == (3, 5) and np.array_equal(plane, before)
    assert smooth(np.ones((1, 1)), 2.0) == pytest.approx(1.0)
    assert np.array_equal(smooth(plane, 0.0), before)


def test_scores_by_hand() -> None:
    plane = np.arange(200, dtype=np.float16).reshape(10, 20)
    assert MapRule().score_of(plane, -3.5) == -3.5
    assert MapRule(0, "max").score_of(plane, 0) == 199
    assert MapRule(0, "top", 0.02).score_of(plane, 0) == np.mean([199, 198, 197, 196])
    assert MapRule(0, "top", 0.001).score_of(plane, 0) == 199, "a share holds at least one pixel"
    assert MapRule(0, "top", 1.0).score_of(plane, 0) == pytest.approx(99.5)
    rule = MapRule(3, "top", 0.1)
    smoothed, score = rule.apply(plane, 0)
    np.testing.assert_array_equal(smoothed, rule.map(plane))
    assert score == rule.score_of(plane, 0) == pytest.approx(np.sort(smoothed.ravel())[-20:].mean())
    assert MapRule(3).apply(plane, 7.0)[1] == 7.0


def test_the_width_follows_the_size_of_the_map() -> None:
    assert {rule.sigma for rule in default_candidates((256, 320))} == {0, 2, 4, 8}
    assert {rule.sigma for rule in default_candidates((128, 128))} == {0, 1, 2, 4}


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "f1_max", "f1", "balanced_accuracy", "recall"])
def test_finds_what_shows_faint_wide_defects(metric: str) -> None:
    maps, model, labels = made_up(90, defects=25, bump=0.6)
    rule = tune_map_rule(maps, model, labels, metric)
    assert rule is not None and (rule.sigma > 0 or rule.share is not None)
    assert rule.metric == ("f1" if metric == "recall" else metric)
    assert rule.cross_validated > rule.plain + 0.1
    fresh, scores, truth = made_up(90, defects=25, bump=0.6, seed=1)
    ruled = np.array([rule.score_of(plane, score) for plane, score in zip(fresh, scores, strict=True)])
    low, high = ruled[truth == 0], ruled[truth == 1]
    assert (high[:, None] > low).mean() > (scores[truth == 1][:, None] > scores[truth == 0]).mean() + 0.1


def test_noise_names_no_rule() -> None:
    """Labels that the maps know nothing of, and a model whose score knows them a little."""
    accepted = 0
    for seed in range(12):
        maps, _, labels = made_up(60, defects=20, bump=0.0, seed=seed)
        model = labels * 1.0 + np.random.default_rng(100 + seed).normal(size=60)
        accepted += tune_map_rule(maps, model, labels, "auroc", seed=seed) is not None
    assert accepted == 0


def test_an_equal_rule_does_not_replace_the_model() -> None:
    maps, model, labels = made_up(40, defects=15, bump=5.0)
    assert tune_map_rule(maps, model, labels, "auroc") is None


def test_each_map_is_read_once_and_the_result_is_one_of_the_seed() -> None:
    maps, model, labels = made_up(60, defects=20, bump=0.6)
    read: list[int] = []

    def lazy(row: int) -> np.ndarray:
        read.append(row)
        return maps[row]

    first = tune_map_rule(lazy, model, labels, "auroc", seed=3)
    assert read == list(range(60))
    again = tune_map_rule(maps, model, labels, "auroc", seed=3)
    assert first is not None and first.to_dict() == again.to_dict()
    own = [MapRule(1.0, "max")]
    assert tune_map_rule(maps, model, labels, "auroc", candidates=own) == own[0]


def test_rows_without_label_or_map_do_not_take_part() -> None:
    maps, model, labels = made_up(60, defects=20, bump=0.6)
    whole = tune_map_rule(maps, model, labels, "auroc")
    broken = np.full((SIDE, SIDE), 1e6, dtype=np.float32)
    more_labels = pd.Series([*labels, None, pd.NA, float("nan"), 0], dtype=object)
    more = tune_map_rule([*maps, broken, broken, broken, None], np.append(model, [9.0] * 4), more_labels, "auroc")
    assert more.to_dict() == whole.to_dict()


def test_no_rule_where_nothing_can_be_told() -> None:
    maps, model, labels = made_up(40, defects=20, bump=0.6)
    assert tune_map_rule(maps, model, np.zeros(40, int), "f1") is None
    assert tune_map_rule(maps[16:], model[16:], labels[16:], "f1") is None, "four defects"
    assert tune_map_rule(maps, model, labels, "pixel_auroc") is None
    assert tune_map_rule([None] * 40, model, labels, "auroc") is None
    with pytest.raises(ProjectError, match="40 scores but 39 labels"):
        tune_map_rule(maps, model, labels[:39], "auroc")


def test_round_trip() -> None:
    rule = MapRule(2.0, "top", 0.01, "f1", 0.9, 0.8)
    back = MapRule.from_dict(rule.to_dict())
    assert back == rule and back.to_dict() == rule.to_dict()
    assert MapRule.from_dict({"sigma": 4, "score": "max"}) == MapRule(4, "max")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sigma": -1}, "sigma must be a number of pixels from 0"),
        ({"sigma": float("nan")}, "sigma must be"),
        ({"score": "maxx"}, "score='maxx' is not known. Did you mean 'max'"),
        ({"score": "top"}, "score=top needs share"),
        ({"score": "top", "share": 2}, "score=top needs share"),
        ({"score": "max", "share": 0.1}, "share=0.1 belongs to score=top"),
        ({"sgima": 1}, "sgima is not known. Did you mean 'sigma'"),
    ],
)
def test_wrong_rules(values: dict, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        MapRule.from_dict(values)
