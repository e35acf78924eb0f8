"""What runs add to a blend: values against the metrics themselves, fairness of tuned thresholds, and intervals."""

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from src.calibration.class_rule import tune_class_rule
from src.calibration.scales import METHODS
from src.ensemble import blend_anomaly
from src.ensemble_table import best_method, leave_one_out
from src.errors import ProjectError
from src.metrics.anomaly import auroc, average_precision, f1_max

CLASSES = ["good", "crack", "blob", "hole"]


def table(run: str, scores: Any, probs: Any = None, fold: int = 0) -> pd.DataFrame:
    ids = [f"{i:04d}" for i in range(len(scores))]
    made = pd.DataFrame({"id": ids, "fold": fold, "score": np.asarray(scores, float), "map": None})
    made["probs"] = pd.Series([None] * len(ids) if probs is None else np.asarray(probs).tolist(), dtype=object)
    made.attrs["metadata"] = {"run": run, "class_names": None if probs is None else CLASSES}
    return made


def runs(n: int = 300, noise: Any = (0.8, 1.0, 1.2), seed: int = 0) -> tuple[list[pd.DataFrame], pd.Series]:
    """Detectors of one truth with noise of their own, on scales of their own."""
    random = np.random.default_rng(seed)
    labels = (random.random(n) < 0.3).astype(int)
    frames = [table(f"run{k}", (labels + random.normal(size=n) * s) * 10.0**k) for k, s in enumerate(noise)]
    return frames, pd.Series(labels, index=frames[0]["id"])


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "f1_max"])
@pytest.mark.parametrize("method", METHODS)
def test_values_are_those_of_the_metric(metric: str, method: Any) -> None:
    frames, labels = runs()
    function = {"auroc": auroc, "average_precision": average_precision, "f1_max": f1_max}[metric]
    normal = [labels.to_numpy() == 0] * 3
    options: dict[str, Any] = {"method": method, "normal": normal}
    *rows, blend = leave_one_out(frames, labels, metric, weights=[3, 2, 1], reference=frames, **options)
    whole = blend_anomaly(frames, weights=[3, 2, 1], reference=frames, **options)["score"]
    assert blend["name"] == "blend" and blend["alone"] == pytest.approx(function(whole, labels))
    assert [row["name"] for row in rows] == ["run0", "run1", "run2"]
    for k, row in enumerate(rows):
        others = [frames[i] for i in range(3) if i != k]
        weights = [w for i, w in enumerate([3, 2, 1]) if i != k]
        options["normal"] = normal[:2]
        without = blend_anomaly(others, weights=weights, reference=others, **options)["score"]
        assert row["alone"] == pytest.approx(function(frames[k]["score"], labels))
        # Mean ranks often tie, and shares of another sum round to other last digits.
        assert row["without"] == pytest.approx(function(without, labels), abs=2e-3)
        assert row["gain"] == pytest.approx(blend["alone"] - row["without"])
        assert row["correlation"] == pytest.approx(spearmanr(frames[k]["score"], without)[0], abs=2e-3)
    assert blend["best"] == "run0" and blend["gain"] == pytest.approx(blend["alone"] - rows[0]["alone"])
    assert blend["gain_low"] < blend["gain"] < blend["gain_high"]


def test_a_run_of_noise_adds_nothing_and_a_blend_of_good_ones_gains() -> None:
    frames, labels = runs(n=600, noise=(0.6, 0.6, 0.6, 50.0))
    *rows, blend = leave_one_out(frames, labels, "auroc")
    assert rows[3]["gain"] < -0.005 and all(row["gain"] > 0 for row in rows[:3])
    assert abs(rows[3]["correlation"]) < 0.15 < rows[0]["correlation"]
    good = leave_one_out(frames[:3], labels, "auroc")[-1]
    assert good["gain_low"] > 0


def test_the_interval_of_a_gain_is_that_of_resampled_rows() -> None:
    """Against a plain loop that draws rows of both classes and measures anew."""
    frames, labels = runs(n=120)
    blend = leave_one_out(frames, labels, "auroc")[-1]
    whole = blend_anomaly(frames, reference=frames)["score"].to_numpy()
    best, truth = frames[0]["score"].to_numpy(), labels.to_numpy()
    random = np.random.default_rng(1)
    gains = []
    for _ in range(2000):
        rows = np.concatenate([random.choice(np.flatnonzero(truth == k), int((truth == k).sum())) for k in (0, 1)])
        gains.append(auroc(whole[rows], truth[rows]) - auroc(best[rows], truth[rows]))
    low, high = np.quantile(gains, [0.025, 0.975])
    assert blend["gain_low"] == pytest.approx(low, abs=0.01) and blend["gain_high"] == pytest.approx(high, abs=0.01)


def test_decisions_are_held_out_of_their_tuning() -> None:
    """On noise, a threshold that is measured on its own rows flatters; a held-out one does not."""
    tuned, oracle, calling_all = [], [], []
    for seed in range(15):
        frames, labels = runs(n=60, noise=(1e6,), seed=seed)
        (alone, _) = leave_one_out(frames, labels, "accuracy")
        truth = labels.to_numpy()
        scores = frames[0]["score"].to_numpy()
        tuned.append(alone["alone"])
        oracle.append(max(np.mean((scores >= t) == truth) for t in [*scores, np.inf]))
        calling_all.append(max(truth.mean(), 1 - truth.mean()))
    assert np.mean(tuned) < np.mean(calling_all) < np.mean(oracle)
    frames, labels = runs(n=2000, noise=(0.3, 0.3))
    *rows, blend = leave_one_out(frames, labels, "f1")
    for k, row in enumerate(rows):
        assert row["alone"] == pytest.approx(f1_max(frames[k]["score"], labels), abs=0.02)
        assert row["alone"] <= f1_max(frames[k]["score"], labels) + 1e-9
    assert blend["gain_low"] > 0 and blend["metric"] == "f1"


def test_unknown_labels_take_no_part() -> None:
    frames, labels = runs()
    known = labels.astype("Int64").mask(np.arange(300) % 3 == 0)
    rows = leave_one_out(frames, known, "auroc")
    use = known.notna().to_numpy()
    assert rows[0]["alone"] == pytest.approx(auroc(frames[0]["score"][use], labels[use]))
    with pytest.raises(ProjectError, match="none of the 300 out-of-fold rows has a known label"):
        leave_one_out(frames, known.mask(use), "auroc")
    with pytest.raises(ProjectError, match="test rows"):
        leave_one_out([table("a", [1, 2], fold=-1)], pd.Series([0, 1], index=["0000", "0001"]), "auroc")


def test_what_is_undefined_is_none() -> None:
    frames, labels = runs()
    *rows, blend = leave_one_out(frames, labels * 0, "f1")
    assert {row["alone"] for row in rows} == {row["gain"] for row in rows} == {None} and blend["alone"] is None
    assert blend["gain_low"] is blend["best"] is None and rows[0]["correlation"] is not None
    alone, blend = leave_one_out(frames[:1], labels, "pixel_auroc")
    assert alone["without"] is alone["gain"] is alone["correlation"] is None and blend["gain"] == 0
    assert alone["metric"] == blend["metric"] == "auroc"
    assert leave_one_out(frames[:2], labels, "auroc", weights=[1, 0])[0]["without"] is None


def several_classes(n: int = 400) -> tuple[list[pd.DataFrame], pd.Series, pd.Series]:
    random = np.random.default_rng(3)
    kind = np.where(random.random(n) < 0.4, random.integers(1, 4, size=n), 0)
    frames = []
    for k in range(3):
        probs = random.dirichlet(np.ones(4), size=n) + 0.4 * np.eye(4)[kind]
        probs /= probs.sum(axis=1, keepdims=True)
        frames.append(table(f"cnn{k}", np.log(1 - probs[:, 0]) - np.log(probs[:, 0]), probs))
    frames.append(table("patchcore", (kind > 0) * 3.0 + random.normal(size=n)))
    ids = frames[0]["id"]
    return frames, pd.Series((kind > 0).astype(int), index=ids), pd.Series(np.array(CLASSES)[kind], index=ids)


def test_several_classes_through_the_class_rule() -> None:
    frames, labels, truth = several_classes()
    *rows, blend = leave_one_out(frames, labels, "macro_f1", truth=truth, normal_classes=["good"])
    assert rows[3]["alone"] is None and rows[3]["without"] is not None  # it has no probabilities of its own
    assert rows[3]["gain"] > 0  # yet the score of one that sees defects helps to decide whether there is any
    assert blend["alone"] > max(row["alone"] for row in rows[:3]) and blend["gain_low"] > 0
    index = [CLASSES.index(name) for name in truth]
    probs = np.array(frames[0]["probs"].tolist())
    rule = tune_class_rule(
        probs,
        blend_anomaly(frames[:1], reference=frames[:1])["score"],
        index,
        [1, 0, 0, 0],
        "macro_f1",
        classes=CLASSES,
    )
    assert rows[0]["alone"] == pytest.approx(rule.value)
    allowed = np.eye(4, dtype=bool)[index]
    sure = leave_one_out(frames, labels, "f1", truth=truth, normal_classes=["good"], allowed=allowed)
    assert sure[-1]["metric"] == "macro_f1" and sure[-1]["alone"] == 1.0


def test_classes_that_nobody_predicts_are_refused() -> None:
    frames, labels, truth = several_classes(40)
    with pytest.raises(ProjectError, match="'crak' of id '0007' is not among the 4 .* Did you mean 'crack'"):
        leave_one_out(frames, labels, "macro_f1", truth=truth.mask(truth.index == "0007", "crak"))
    with pytest.raises(ProjectError, match="patchcore predict no class probabilities"):
        leave_one_out(frames[3:], labels, "macro_f1", truth=truth)


def test_best_method_and_whether_the_blend_beats_the_best_run() -> None:
    frames, labels = runs(n=600, noise=(0.6, 0.6, 0.6))
    for metric in ("auroc", "f1"):
        rows = best_method(frames, labels, metric)
        methods, singles = rows[:4], rows[4:]
        assert [row["name"] for row in methods] == list(METHODS) and [row["kind"] for row in singles] == ["run"] * 3
        assert sum(row["chosen"] for row in rows) == 1
        best = max(row["value"] for row in singles)
        assert all(row["gain"] == pytest.approx(row["value"] - best) and row["gain_low"] > 0 for row in methods)
    assert singles[0]["value"] == pytest.approx(leave_one_out(frames, labels, "f1")[0]["alone"])


def test_rank_stays_unless_another_method_is_clearly_better() -> None:
    """One run is sure of its few outliers and blind else: ranks throw its sureness away, tails keep it."""
    random = np.random.default_rng(8)
    labels = np.repeat([0, 1], [400, 100])
    sure = random.normal(size=500) + 60.0 * (labels * (random.random(500) < 0.5))
    other = random.normal(size=500) + 60.0 * (labels * (sure < 30) * (random.random(500) < 0.9))
    frames = [table("a", sure), table("b", other)]
    rows = best_method(frames, pd.Series(labels, index=frames[0]["id"]), "auroc")
    chosen = next(row for row in rows if row["chosen"])
    assert chosen["name"] != "rank" and chosen["value"] == max(row["value"] for row in rows)
    assert (
        next(row for row in best_method(frames, pd.Series(0, index=frames[0]["id"]), "auroc") if row["chosen"])["name"]
        == "rank"
    )


def test_ten_runs_of_a_thousand_rows_take_seconds() -> None:
    frames, labels = runs(n=1000, noise=[1.0] * 10)
    start = time.perf_counter()
    rows = leave_one_out(frames, labels, "f1", method="tail", normal=[labels.to_numpy() == 0] * 10)
    assert len(rows) == 11 and time.perf_counter() - start < 20
