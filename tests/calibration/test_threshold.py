"""Thresholds: the exact optimum, ties, the finite-sample quantile, and no way in for test rows."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from src.calibration.threshold import Threshold, normal_quantile, tune_on_oof, tune_threshold
from src.errors import ProjectError
from src.metrics.registry import METRICS

TUNED = ["f1", "macro_f1", "accuracy", "balanced_accuracy"]


@pytest.mark.parametrize("metric", TUNED)
@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_is_better(metric: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 60))
    labels = np.concatenate([[0, 1], random.random(n) < 0.3]).astype(int)
    scores = np.round(random.normal(labels, 1.0), 1 if seed % 2 else 6)
    found = tune_threshold(scores, labels, metric)
    values = np.unique(scores)
    candidates = [values[0] - 1, *(values[:-1] + np.diff(values) / 2), values[-1] + 1]
    best = max(METRICS[metric].function((scores >= t).astype(int), labels) for t in candidates)
    reached = METRICS[metric].function((scores >= found.value).astype(int), labels)
    assert reached == pytest.approx(best, abs=1e-12) and found.score == pytest.approx(best, abs=1e-12)
    assert (found.source, found.metric) == ("oof", metric)
    assert (found.n_normal, found.n_anomalous) == ((labels == 0).sum(), (labels == 1).sum())


def test_stands_in_the_middle_of_the_widest_equal_gap() -> None:
    assert tune_threshold([1, 2, 8, 9], [0, 0, 1, 1], "f1").value == 5.0
    # accuracy is 3/4 below 1, between 2 and 3, and between 3 and 10: the last gap is widest
    found = tune_threshold([1, 2, 3, 10], [0, 1, 0, 1], "accuracy")
    assert found.value == 6.5 and found.score == 0.75


def test_ties_are_decided_together() -> None:
    found = tune_threshold([5, 5, 5, 5], [0, 1, 1, 1], "accuracy")
    assert found.value < 5 and found.score == 0.75
    assert tune_threshold([5, 5, 5, 5], [0, 0, 0, 1], "accuracy").value > 5
    close = np.float64(1.0), np.nextafter(1.0, 2.0)
    assert close[0] < tune_threshold(close, [0, 1], "f1").value <= close[1]


@pytest.mark.parametrize("metric", ["auroc", "ap", "precision", "recall", "pixel_auroc"])
def test_metrics_without_a_threshold_tune_f1(metric: str) -> None:
    assert tune_threshold([1, 2, 3, 4], [0, 0, 1, 1], metric).metric == "f1"


@pytest.mark.parametrize(("n", "alpha"), [(99, 0.01), (199, 0.05), (60, 0.1), (1000, 0.02)])
def test_quantile_is_the_conformal_order_statistic(n: int, alpha: float) -> None:
    scores = np.random.default_rng(n).permutation(n).astype(float)
    found = tune_threshold(scores, np.zeros(n), "auroc", target_false_alarm=alpha)
    k = int(np.ceil(round((n + 1) * (1 - alpha), 9)))
    assert np.sum(scores < found.value) == k
    assert found.source == "normal_quantile" and found.score is None and found.n_anomalous == 0
    assert found.false_alarm_bound == pytest.approx(1 - k / (n + 1)) and found.false_alarm_bound <= alpha + 1e-12


def test_quantile_keeps_its_promise_on_new_images() -> None:
    random = np.random.default_rng(0)
    alarms = [
        np.mean(
            random.gamma(2.0, size=200) >= normal_quantile(random.gamma(2.0, size=40), target_false_alarm=0.05).value
        )
        for _ in range(300)
    ]
    assert 0.025 < np.mean(alarms) <= 0.052


def test_few_normals_say_what_they_can_vouch_for() -> None:
    found = normal_quantile([1.0, 2.0, 4.0], target_false_alarm=0.01)
    assert found.value == 5.0 and found.false_alarm_bound == 0.25
    assert normal_quantile([3.0]).value > 3.0 and normal_quantile([0.0, 0.0]).value > 0.0


@pytest.mark.parametrize("family", [stats.norm(), stats.expon(), stats.gamma(4), stats.t(4)])
@pytest.mark.parametrize("n", [20, 40, 80])
def test_a_tail_brings_few_normals_nearer_to_the_target(family: Any, n: int) -> None:
    random = np.random.default_rng(n)
    samples = [family.rvs(n, random_state=random) for _ in range(200)]
    found = [normal_quantile(x, target_false_alarm=0.01) for x in samples]
    rate = np.mean([family.sf(t.value) for t in found])
    above_all = np.mean([family.sf(x.max() + (x.max() - np.sort(x)[-2]) / 2) for x in samples])
    assert 0.004 < rate < above_all and rate < {20: 0.027, 40: 0.019, 80: 0.013}[n]
    assert {t.method for t in found} == {"tail", "order_statistic"}
    assert all(t.value > x.max() for t, x in zip(found, samples, strict=True))
    assert all(t.false_alarm_bound == pytest.approx(1 / (n + 1)) for t in found)
    true = family.isf(0.01)
    assert np.mean([t.interval[0] <= true <= t.interval[1] for t in found]) > 0.8


def test_where_order_statistics_reach_no_model_speaks() -> None:
    scores = np.sort(np.random.default_rng(5).normal(size=99))
    found = normal_quantile(scores, target_false_alarm=0.01)
    assert found.method == "order_statistic" and found.value == scores[-1] + (scores[-1] - scores[-2]) / 2
    assert found.interval[0] <= found.value <= found.interval[1]
    assert normal_quantile(scores[:9]).interval is None and normal_quantile(scores[:9]).method == "order_statistic"
    assert tune_threshold([1, 2], [0, 1], "f1").method is None


def test_refusals() -> None:
    with pytest.raises(ProjectError, match="all 2 held-out images are anomalous"):
        tune_threshold([1, 2], [1, 1], "f1")
    with pytest.raises(ProjectError, match="no scores"):
        tune_threshold([], [], "f1")
    with pytest.raises(ProjectError, match="nan"):
        tune_threshold([1, np.nan], [0, 1], "f1")
    with pytest.raises(ProjectError, match="target_false_alarm=1.5"):
        normal_quantile([1, 2], target_false_alarm=1.5)


def test_out_of_fold_table() -> None:
    oof = pd.DataFrame({"id": ["007", "7", "b", "c"], "fold": [0, 0, 1, 1], "score": [1.0, 2.0, 3.0, 100.0]})
    labels = pd.Series(pd.array([1, 0, 0, None], dtype="Int64"), index=["b", "7", "007", "c"])
    found = tune_on_oof(oof, labels, "f1")
    assert found.value == 2.5 and found.n_normal == 2 and found.n_anomalous == 1
    with pytest.raises(ProjectError, match="1 of 4 rows are of the test"):
        tune_on_oof(oof.assign(fold=[0, 0, 0, -1]), labels, "f1")
    with pytest.raises(ProjectError, match="none of the 4"):
        tune_on_oof(oof, pd.Series([1], index=["other"]), "f1")


def test_json_round_trip() -> None:
    quantiles = normal_quantile([1.0, 2.0]), normal_quantile(np.arange(20.0))
    for found in (tune_threshold([0.1, 0.30000000000000004], [0, 1], "f1"), *quantiles):
        assert Threshold.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    older = {k: v for k, v in found.to_dict().items() if k not in ("method", "interval")}
    assert Threshold.from_dict(older).interval is None and Threshold.from_dict(older).value == found.value
    with pytest.raises(ProjectError, match="recorded threshold"):
        Threshold.from_dict({"value": 1.0})
    with pytest.raises(ProjectError, match="finite"):
        Threshold(float("nan"), "oof", "f1", None, 1, 1)
