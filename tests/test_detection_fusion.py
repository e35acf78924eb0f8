"""Boxes of folds and runs fused per image, counts told honestly, and the metric of what was decided."""

import numpy as np
import pandas as pd
import pytest

from src.boxes.calibration import ScoreCalibration
from src.boxes.count_rule import CountRule
from src.boxes.postprocess import Postprocess
from src.boxes.types import Detections, Truth
from src.errors import ProjectError
from src.flows.detection_fusion import fused
from src.flows.detection_panel import Decision, decide, pair, panel, rule_text, with_honest_counts
from src.metrics.registry import get_metric


def table(boxes: dict[str, list], scores: dict[str, list], run: str = "a") -> pd.DataFrame:
    rows = [
        {"id": name, "fold": -1, "width": 100, "height": 80, "boxes": found, "scores": scores[name],
         "labels": [0] * len(found), "masks": None}
        for name, found in boxes.items()
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame.attrs = {"metadata": {"run": run}}
    return frame


def truth(counts: dict[str, int]) -> pd.DataFrame:
    box = [[10.0, 10, 30, 30]]
    return pd.DataFrame(
        {
            "id": list(counts),
            "boxes": [np.array(box * n).reshape(-1, 4) for n in counts.values()],
            "labels": [np.zeros(n, np.int64) for n in counts.values()],
            "ignored": [np.zeros(n, bool) for n in counts.values()],
            "counts": [np.array([n]) for n in counts.values()],
        }
    )


def test_boxes_that_agree_become_one_and_lone_ones_lose_score() -> None:
    first = table({"007": [[10, 10, 30, 30]], "b": [[50, 50, 70, 70]]}, {"007": [0.8], "b": [0.9]})
    second = table({"b": [], "007": [[12, 10, 32, 30]]}, {"b": [], "007": [0.6]}, "b")
    whole = fused([first, second], iou=0.5).set_index("id")
    assert list(whole.index) == ["007", "b"]
    assert len(whole.loc["007", "boxes"]) == 1 and whole.loc["007", "scores"][0] == pytest.approx(0.7)
    assert whole.loc["007", "boxes"][0][0] == pytest.approx((0.8 * 10 + 0.6 * 12) / 1.4)
    assert whole.loc["b", "scores"][0] == pytest.approx(0.45)


def test_a_run_blended_with_itself_stays_as_sure() -> None:
    """An unsure second box on an object must not pull the fused score down."""
    twice = table({"a": [[10, 10, 30, 30], [10, 10, 30, 34]]}, {"a": [0.9, 0.1]})
    whole = fused([twice, twice], iou=0.5)
    assert [round(score, 3) for score in whole["scores"][0]] == [0.9]


def test_weights_and_calibration_take_part() -> None:
    first = table({"a": [[10, 10, 30, 30]]}, {"a": [0.8]})
    second = table({"a": [[10, 10, 30, 30]]}, {"a": [0.2]}, "b")
    heavy = fused([first, second], iou=0.5, weights=[3, 1])
    assert heavy["scores"][0][0] == pytest.approx((3 * 0.8 + 0.2) / 4)
    # a modest detector: right at 0.3, wrong at 0.1, so that 0.3 means "nearly surely"
    modest = Detections([[10, 10, 30, 30], [60, 40, 80, 60]], [0.3, 0.1], [0, 0])
    sure = ScoreCalibration.fit([modest] * 60, [Truth([[10, 10, 30, 30]], [0])] * 60, 1)
    low = table({"a": [[10, 10, 30, 30]]}, {"a": [0.3]})
    assert fused([low, low], iou=0.5, calibrations=[sure, sure])["scores"][0][0] > 0.7
    with pytest.raises(ProjectError, match="one weight a run"):
        fused([first, second], iou=0.5, weights=[1, 2, 3])
    with pytest.raises(ProjectError, match="different images, as 'a', 'z'"):
        fused([first, table({"z": []}, {"z": []})], iou=0.5)


def test_counts_are_told_by_cross_validation_and_images_without_truth_left_out() -> None:
    names = [f"{n:02d}" for n in range(40)]
    counts = {name: n % 2 for n, name in enumerate(names)}
    # real objects score 0.4, ghosts 0.2: the plain rule of 0.5 sees nothing
    boxes = {name: [[10, 10, 30, 30], [60, 40, 80, 60]][: 2 if counts[name] else 1] for name in names}
    scores = {name: [0.4, 0.2][: 2 if counts[name] else 1] if counts[name] else [0.2] for name in names}
    frame = table({**boxes, "no truth": []}, {**scores, "no truth": []})
    paired = pair(frame, truth(counts))
    assert len(paired.ids) == 40
    metric = get_metric("count_exact")
    decision = decide(paired, classes=["원"], metric=metric)
    assert 0.2 < decision.rule.rules[0].threshold <= 0.4
    assert Decision.from_dict(decision.to_dict()) == decision
    figures = panel(paired, decision, classes=["원"], metric=metric)
    assert figures["metric"] == figures["count_exact"] == 1.0 and figures["per_class"]["원"]["n"] == 20
    told = dict(decision.rule.summary, tuned=0.9, chosen="tuned")
    honest = with_honest_counts(figures, CountRule(decision.rule.classes, decision.rule.rules, told), metric)
    assert honest["metric"] == honest["count_exact"] == 0.9 and honest["count_exact_in_sample"] == 1.0
    assert "0.5000 → " in rule_text(decision.rule)
    plain = Decision(Postprocess(), CountRule.plain(["원"]))
    assert panel(paired, plain, classes=["원"], metric=metric)["count_exact"] == 0.5
    assert with_honest_counts({"metric": 0.3}, CountRule.plain(["원"]), metric) == {"metric": 0.3}
