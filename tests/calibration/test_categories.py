"""Thresholds by category: kept where they help, dropped where they do not, and sensible where rows are few."""

import json

import numpy as np
import pandas as pd
import pytest

from src.calibration.categories import CategoryThresholds, tune_by_category
from src.calibration.threshold import normal_quantile, tune_on_oof
from src.errors import ProjectError


def table(shifts: dict[str, float], *, normal: int = 40, anomalous: int = 15, seed: int = 0, apart: float = 2.5):
    """(oof, labels, categories): scores of each category are shifted by its number."""
    random = np.random.default_rng(seed)
    rows = []
    for name, shift in shifts.items():
        rows += [(name, 0, shift + random.normal()) for _ in range(normal)]
        rows += [(name, 1, shift + apart + random.normal()) for _ in range(anomalous)]
    frame = pd.DataFrame(rows, columns=["category", "label", "score"])
    frame["id"] = [f"i{k:03}" for k in range(len(frame))]
    frame["fold"] = np.arange(len(frame)) % 3
    labels = pd.Series(frame["label"].astype("Int64").array, index=frame["id"].array)
    return frame[["id", "fold", "score"]], labels, pd.Series(frame["category"].array, index=frame["id"].array)


def test_kept_where_categories_lie_apart() -> None:
    oof, labels, categories = table({"bottle": 0.0, "cable": 5.0, "nut": -3.0})
    found = tune_by_category(oof, labels, categories, "f1")
    assert set(found.own) == {"bottle", "cable", "nut"} and found.cross_validated > found.plain + 0.1
    assert found.shared == tune_on_oof(oof, labels, "f1")
    mine = oof[(categories[oof["id"]] == "cable").to_numpy()]
    assert found.own["cable"] == tune_on_oof(mine, labels, "f1")
    new, truth, kinds = table({"bottle": 0.0, "cable": 5.0, "nut": -3.0}, seed=1, normal=400, anomalous=400)
    right = (found.decide(new["score"], kinds.tolist()) == (truth == 1).to_numpy()).mean()
    assert right > (new["score"].to_numpy() >= found.shared.value).astype(int).__eq__((truth == 1).to_numpy()).mean()


def test_dropped_where_one_threshold_serves_all() -> None:
    kept = [
        tune_by_category(*table({"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}, normal=15, anomalous=6, seed=seed), "f1")
        for seed in range(20)
    ]
    assert sum(found is not None for found in kept) <= 4


def test_few_defects_take_the_normal_quantile_and_few_rows_the_shared_one() -> None:
    oof, labels, categories = table({"a": 0.0, "b": 6.0, "c": 6.0, "d": 0.0})
    left = ~((categories == "b") & (labels == 1) | (categories == "c") & (np.arange(len(labels)) % 5 > 0)).to_numpy()
    oof = oof[left].reset_index(drop=True)
    found = tune_by_category(oof, labels, categories, "f1")
    scores = oof.set_index("id")["score"]
    ids = [i for i in oof["id"] if categories[i] == "b"]
    assert found.own["b"] == normal_quantile(scores[ids].to_numpy(), target_false_alarm=0.01)
    assert found.own["a"].source == "oof" and "c" not in found.own
    assert found.value_of("c") == found.value_of(None) == found.value_of("new") == found.shared.value
    lines = [found.own["b"].value] * 2 + [found.shared.value] * 2
    assert found.decide(np.array(lines) - [0, 1e-6, 0, 1e-6], ["b", "b", "c", None]).tolist() == [True, False] * 2


def test_normal_images_alone() -> None:
    oof, labels, categories = table({"a": 0.0, "b": 9.0, "c": 3.0}, normal=60, anomalous=0)
    kept = (categories != "c").to_numpy() | (np.arange(180) % 6 == 0)
    found = tune_by_category(oof[kept], labels, categories, "f1", target_false_alarm=0.05)
    assert set(found.own) == {"a", "b"} and found.metric == "false_alarm_rate" and found.cross_validated is None
    assert found.own["a"].value < 5 < found.own["b"].value
    assert found.own["a"].false_alarm_bound <= 0.05 and found.shared.source == "normal_quantile"


def test_nothing_to_tune() -> None:
    oof, labels, categories = table({"a": 0.0, "b": 5.0})
    assert tune_by_category(oof, labels, categories.where(categories == "a", None), "f1") is None
    assert tune_by_category(oof, labels, pd.Series(dtype=object), "f1") is None
    few = tune_by_category(oof[:2], labels.mask(labels == 1), categories, "f1")
    assert few is None
    with pytest.raises(ProjectError, match="of the test"):
        tune_by_category(oof.assign(fold=-1), labels, categories, "f1")


def test_the_same_seed_and_any_order_of_rows() -> None:
    oof, labels, categories = table({"a": 0.0, "b": 2.0})
    first = tune_by_category(oof, labels, categories, "auroc", seed=3)
    assert first == tune_by_category(oof, labels, categories, "auroc", seed=3) and first.metric == "f1"


def test_json_round_trip() -> None:
    found = tune_by_category(*table({"a": 0.0, "b": 5.0}), "balanced_accuracy")
    assert CategoryThresholds.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(ProjectError, match="by category cannot be read"):
        CategoryThresholds.from_dict({"shared": found.shared.to_dict()})
    with pytest.raises(ProjectError, match="pair up"):
        found.decide([1.0], ["a", "b"])
