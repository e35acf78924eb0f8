"""Bootstrap intervals: they hold the value, follow the seed, shrink with data, and equal a plain loop's."""

import numpy as np
import pytest

from src.errors import ProjectError
from src.metrics import anomaly
from src.metrics.bootstrap import bootstrap_interval
from src.metrics.ranking import UndefinedMetric


def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(n)
    labels = (np.arange(n) % 3 == 0).astype(int)
    return np.round(random.normal(labels, 1.0), 2), labels


@pytest.mark.parametrize("name", ["auroc", "average_precision", "f1_max", "f1", "macro_f1", "accuracy"])
def test_holds_the_value_and_follows_the_seed(name: str) -> None:
    scores, labels = drawn(300)
    decided = scores >= 0.5
    value = {
        "auroc": anomaly.auroc(scores, labels),
        "average_precision": anomaly.average_precision(scores, labels),
        "f1_max": anomaly.f1_max(scores, labels),
        "f1": anomaly.f1(decided, labels),
        "macro_f1": anomaly.macro_f1(decided, labels),
        "accuracy": anomaly.accuracy(decided, labels),
    }[name]
    low, high = bootstrap_interval(name, scores, labels, threshold=0.5, seed=1)
    assert low < value < high and high - low < 0.25
    assert (low, high) == bootstrap_interval(name, scores, labels, threshold=0.5, seed=1)
    assert (low, high) != bootstrap_interval(name, scores, labels, threshold=0.5, seed=2)


def test_equal_to_a_plain_loop() -> None:
    scores, labels = drawn(120)
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    random = np.random.default_rng(0)
    values = []
    for _ in range(2000):
        parts = random.choice(normal, len(normal)), random.choice(anomalous, len(anomalous))
        values.append(anomaly.auroc(np.concatenate(parts), np.repeat([0, 1], [len(normal), len(anomalous)])))
    expected = np.quantile(values, [0.025, 0.975])
    assert bootstrap_interval("auroc", scores, labels, n=4000) == pytest.approx(expected, abs=0.008)


def test_shrinks_with_data() -> None:
    narrow = np.subtract(*bootstrap_interval("auroc", *drawn(3000))[::-1])
    wide = np.subtract(*bootstrap_interval("auroc", *drawn(120))[::-1])
    assert narrow < wide / 3


def test_refusals() -> None:
    scores, labels = drawn(30)
    with pytest.raises(UndefinedMetric, match="auroc"):
        bootstrap_interval("auroc", scores, np.zeros(30))
    with pytest.raises(ProjectError, match="threshold"):
        bootstrap_interval("f1", scores, labels)
    with pytest.raises(ProjectError, match="pixels"):
        bootstrap_interval("aupro", scores, labels)
