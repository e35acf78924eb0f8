"""Promises: kept on new data, honest about few rows, quick, and readable."""

import json

import numpy as np
import pytest

from src.calibration.certainty import Certainty, promised_interval
from src.calibration.threshold import tune_threshold
from src.errors import ProjectError
from src.metrics.ranking import UndefinedMetric
from src.metrics.registry import METRICS


def draw(random: np.random.Generator, normal: int, anomalous: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat([0, 1], [normal, anomalous])
    return random.normal(apart * labels, 1 + 0.3 * labels), labels


@pytest.mark.parametrize("metric", ["f1", "macro_f1", "balanced_accuracy", "precision", "recall", "auroc", "f1_max"])
@pytest.mark.parametrize(("normal", "anomalous", "apart", "times"), [(30, 10, 3.5, 3), (80, 40, 1.5, 1)])
def test_new_data_keep_the_promise(metric: str, normal: int, anomalous: int, apart: float, times: int) -> None:
    random = np.random.default_rng(1)
    kept, widths = [], []
    for seed in range(60):
        scores, labels = draw(random, normal, anomalous, apart)
        found = promised_interval(
            scores, labels, metric, n=60, seed=seed, test_normal=times * normal, test_anomalous=times * anomalous
        )
        new, truth = draw(random, times * normal, times * anomalous, apart)
        value = METRICS[metric].value_at(new, truth, tune_threshold(scores, labels, metric).value)
        kept.append(found.low - 1e-9 <= value <= found.high + 1e-9)
        widths.append(found.high - found.low)
    assert np.mean(kept) >= 0.85 and np.mean(widths) < 0.55


def test_more_rows_and_larger_tests_narrow_the_promise() -> None:
    random = np.random.default_rng(0)
    few, many = draw(random, 40, 20, 2.0), draw(random, 400, 200, 2.0)
    for metric in ("f1", "auroc"):
        small, large = (promised_interval(*rows, metric, n=200) for rows in (few, many))
        wide = promised_interval(*many, metric, n=200, test_normal=20, test_anomalous=10)
        assert large.high - large.low < 0.6 * (small.high - small.low)
        assert large.high - large.low < 0.5 * (wide.high - wide.low)
        assert large.low < large.value < large.high
    assert (wide.test_normal, wide.test_anomalous, wide.n_normal, wide.n_anomalous) == (20, 10, 400, 200)


@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
def test_large_test_sets_scatter_as_their_rarer_class_does(metric: str) -> None:
    """Against real draws of 8,000 normal and 60 defective images: no more than the rows' own doubt is added."""
    random = np.random.default_rng(0)
    values = [METRICS[metric].function(*draw(random, 8000, 60, 1.5)) for _ in range(300)]
    low, high = np.quantile(values, [0.025, 0.975])
    promise = promised_interval(*draw(random, 4000, 2000, 1.5), metric, test_normal=8000, test_anomalous=60, n=200)
    assert promise.high - promise.low == pytest.approx(high - low, rel=0.25)


def test_perfect_order_of_few_rows_promises_no_perfection() -> None:
    scores, labels = np.r_[np.arange(20.0), 21.0 + np.arange(8)], np.repeat([0, 1], [20, 8])
    for metric in ("f1", "auroc", "average_precision"):
        found = promised_interval(scores, labels, metric, n=300)
        assert found.low < 0.97 and found.high == 1.0


def test_chance_scores_are_not_praised() -> None:
    random = np.random.default_rng(3)
    scores, labels = random.normal(size=60), np.repeat([0, 1], [30, 30])
    tuned = tune_threshold(scores, labels, "balanced_accuracy")
    found = promised_interval(scores, labels, "balanced_accuracy", n=300)
    assert tuned.score > 0.55 and found.value < tuned.score - 0.03 and found.low < 0.5


def test_thresholds_of_the_resamples_surround_the_tuned_one() -> None:
    scores, labels = draw(np.random.default_rng(5), 100, 50, 2.0)
    found = promised_interval(scores, labels, "f1", n=300)
    assert found.threshold_low < tune_threshold(scores, labels, "f1").value < found.threshold_high
    assert found.threshold_low > 0 and found.threshold_high < 3
    assert promised_interval(scores, labels, "auroc", n=20).threshold_low is None


def test_tied_scores_win_for_neither_class() -> None:
    scores, labels = np.zeros(60), np.repeat([0, 1], [30, 30])
    found = promised_interval(scores, labels, "auroc", n=500)
    assert found.value == pytest.approx(0.5, abs=0.03)


def test_two_of_a_class_are_enough_and_one_is_not() -> None:
    found = promised_interval([0, 1, 2, 3, 4], [0, 0, 0, 1, 1], "f1", n=50)
    assert 0 <= found.low < 0.6 and found.high <= 1
    with pytest.raises(UndefinedMetric, match="two held-out images of each class"):
        promised_interval([0, 1, 2], [0, 0, 1], "f1")
    with pytest.raises(UndefinedMetric, match="none of the 3 images is anomalous"):
        promised_interval([0, 1, 2], [0, 0, 0], "auroc")


def test_the_seed_decides() -> None:
    scores, labels = draw(np.random.default_rng(7), 40, 20, 2.0)
    for metric in ("accuracy", "average_precision"):
        first, again, other = (promised_interval(scores, labels, metric, n=50, seed=s) for s in (1, 1, 2))
        assert first == again != other


def test_refusals() -> None:
    rows = [0, 1, 2, 3], [0, 0, 1, 1]
    with pytest.raises(ProjectError, match="metric of pixels"):
        promised_interval(*rows, "pixel_f1")
    with pytest.raises(ProjectError, match="test_normal=0"):
        promised_interval(*rows, "f1", test_normal=0)
    with pytest.raises(ProjectError, match="level=1"):
        promised_interval(*rows, "f1", level=1)


def test_json_round_trip_in_plain_words() -> None:
    found = promised_interval(*draw(np.random.default_rng(0), 30, 12, 2.0), "f1", n=50, test_normal=1200)
    written = json.loads(json.dumps(found.to_dict()))
    assert Certainty.from_dict(written) == found
    assert "1,200 normal and 12 defective images f1 is expected at" in written["words"]
    assert "95% of cases" in written["words"] and "30 normal and 12 defective held-out" in written["words"]
    with pytest.raises(ProjectError, match="recorded certainty"):
        Certainty.from_dict({"metric": "f1"})
