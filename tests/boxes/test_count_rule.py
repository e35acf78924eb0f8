import json
from dataclasses import replace

import numpy as np
import pytest

from src.boxes.class_rule import ClassRule, Correction
from src.boxes.count_curves import LOSSES, plateau, threshold_grid
from src.boxes.count_rule import CountRule, class_boxes, tune_count_rule
from src.boxes.nms import nms
from src.boxes.types import Detections
from src.errors import ProjectError
from src.metrics.counting import COUNT_METRICS

SIZE = (600, 400)


def world(
    seed: int, n: int, *, classes: int = 2, mean: float = 4, false: float = 6, twice: float = 0.0, giant: float = 0.0
) -> tuple[list[Detections], np.ndarray]:
    """Images whose objects mostly score above 0.45 and whose false boxes mostly below; `twice` of the objects are
    found twice, and `giant` of the images hold a sure box over everything."""
    random = np.random.default_rng(seed)
    predictions, counts = [], []
    for _ in range(n):
        number = random.poisson(mean)
        labels = random.integers(0, classes, number)
        corner = random.uniform(0, 300, (number, 2))
        boxes = np.hstack([corner, corner + random.uniform(25, 70, (number, 2))])
        scores = random.uniform(0.45, 0.9, number) - 0.25 * (labels == 1)
        again = random.random(number) < twice
        wrong = random.poisson(false)
        place = random.uniform(0, 300, (wrong, 2))
        parts = [
            Detections(boxes, scores, labels),
            Detections(boxes[again] + 3, scores[again] - 0.02, labels[again]),
            Detections(
                np.hstack([place, place + random.uniform(25, 70, (wrong, 2))]),
                random.beta(2, 12, wrong),
                random.integers(0, classes, wrong),
            ),
        ]
        if random.random() < giant:
            parts.append(Detections([[0, 0, 590, 390]], [0.95], [0]))
        predictions.append(Detections.concatenate(parts))
        counts.append(np.bincount(labels, minlength=classes))
    return predictions, np.array(counts)


def tuned(predictions: list[Detections], counts: np.ndarray, **options: object) -> CountRule:
    names = [f"c{index}" for index in range(counts.shape[1])]
    return tune_count_rule(predictions, counts, [SIZE] * len(counts), classes=names, **options)


@pytest.mark.parametrize("metric", LOSSES)
def test_the_curve_is_the_loss_at_every_threshold(metric: str) -> None:
    predictions, counts = world(0, 30, twice=0.3, giant=0.2)
    predictions = [Detections(d.boxes, np.round(d.scores, 2), d.labels) for d in predictions]  # ties
    rule = ClassRule(nms_iou=0.4, min_area=0.002, max_area=0.5)
    part = class_boxes(predictions, counts, [SIZE] * 30)[1]
    grid = threshold_grid(part.scores)
    half = np.arange(30) % 2
    curve = part.curve(rule, LOSSES[metric], grid, np.stack([np.ones(30), half]))
    for place in range(0, len(grid), 5):
        other = CountRule(("a", "b"), (ClassRule(), replace(rule, threshold=float(grid[place]))))
        loss = LOSSES[metric](other.count_all(predictions, [SIZE] * 30)[:, 1] - counts[:, 1])
        assert curve[:, place] == pytest.approx([loss.sum(), (loss * half).sum()])


def test_losses_stand_for_the_metrics() -> None:
    random = np.random.default_rng(0)
    predicted, truth = random.integers(0, 5, (2, 40, 1))
    for name, loss in LOSSES.items():
        mean = float(loss(predicted - truth).mean())
        value = {"count_exact": 1 - mean, "count_exact_image": 1 - mean, "count_tiered": 1 - mean, "count_mae": mean}
        assert COUNT_METRICS[name](predicted, truth) == pytest.approx(value.get(name, mean**0.5))


def test_kept_boxes_are_those_of_the_parts() -> None:
    predictions, counts = world(1, 12, twice=0.5, giant=0.5)
    rule = CountRule(
        ("a", "b"), (ClassRule(threshold=0.5, nms_iou=0.3, max_area=0.6), ClassRule(threshold=0.3, min_area=0.01))
    )
    table = rule.count_all(predictions, [SIZE] * 12)
    for det, row in zip(predictions, table, strict=True):
        share = np.prod(det.boxes[:, 2:] - det.boxes[:, :2], axis=1) / (600 * 400)
        first = nms(det.select((det.labels == 0) & (share <= 0.6)), iou=0.3)
        first = first.select(first.scores >= 0.5)
        second = det.select((det.labels == 1) & (det.scores >= 0.3) & (share >= 0.01))
        kept = rule.keep(det, SIZE)
        assert sorted(kept.scores) == sorted([*first.scores, *second.scores])
        assert (np.diff(kept.scores) <= 0).all()
        assert row.tolist() == rule.count(det, SIZE).tolist() == [len(first), len(second)]
        assert np.bincount(kept.labels, minlength=2).tolist() == row.tolist()
    assert rule.count(Detections.empty(), SIZE).tolist() == [0, 0]
    assert rule.count_all([], []).shape == (0, 2)


@pytest.mark.parametrize("metric", ["count_exact", "count_mae", "count_rmse_columns", "count_tiered"])
def test_tuning_finds_the_thresholds_of_each_class(metric: str) -> None:
    predictions, counts = world(2, 150)
    rule = tuned(predictions, counts, metric=metric)
    assert 0.3 < rule.rules[0].threshold < 0.5 and 0.15 < rule.rules[1].threshold < 0.4
    fresh, truth = world(3, 150)
    value = COUNT_METRICS[metric]
    new, plain = value(rule.count_all(fresh, [SIZE] * 150), truth), rule.summary["plain"]
    assert abs(new - rule.summary[rule.summary["chosen"]]) < 0.1  # the cross-validated value is an honest forecast
    assert (
        (new > plain + 0.2) if value in (COUNT_METRICS["count_exact"], COUNT_METRICS["count_tiered"]) else new < plain
    )


def test_doubles_and_giants_are_found_out() -> None:
    predictions, counts = world(4, 150, twice=0.6, giant=0.6)
    rule = tuned(predictions, counts)
    assert rule.rules[0].nms_iou is not None and rule.rules[0].max_area < 1
    assert rule.summary["tuned"] > rule.summary["plain"] + 0.3
    clean, truth = world(5, 150)
    calm = tuned(clean, truth)
    assert all(one.max_area == 1 and one.min_area == 0 for one in calm.rules)


def test_the_middle_of_the_widest_plateau() -> None:
    grid = np.linspace(0, 1, 101)
    losses = np.full(101, 9.0)
    losses[10] = 3.0  # a lucky spike
    losses[40:61] = 3.4
    assert plateau(grid, losses, tolerance=0.5) == pytest.approx(0.5)
    assert plateau(grid, losses, tolerance=0.0) == pytest.approx(0.1)


def test_a_class_with_few_objects_keeps_to_the_others() -> None:
    predictions, counts = world(6, 120, classes=1)
    # Three objects of a second class, all with a sure score: its own best threshold would be anything below 0.97.
    rare = Detections([[10, 10, 60, 60]], [0.97], [1])
    predictions = [Detections.concatenate([det, rare]) if k < 3 else det for k, det in enumerate(predictions)]
    counts = np.column_stack([counts, np.arange(120) < 3])
    rule = tuned(predictions, counts)
    assert abs(rule.rules[1].threshold - rule.rules[0].threshold) < 0.1


def test_too_few_images_stay_plain() -> None:
    predictions, counts = world(7, 6)
    rule = tuned(predictions, counts)
    assert rule.rules == (ClassRule(), ClassRule()) and rule.summary["chosen"] == "plain"
    empty = tuned([Detections.empty()] * 12, np.zeros((12, 2), int))
    assert empty.summary["chosen"] == "plain" and empty.summary["plain"] == 1.0


def test_noise_alone_leaves_the_plain_rule_or_forecasts_truly() -> None:
    """Boxes that say nothing of the counts: cross-validation must not promise what new images do not give."""
    random = np.random.default_rng(8)
    promised, kept = [], []
    for seed in range(4):
        predictions, _ = world(seed, 40, classes=1)
        fresh, _ = world(seed + 50, 200, classes=1)
        rule = tuned(predictions, random.poisson(4, (40, 1)))
        promised.append(rule.summary[rule.summary["chosen"]])
        kept.append(COUNT_METRICS["count_exact"](rule.count_all(fresh, [SIZE] * 200), random.poisson(4, (200, 1))))
    assert np.mean(promised) < np.mean(kept) + 0.08


def test_correction_is_kept_where_it_helps() -> None:
    """A third of the objects is never found: only a correction can make up for them."""
    random = np.random.default_rng(9)
    predictions, counts = world(10, 400, classes=1, mean=12)
    predictions = [det.select(random.random(len(det)) > 0.34) for det in predictions]
    rule = tuned(predictions, counts, metric="count_mae")
    assert rule.summary["chosen"] == "corrected" and rule.summary["corrected_classes"] == ["c0"]
    assert rule.summary["corrected"] < 0.85 * rule.summary["tuned"]
    assert rule.rules[0].correction is not None
    clean, truth = world(11, 150, classes=1, false=0)
    assert tuned(clean, truth).rules[0].correction is None


def test_json_round_trip_counts_the_same() -> None:
    random = np.random.default_rng(9)
    predictions, counts = world(10, 200, classes=2, mean=12)
    predictions = [det.select(random.random(len(det)) > 0.34) for det in predictions]
    rule = tuned(predictions, counts, metric="count_rmse")
    again = CountRule.from_dict(json.loads(json.dumps(rule.to_dict(), allow_nan=False)))
    assert again == rule and again.summary == rule.summary
    sizes = [SIZE] * 200
    np.testing.assert_array_equal(again.count_all(predictions, sizes), rule.count_all(predictions, sizes))
    assert rule.count_all(predictions, sizes).dtype == np.int64


def test_corrections_by_hand() -> None:
    features = np.array([[2.0, 3, 1, 2.4, 1.9, 0.9], [0, 0, 0, 0, 0, 0]])
    ridge = Correction("ridge", bias=0.2, weights=(1, 0, 0, 0.5, 0, 0))
    assert ridge.raw(features).tolist() == pytest.approx([3.4, 0.2]) and ridge.count(features).tolist() == [3, 0]
    assert Correction("isotonic", x=(0, 2, 4), y=(0, 3, 3), offset=0.2).count(features).tolist() == [3, 0]
    assert Correction("ridge", bias=-5, weights=(0,) * 6).count(features).tolist() == [0, 0]


def test_errors_say_what_to_mend() -> None:
    predictions, counts = world(0, 12)
    with pytest.raises(ProjectError, match="Did you mean 'count_mae'"):
        tuned(predictions, counts, metric="mae_count")
    with pytest.raises(ProjectError, match="12 predictions, 12 sizes, counts of shape"):
        tune_count_rule(predictions, counts, [SIZE] * 12, classes=["only"])
    with pytest.raises(ProjectError, match="image 3 has size"):
        CountRule.plain(["a", "b"]).count_all(predictions, [SIZE] * 3 + [(0, 5)] + [SIZE] * 8)
    with pytest.raises(ProjectError, match=r"image \d+ has a box of label 1, but there are 1"):
        CountRule.plain(["a"]).count_all(predictions, [SIZE] * 12)
    with pytest.raises(ProjectError, match="no 'rules'"):
        CountRule.from_dict({"classes": []})
    with pytest.raises(ProjectError, match="unexpected keyword.*'thresold'"):
        ClassRule.from_dict({"thresold": 0.3})
    with pytest.raises(ProjectError, match="min_area 0.5, max_area 0.2"):
        ClassRule(min_area=0.5, max_area=0.2)
