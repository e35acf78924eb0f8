import numpy as np
import pytest

from src.boxes.types import Detections, Truth
from src.errors import ProjectError
from src.metrics.counting import COUNT_METRICS
from src.metrics.detection import evaluate_boxes
from src.metrics.intervals import _draws, count_interval, map50_interval, map50_of_draws
from src.metrics.ranking import UndefinedMetric


def scene(seed: int, n: int) -> tuple[list[Detections], list[Truth]]:
    random = np.random.default_rng(seed)
    predictions, truth = [], []
    for _ in range(n):
        count = int(random.integers(1, 5))
        corner = random.uniform(0, 200, (count, 2))
        boxes, labels = np.hstack([corner, corner + 40]), random.integers(0, 2, count)
        truth.append(Truth(boxes, labels, random.random(count) < 0.1))
        scores = random.random(count + 2)
        moved = np.vstack([boxes + random.normal(0, 6, (count, 1)), random.uniform(0, 9, (2, 1)) + [0, 0, 40, 40]])
        predictions.append(Detections(moved, scores, np.append(labels, [0, 1])))
    return predictions, truth


def test_each_resample_is_the_metric_of_its_images() -> None:
    predictions, truth = scene(0, 15)
    draws = np.stack([_draws(15, 1, seed, 0.9)[0] for seed in range(6)])
    values = map50_of_draws(predictions, truth, draws, n_classes=3)
    for times, value in zip(draws.astype(int), values, strict=True):
        drawn = np.repeat(np.arange(15), times)
        again = evaluate_boxes([predictions[i] for i in drawn], [truth[i] for i in drawn], classes=["a", "b", "c"])
        assert value == pytest.approx(again["map50"], abs=1e-9)


def test_interval_holds_the_value_and_narrows() -> None:
    predictions, truth = scene(1, 200)
    value = evaluate_boxes(predictions, truth, classes=["a", "b"])["map50"]
    low, high = map50_interval(predictions, truth, n_classes=2)
    assert low < value < high and high - low < 0.2
    few = map50_interval(predictions[:20], truth[:20], n_classes=2)
    assert few[1] - few[0] > 2 * (high - low)
    assert map50_interval(predictions, truth, n_classes=2) == (low, high)
    everything = [Detections(item.boxes, np.ones(len(item)), item.labels) for item in truth]
    assert map50_interval(everything, truth, n_classes=2)[1] == 1.0
    assert map50_interval([Detections.empty()] * 200, truth, n_classes=2) == (0.0, 0.0)
    with pytest.raises(UndefinedMetric):
        map50_interval([Detections.empty()], [Truth([], [])], n_classes=2)


@pytest.mark.parametrize("name", COUNT_METRICS)
def test_counts(name: str) -> None:
    random = np.random.default_rng(2)
    truth = random.poisson(3, (80, 3))
    predicted = np.maximum(truth + random.integers(-1, 3, truth.shape), 0)
    drawn = np.repeat(np.arange(80), _draws(80, 1, 5, 0.9)[0].astype(int))
    assert count_interval(name, predicted, truth, n=1, seed=5)[0] == pytest.approx(
        COUNT_METRICS[name](predicted[drawn], truth[drawn])
    )
    low, high = count_interval(name, predicted, truth)
    assert low < COUNT_METRICS[name](predicted, truth) < high
    assert count_interval(name, truth, truth) == (COUNT_METRICS[name](truth, truth),) * 2


def test_errors() -> None:
    with pytest.raises(ProjectError, match="map50 is no count metric"):
        count_interval("map50", [[1]], [[1]])
    with pytest.raises(ProjectError, match="level=1"):
        count_interval("count_mae", [[1]], [[1]], level=1)
