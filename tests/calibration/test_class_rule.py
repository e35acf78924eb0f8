"""Class rules: decisions by hand, the best threshold against a search by brute force, and when a gate is taken."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.calibration.class_rule import ClassRule, _best_threshold, held_out_classes, tune_class_rule
from src.calibration.comparison import class_values, deal_folds
from src.errors import ProjectError
from src.metrics.anomaly import accuracy, balanced_accuracy, macro_f1

METRICS = {"macro_f1": macro_f1, "accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
CLASSES = ["tile-good", "tile-crack", "tile-blob", "wood-good", "wood-hole"]
NORMAL = np.array([1, 0, 0, 1, 0], bool)
PROBS = np.array([[0.5, 0.3, 0.1, 0.1, 0.0], [0.4, 0.05, 0.2, 0.05, 0.3], [0.1, 0.0, 0.0, 0.6, 0.3]])


def test_decisions_by_hand() -> None:
    assert ClassRule("argmax").decide(PROBS, [9, 9, 9], NORMAL).tolist() == [0, 0, 3]
    gated = ClassRule("gated", 1.0)
    assert gated.decide(PROBS, [0.9, 1.0, 0.0], NORMAL).tolist() == [0, 4, 3]
    assert gated.decide(PROBS, [2.0, 0.0, 2.0], NORMAL).tolist() == [1, 0, 4]
    assert gated.decide(PROBS[:0], [], NORMAL).tolist() == []


def test_an_image_gets_a_class_of_its_category() -> None:
    tile, wood = np.array([1, 1, 1, 0, 0], bool), np.array([0, 0, 0, 1, 1], bool)
    gated = ClassRule("gated", 1.0)
    assert ClassRule("argmax").decide(PROBS, [0, 0, 0], NORMAL, [wood, wood, tile]).tolist() == [3, 4, 0]
    assert gated.decide(PROBS, [2, 2, 0], NORMAL, [tile, tile, tile]).tolist() == [1, 2, 0]
    only_good = np.array([1, 0, 0, 0, 0], bool)
    only_bad = np.array([0, 1, 1, 0, 0], bool)
    assert gated.decide(PROBS, [2, 0, 2], NORMAL, [only_good, only_bad, only_good]).tolist() == [0, 2, 0]


def test_refusals() -> None:
    with pytest.raises(ProjectError, match="no class is allowed at index 1"):
        ClassRule("argmax").decide(PROBS[:2], [0, 0], NORMAL, [[1] * 5, [0] * 5])
    with pytest.raises(ProjectError, match="index 2 are not finite"):
        ClassRule("argmax").decide(np.vstack([PROBS[:2], [np.nan] * 5]), [0, 0, 0], NORMAL)
    with pytest.raises(ProjectError, match="expected a row an image of 5 classes"):
        ClassRule("argmax").decide(PROBS[:, :3], [0, 0, 0], NORMAL)
    with pytest.raises(ProjectError, match="3 rows of probabilities but 2 scores"):
        ClassRule("gated", 0.0).decide(PROBS, [0, 0], NORMAL)
    with pytest.raises(ProjectError, match="gated rule has a finite threshold"):
        ClassRule("gated")
    with pytest.raises(ProjectError, match="'argmax' or 'gated'"):
        ClassRule("best")  # type: ignore[arg-type]
    with pytest.raises(ProjectError, match="class at index 1 is 5; expected 0 to 4"):
        tune_class_rule(PROBS, [0, 0, 0], [0, 5, 1], NORMAL, "macro_f1", classes=CLASSES)
    with pytest.raises(ProjectError, match="4 class names but 5 probabilities"):
        tune_class_rule(PROBS, [0, 0, 0], [0, 1, 1], NORMAL, "macro_f1", classes=CLASSES[:4])


@given(
    rows=st.lists(st.tuples(*[st.integers(0, 3)] * 3, st.integers(-5, 5)), min_size=2, max_size=25),
    metric=st.sampled_from(sorted(METRICS)),
)
@settings(deadline=None, max_examples=150)
def test_the_threshold_is_the_best_of_all(rows: list[Any], metric: str) -> None:
    best_normal, best_defect, truth, scores = np.array(rows).T
    if len(np.unique(truth)) < 2:
        return
    values = np.unique(scores)
    every = [values[0] - 1, *(values[:-1] + values[1:]) / 2, values[-1] + 1]
    reached = [METRICS[metric](np.where(scores >= t, best_defect, best_normal), truth) for t in every]
    threshold = _best_threshold(best_normal, best_defect, scores.astype(float), truth, 4, metric)
    answers = np.where(scores >= threshold, best_defect, best_normal)
    assert METRICS[metric](answers, truth) == pytest.approx(max(reached))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
@settings(deadline=None, max_examples=100)
def test_values_of_counts_are_those_of_the_metrics(rows: list[tuple[int, int]]) -> None:
    truth, answers = np.array(rows).T
    if len(np.unique(truth)) < 2:
        return
    table = [np.bincount(part, minlength=5)[None] for part in (truth[truth == answers], truth, answers)]
    words = np.array(CLASSES)
    for name, function in METRICS.items():
        assert class_values(name, *table)[0] == pytest.approx(function(words[answers], words[truth]))


def timid(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that always lean to normal, though their score tells defects well; kinds are known for sure."""
    random = np.random.default_rng(seed)
    truth = np.where(random.random(n) < 0.3, random.integers(1, 3, size=n), 0)
    scores = random.normal(size=n) + 4.0 * (truth > 0)
    doubt = 0.1 + 0.05 * random.random(n)
    probs = np.stack([1 - doubt, *(np.where(truth == k, 0.8, 0.2) * doubt for k in (1, 2))], axis=1)
    return probs / probs.sum(axis=1, keepdims=True), scores, truth


def test_a_gate_is_taken_where_it_helps() -> None:
    probs, scores, truth = timid(200, 0)
    normal, classes = [1, 0, 0], ["good", "crack", "blob"]
    rule = tune_class_rule(probs, scores, truth, normal, "f1_macro", classes=classes)
    assert rule.kind == "gated" and rule.metric == "macro_f1"
    assert rule.plain == pytest.approx(macro_f1(probs.argmax(axis=1), truth))
    assert rule.plain < 0.4 < 0.9 < rule.value == rule.gated
    probs, scores, truth = timid(2000, 1)  # and on rows that nothing was tuned on it is as good as was promised
    assert macro_f1(rule.decide(probs, scores, normal), truth) == pytest.approx(rule.value, abs=0.04)
    assert ClassRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
    with pytest.raises(ProjectError, match="cannot be read"):
        ClassRule.from_dict({"sort": "argmax"})


def test_argmax_is_kept_where_a_gate_gains_nothing() -> None:
    kept = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        truth = random.integers(0, 3, size=150)
        probs = random.dirichlet(np.ones(3), size=150) + 1.0 * np.eye(3)[truth]
        probs /= probs.sum(axis=1, keepdims=True)
        scores = np.log(1 - probs[:, 0]) - np.log(probs[:, 0])
        kept.append(tune_class_rule(probs, scores, truth, [1, 0, 0], "macro_f1", classes=["a", "b", "c"]).kind)
    assert kept.count("argmax") >= 10
    rule = tune_class_rule(probs, random.normal(size=150), truth, [1, 0, 0], "accuracy", classes=["a", "b", "c"])
    assert rule.kind == "argmax" and rule.gated <= rule.plain == rule.value


@pytest.mark.parametrize("normal", [[0, 0, 0], [1, 1, 1]])
def test_without_both_kinds_there_is_no_gate(normal: list[int]) -> None:
    probs, scores, truth = timid(100, 2)
    rule = tune_class_rule(probs, scores, truth, normal, "macro_f1", classes=["a", "b", "c"])
    assert rule.kind == "argmax" and rule.gated is None


def test_few_rows_or_one_class_keep_argmax() -> None:
    probs, scores, truth = timid(9, 3)
    assert tune_class_rule(probs, scores, truth, [1, 0, 0], "accuracy", classes=["a", "b", "c"]).gated is None
    probs, scores, _ = timid(50, 3)
    rule = tune_class_rule(probs, scores, np.zeros(50, int), [1, 0, 0], "macro_f1", classes=["a", "b", "c"])
    assert rule == ClassRule("argmax", metric="macro_f1")


def test_held_out_classes_are_decided_by_a_threshold_of_the_other_folds() -> None:
    probs, scores, truth = timid(100, 4)
    rule, answers = held_out_classes(probs, scores, truth, [1, 0, 0], "macro_f1", classes=["a", "b", "c"])
    assert answers.shape == (3, 100) and rule.kind == "gated"
    assert np.mean([macro_f1(row, truth) for row in answers]) == pytest.approx(rule.value)
    best_defect, zeros = probs[:, 1:].argmax(axis=1) + 1, np.zeros(100, int)
    for split, answered in zip(deal_folds(truth), answers, strict=True):
        for fold in range(5):
            held = split == fold
            others = (part[~held] for part in (zeros, best_defect, scores, truth))
            decided = np.where(scores >= _best_threshold(*others, 3, "macro_f1"), best_defect, zeros)
            assert (answered[held] == decided[held]).all()


def test_classes_of_the_category_alone_are_answered() -> None:
    probs, scores, truth = timid(120, 5)
    allowed = np.ones((120, 3), bool)
    allowed[:, 2] = truth == 2
    allowed[:, 1] = truth != 2
    rule, answers = held_out_classes(
        probs, scores, truth, [1, 0, 0], "macro_f1", classes=["a", "b", "c"], allowed=allowed
    )
    assert allowed[np.arange(120), answers].all() and rule.value > 0.9


def test_thousands_of_rows_stay_near_the_exact_threshold() -> None:
    probs, scores, truth = timid(6000, 6)
    best_defect = probs[:, 1:].argmax(axis=1) + 1
    zeros = np.zeros(6000, int)
    threshold = _best_threshold(zeros, best_defect, scores, truth, 3, "macro_f1")
    values = np.unique(scores)
    every = (values[:-1] + values[1:]) / 2
    reached = [macro_f1(np.where(scores >= t, best_defect, zeros), truth) for t in every[(every > 1) & (every < 3)]]
    assert macro_f1(np.where(scores >= threshold, best_defect, zeros), truth) >= max(reached) - 0.002
