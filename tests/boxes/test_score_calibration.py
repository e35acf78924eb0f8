import json

import numpy as np
import pytest

from src.boxes.calibration import Curve, ScoreCalibration
from src.boxes.types import Detections, Truth
from src.errors import ProjectError
from src.metrics.detection import evaluate_boxes


def scene(seed: int, n: int, *, power: float = 2.0, classes: int = 2) -> tuple[list[Detections], list[Truth]]:
    """Detections of score s that are right with probability s ** power (class 0) or s (others)."""
    random = np.random.default_rng(seed)
    predictions, truth = [], []
    for _ in range(n):
        corner = np.array([[60.0 * column, 60.0 * row] for row in range(3) for column in range(3)])
        boxes, labels, scores = np.hstack([corner, corner + 40]), random.integers(0, classes, 9), random.random(9)
        right = random.random(9) < np.where(labels == 0, scores**power, scores)
        predictions.append(Detections(boxes, scores, labels))
        truth.append(Truth(boxes[right], labels[right]))
    return predictions, truth


@pytest.mark.parametrize("n", [40, 2000])  # Platt, isotonic
def test_scores_become_probabilities(n: int) -> None:
    calibration = ScoreCalibration.fit(*scene(0, n), 2)
    grid = np.linspace(0.1, 0.95, 18)
    for label, power in ((0, 2.0), (1, 1.0)):
        given = Detections(np.zeros((18, 4)), grid, np.full(18, label))
        found = calibration.apply(given).scores
        assert np.abs(found - grid**power).max() < (0.12 if n == 40 else 0.08)
        assert (np.diff(found) > 0).all() and found.min() >= 0 and found.max() <= 1


def test_new_images_are_calibrated_better() -> None:
    calibration = ScoreCalibration.fit(*scene(0, 300, power=4), 2)
    fresh, truth = scene(1, 300, power=4)

    def brier(predictions: list[Detections]) -> float:
        errors = []
        for det, real in zip(predictions, truth, strict=True):
            right = (det.boxes[:, None] == real.boxes[None]).all(axis=2).any(axis=1)
            errors.append(np.square(det.scores - right))
        return float(np.concatenate(errors).mean())

    assert brier([calibration.apply(det) for det in fresh]) < brier(fresh) - 0.02
    # Order within a class stands, and average precision with it.
    before = evaluate_boxes(fresh, truth, classes=["a", "b"])["map"]
    after = evaluate_boxes([calibration.apply(det) for det in fresh], truth, classes=["a", "b"])["map"]
    assert after == pytest.approx(before, abs=1e-9)


def test_a_rare_class_takes_the_pooled_curve_and_none_the_score() -> None:
    predictions, truth = scene(0, 60, classes=1)
    calibration = ScoreCalibration.fit(predictions, truth, 2)
    assert calibration.curves[0] is not None and calibration.curves[1] is None and calibration.pooled is not None
    det = Detections(np.zeros((2, 4)), [0.6, 0.6], [0, 1])
    assert calibration.apply(det).scores[1] == pytest.approx(calibration.pooled(np.array([0.6]))[0])
    nothing = ScoreCalibration.fit([Detections.empty()], [Truth([], [])], 2)
    assert nothing.pooled is None and nothing.apply(det).scores.tolist() == [0.6, 0.6]


def test_scores_that_mislead_are_levelled_not_turned_around() -> None:
    random = np.random.default_rng(3)
    predictions, truth = [], []
    for _ in range(60):
        scores = random.random(4)
        boxes = np.array([[50.0 * k, 0, 50.0 * k + 40, 40] for k in range(4)])
        predictions.append(Detections(boxes, scores, np.zeros(4)))
        right = scores < random.random(4)
        truth.append(Truth(boxes[right], np.zeros(right.sum())))
    found = ScoreCalibration.fit(predictions, truth, 1).apply(Detections(np.zeros((2, 4)), [0.1, 0.9], [0, 0]))
    assert found.scores[0] <= found.scores[1] < found.scores[0] + 0.01


def test_json_round_trip_and_errors() -> None:
    calibration = ScoreCalibration.fit(*scene(0, 40), 3)
    again = ScoreCalibration.from_dict(json.loads(json.dumps(calibration.to_dict(), allow_nan=False)))
    assert again == calibration
    det = Detections([[0, 0, 1, 1]], [0.4], [1], ("mask",))
    assert again.apply(det).masks == ("mask",) and again.apply(det).scores == calibration.apply(det).scores
    assert len(again.apply(Detections.empty())) == 0
    with pytest.raises(ProjectError, match="label 7, but 3 classes"):
        again.apply(Detections([[0, 0, 1, 1]], [0.4], [7]))
    with pytest.raises(ProjectError, match="'pooled'"):
        ScoreCalibration.from_dict({"curves": []})
    assert Curve((0.0, 1.0), (0.2, 0.4))(np.array([-1, 0.5, 2])).tolist() == pytest.approx([0.2, 0.3, 0.4])
