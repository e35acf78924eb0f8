"""Image metrics against scikit-learn, against values worked out by hand, and against bad input."""

import numpy as np
import pandas as pd
import pytest

from src.errors import ProjectError
from src.metrics import anomaly
from src.metrics.ranking import CONFUSION_KERNELS, UndefinedMetric
from src.metrics.registry import ALIASES, METRICS, get_metric


def drawn(seed: int, n: int, levels: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Scores (with many ties where `levels` is small) and labels of both classes."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], random.integers(0, 2, n - 2)])
    scores = random.normal(labels * 0.7, 1.0)
    return (scores if levels is None else np.round(scores * levels) / levels), labels


@pytest.mark.parametrize(("seed", "n", "levels"), [(0, 2, None), (1, 3, 1), (2, 50, 2), (3, 400, None), (4, 5000, 20)])
def test_equal_to_scikit_learn(seed: int, n: int, levels: int | None) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    scores, labels = drawn(seed, n, levels)
    assert anomaly.auroc(scores, labels) == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    ours, theirs = anomaly.average_precision(scores, labels), sk.average_precision_score(labels, scores)
    assert ours == pytest.approx(theirs, abs=1e-12)
    each = [sk.f1_score(labels, scores >= t) for t in np.unique(scores)]
    assert anomaly.f1_max(scores, labels) == pytest.approx(max(each), abs=1e-12)

    threshold = float(np.median(scores))
    decided = (scores >= threshold).astype(int)
    assert anomaly.f1_at(scores, labels, threshold) == pytest.approx(sk.f1_score(labels, decided), abs=1e-12)
    for name, theirs in {
        "f1": sk.f1_score(labels, decided),
        "precision": sk.precision_score(labels, decided, zero_division=0),
        "recall": sk.recall_score(labels, decided),
        "accuracy": sk.accuracy_score(labels, decided),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, decided),
        "macro_f1": sk.f1_score(labels, decided, average="macro"),
    }.items():
        assert METRICS[name].function(decided, labels) == pytest.approx(theirs, abs=1e-12), name


def test_values_by_hand() -> None:
    scores, labels = [0.1, 0.4, 0.4, 0.8, 0.9], [0, 0, 1, 1, 0]
    # pairs (anomalous, normal): 0.4 beats 0.1 and ties 0.4; 0.8 beats both and loses to 0.9: 1.5 + 2 of 6
    assert anomaly.auroc(scores, labels) == pytest.approx(3.5 / 6, abs=1e-15)
    # recall 1/2 at 0.8 with precision 1/2, then 1 at 0.4 with precision 2/4
    assert anomaly.average_precision(scores, labels) == pytest.approx(0.5, abs=1e-15)
    assert anomaly.best_f1(scores, labels) == (pytest.approx(2 / 3), 0.4)
    assert anomaly.auroc([3, 3, 3], [0, 1, 1]) == 0.5


def test_multiclass_text_labels_equal_scikit_learn() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(5)
    names = np.array(["타일-정상", "tile-crack", "bottle-good", "bottle-broken"])
    truth, answer = names[random.integers(0, 3, 200)], names[random.integers(0, 4, 200)]
    assert anomaly.macro_f1(answer, truth) == pytest.approx(sk.f1_score(truth, answer, average="macro"), abs=1e-12)
    assert anomaly.accuracy(pd.Series(answer), pd.Series(truth)) == sk.accuracy_score(truth, answer)
    # not sklearn's own here: it warns of a class that is predicted and never true
    recalls = [np.mean(answer[truth == name] == name) for name in np.unique(truth)]
    assert anomaly.balanced_accuracy(answer, truth) == pytest.approx(np.mean(recalls), abs=1e-12)


def test_scale_does_not_change_the_order() -> None:
    scores, labels = drawn(6, 300, None)
    assert anomaly.auroc(scores, labels) == anomaly.auroc(np.exp(scores), labels)
    assert anomaly.auroc(scores.astype(np.float32), labels) == pytest.approx(anomaly.auroc(scores, labels), abs=1e-3)
    assert anomaly.auroc(-scores, labels) == pytest.approx(1 - anomaly.auroc(scores, labels), abs=1e-12)


@pytest.mark.parametrize("name", ["auroc", "average_precision", "f1_max", "f1", "macro_f1", "balanced_accuracy"])
def test_one_class_is_undefined(name: str) -> None:
    with pytest.raises(UndefinedMetric, match=name):
        METRICS[name].function([0, 1, 1], [0, 0, 0])


def test_bad_input_names_the_place() -> None:
    with pytest.raises(ProjectError, match=r"index 1.*nan"):
        anomaly.auroc([0.1, np.nan, 0.3], [0, 1, 0])
    with pytest.raises(ProjectError, match=r"'part_9' \(index 2\) is inf"):
        anomaly.evaluate_anomaly([0.1, 0.2, np.inf], [0, 1, 0], ids=["a", "b", "part_9"])
    with pytest.raises(ProjectError, match=r"index 2 is 2"):
        anomaly.auroc([0.1, 0.2, 0.3], [0, 1, 2])
    with pytest.raises(ProjectError, match=r"index 0 is (<NA>|nan)"):
        anomaly.auroc([0.1, 0.2], pd.array([None, 1], dtype="Int64"))
    with pytest.raises(ProjectError, match="2 scores but 3 labels"):
        anomaly.auroc([0.1, 0.2], [0, 1, 1])
    with pytest.raises(UndefinedMetric, match="no scores"):
        anomaly.auroc([], [])


def test_panel_has_none_where_undefined() -> None:
    panel = anomaly.evaluate_anomaly([0.1, 0.9], [0, 0], threshold=0.5)
    assert panel["auroc"] is None and panel["f1"] is None and panel["macro_f1"] is None
    assert panel["accuracy"] == 0.5 and panel["n_normal"] == 2 and panel["n_anomalous"] == 0
    assert "f1" not in anomaly.evaluate_anomaly([0.1, 0.9], [0, 1])


def test_panel_counts_only_pixels_that_are_known() -> None:
    scores, labels = [0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]
    flat, hot, mask = np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((4, 4), np.uint8)
    hot[:2, :2], mask[:2, :2] = 1.0, 1
    panel = anomaly.evaluate_anomaly(
        scores, labels, maps=iter([flat, None, hot, hot + 5]), masks=[None, None, mask, None]
    )
    assert panel["pixel_auroc"] == 1.0 and panel["aupro"] == 1.0 and panel["pixel_f1"] == 1.0
    assert anomaly.evaluate_anomaly(scores, labels, maps=[flat] * 4)["pixel_auroc"] is None
    with pytest.raises(ProjectError, match="pair up"):
        anomaly.evaluate_anomaly(scores, labels, maps=[flat] * 3, masks=[None] * 3)


def test_registry() -> None:
    assert get_metric("ROC-AUC").name == "auroc" and get_metric("AP").name == "average_precision"
    assert set(ALIASES.values()) <= set(METRICS) and not set(ALIASES) & set(METRICS)
    assert all(metric.name == key and metric.summary for key, metric in METRICS.items())
    assert {metric.mode for metric in METRICS.values() if metric.task == "anomaly"} == {"max"}
    assert set(CONFUSION_KERNELS) == {name for name, metric in METRICS.items() if metric.needs == "label"}
    with pytest.raises(ProjectError, match="Did you mean 'macro_f1'"):
        get_metric("macrof1")
