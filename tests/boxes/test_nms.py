import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.boxes.nms import nms, soft_nms
from src.boxes.pairs import overlapping_pairs
from src.boxes.types import Detections, pairwise_iou
from src.errors import ProjectError


def crowd(seed: int, n: int, *, classes: int = 3, spread: float = 100.0) -> Detections:
    random = np.random.default_rng(seed)
    corner, side = random.uniform(0, spread, (n, 2)), random.uniform(5, 60, (n, 2))
    return Detections(np.hstack([corner, corner + side]), random.random(n), random.integers(0, classes, n))


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize(("seed", "n", "iou"), [(0, 1, 0.5), (1, 40, 0.5), (2, 300, 0.3), (3, 300, 0.7), (4, 80, 0.0)])
def test_equal_to_torchvision(seed: int, n: int, iou: float, agnostic: bool) -> None:
    ops, torch = pytest.importorskip("torchvision.ops"), pytest.importorskip("torch")
    det = crowd(seed, n)
    boxes, scores = torch.from_numpy(det.boxes), torch.from_numpy(det.scores)
    labels = torch.zeros(n) if agnostic else torch.from_numpy(det.labels)
    expected = ops.batched_nms(boxes, scores, labels, iou).numpy()
    ours = nms(det, iou=iou, agnostic=agnostic)
    np.testing.assert_array_equal(ours.boxes, det.boxes[expected])
    np.testing.assert_array_equal(ours.labels, det.labels[expected])


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(0, 25), iou=st.sampled_from([0.1, 0.4, 0.8]))
def test_greedy_by_plain_loops(seed: int, n: int, iou: float) -> None:
    det = crowd(seed, n, classes=2, spread=30)
    det = Detections(det.boxes, np.round(det.scores, 1), det.labels)  # ties keep their order
    overlap, left, expected = pairwise_iou(det.boxes, det.boxes), sorted(range(n), key=lambda i: -det.scores[i]), []
    while left:
        best = left.pop(0)
        expected.append(best)
        left = [i for i in left if det.labels[i] != det.labels[best] or overlap[best, i] <= iou]
    np.testing.assert_array_equal(nms(det, iou=iou).boxes, det.boxes[expected].reshape(-1, 4))


def test_a_suppressed_box_suppresses_nothing() -> None:
    boxes = [[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]]  # each overlaps the next by 6/14, not the one after
    det = Detections(boxes, [0.9, 0.8, 0.7], [0, 0, 0], ("a", "b", "c"))
    ours = nms(det, iou=0.4)
    assert ours.scores.tolist() == [0.9, 0.7] and ours.masks == ("a", "c")
    assert len(nms(Detections(boxes, [0.9, 0.8, 0.7], [0, 1, 0]), iou=0.4)) == 3
    assert len(nms(Detections(boxes, [0.9, 0.8, 0.7], [0, 1, 0]), iou=0.4, agnostic=True)) == 2
    assert len(nms(Detections.empty())) == len(soft_nms(Detections.empty())) == 0


def test_soft_nms_by_hand() -> None:
    det = Detections([[0, 0, 10, 10], [0, 0, 10, 8], [50, 0, 60, 10]], [0.5, 0.9, 0.3], [0, 0, 0])
    ours = soft_nms(det, sigma=0.5)
    assert ours.scores.tolist() == pytest.approx([0.9, 0.3, 0.5 * np.exp(-(0.8**2) / 0.5)])
    assert ours.boxes[0].tolist() == [0, 0, 10, 8] and ours.boxes[2].tolist() == [0, 0, 10, 10]
    assert soft_nms(det, method="linear").scores.tolist() == pytest.approx([0.9, 0.3, 0.5 * 0.2])
    assert soft_nms(det, method="linear", iou=0.85).scores.tolist() == [0.9, 0.5, 0.3]
    assert len(soft_nms(det, method="linear", floor=0.2)) == 2
    apart = Detections(det.boxes, det.scores, [0, 1, 0])
    assert soft_nms(apart).scores.tolist() == [0.9, 0.5, 0.3]
    assert soft_nms(apart, agnostic=True).scores.tolist() == pytest.approx(ours.scores.tolist())


def test_wrong_options_are_named() -> None:
    with pytest.raises(ProjectError, match="iou=1.5"):
        nms(Detections.empty(), iou=1.5)
    with pytest.raises(ProjectError, match="Did you mean 'gaussian'"):
        soft_nms(Detections.empty(), method="gausian")
    with pytest.raises(ProjectError, match="sigma=0"):
        soft_nms(Detections.empty(), sigma=0)


def test_pairs_equal_all_against_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.boxes.pairs._PAIRS", 50)  # many chunks
    random = np.random.default_rng(0)
    one, other = crowd(1, 60, spread=40), crowd(2, 45, spread=40)
    first, second = random.integers(0, 5, 60), random.integers(0, 6, 45)
    full = pairwise_iou(one.boxes, other.boxes)
    full[first[:, None] != second[None, :]] = 0
    i, j, iou = overlapping_pairs(one.boxes, other.boxes, first, second, least=0.2)
    expected = np.argwhere(full >= 0.2)
    assert len(expected) > 50
    np.testing.assert_array_equal(np.column_stack([i, j]), expected)
    np.testing.assert_allclose(iou, full[i, j], atol=1e-12)
