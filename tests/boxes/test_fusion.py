import warnings

import numpy as np
import pytest

from src.boxes.fusion import fuse
from src.boxes.types import Detections
from src.errors import ProjectError

SIZE = (200, 100)


def one(box: list[float], score: float, label: int = 0) -> Detections:
    return Detections([box], [score], [label])


def test_two_models_agree() -> None:
    first, second = one([10, 10, 50, 50], 0.9), one([12, 10, 52, 50], 0.6)
    fused = fuse([first, second], size=SIZE)
    assert len(fused) == 1 and fused.scores[0] == pytest.approx(0.75)
    # averaged by score: (10·0.9 + 12·0.6) / 1.5
    assert fused.boxes[0].tolist() == pytest.approx([10.8, 10, 50.8, 50], abs=1e-4)
    weighted = fuse([first, second], size=SIZE, weights=[2, 1])
    assert weighted.boxes[0, 0] == pytest.approx((10 * 1.8 + 12 * 0.6) / 2.4, abs=1e-4)


def test_an_object_that_one_of_three_models_sees_loses_score() -> None:
    parts = [one([10, 10, 50, 50], 0.9), Detections.empty(), Detections.empty()]
    assert fuse(parts, size=SIZE).scores[0] == pytest.approx(0.3)
    assert fuse(parts, size=SIZE, method="nms").scores[0] == pytest.approx(0.9)


def test_classes_stay_apart_and_large_labels_whole() -> None:
    parts = [one([10, 10, 50, 50], 0.9, 0), one([10, 10, 50, 50], 0.8, 20001)]
    for method in ("wbf", "nms", "soft_nms"):
        assert sorted(fuse(parts, size=SIZE, method=method).labels.tolist()) == [0, 20001]


@pytest.mark.parametrize("method", ["wbf", "nms", "soft_nms"])
def test_many_copies_of_a_sure_box_stay_a_probability_inside_the_image(method: str) -> None:
    box = Detections([[0, 0, 200, 100]] * 7, [1.0] * 7, [3] * 7)
    for parts in ([box], [box, box], [box, box, one([0, 0, 200, 99], 1.0, 3)]):
        fused = fuse(parts, size=SIZE, method=method, weights=[3.0] * len(parts))
        assert fused.scores.min() >= 0 and fused.scores.max() <= 1
        assert fused.boxes.min() >= 0 and (fused.boxes <= [200, 100, 200, 100]).all()
        assert (np.diff(fused.scores) <= 0).all()


def test_boxes_without_area_or_outside_are_dropped_silently() -> None:
    odd = Detections(
        [[5, 5, 5, 20], [-30, -30, -10, -10], [190, 90, 260, 160], [3, 3, 9, 9]], [0.9, 0.8, 0.7, 0.0], [0] * 4
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused = fuse([odd, Detections.empty()], size=SIZE)
    assert fused.boxes.tolist() == pytest.approx(np.array([[190, 90, 200, 100]]), abs=1e-4)
    assert len(fuse([one([3, 3, 9, 9], 0.0)], size=SIZE)) == 0
    assert len(fuse([], size=SIZE)) == len(fuse([Detections.empty()], size=SIZE)) == 0


def test_fusion_beats_its_parts() -> None:
    """Two noisy views of the same objects: averaging their corners comes closer to the truth than either."""
    random = np.random.default_rng(0)
    corner = np.array([[x, y] for x in range(0, 900, 100) for y in range(0, 900, 100)], float)
    truth = np.hstack([corner, corner + 60])
    parts = [
        Detections(truth + random.normal(0, 3, truth.shape), random.uniform(0.6, 0.9, len(truth)), np.zeros(len(truth)))
        for _ in range(2)
    ]
    fused = fuse(parts, size=(1000, 1000))
    assert len(fused) == len(truth)

    def error(boxes: np.ndarray) -> float:
        return float(np.abs(boxes[:, None] - truth[None]).mean(axis=2).min(axis=1).mean())

    assert error(fused.boxes) < 0.85 * min(error(part.boxes) for part in parts)


def test_skip_and_errors() -> None:
    assert len(fuse([Detections([[0, 0, 9, 9], [20, 20, 40, 40]], [0.9, 0.1], [0, 0])], size=SIZE, skip=0.2)) == 1
    part = one([0, 0, 9, 9], 0.5)
    with pytest.raises(ProjectError, match="Did you mean 'wbf'"):
        fuse([part], size=SIZE, method="wbff")
    with pytest.raises(ProjectError, match="1 weights for 2 lists"):
        fuse([part, part], size=SIZE, weights=[1.0])
    with pytest.raises(ProjectError, match="above 0"):
        fuse([part, part], size=SIZE, weights=[1.0, 0.0])
    with pytest.raises(ProjectError, match="width, height"):
        fuse([part], size=(0, 10))
    with pytest.raises(ProjectError, match="list 1 has scores from 4.2"):
        fuse([part, one([0, 0, 9, 9], 4.2)], size=SIZE)
