"""Metrics of masks: values worked out by hand, equal to scikit-learn's, both-empty images, refusals."""

import numpy as np
import pytest

from src.errors import ProjectError
from src.metrics.masks import count_masks, dice, iou, mask_panel, seg_f1
from src.metrics.ranking import UndefinedMetric
from src.metrics.registry import METRICS, get_metric

FOUND = [np.array([[1, 1, 0], [0, 0, 0]]), np.zeros((2, 2)), np.array([[1, 0]])]
TRUE = [np.array([[0, 255, 255], [0, 0, 0]], np.uint8), np.zeros((2, 2), bool), np.array([[0, 0]])]


def test_by_hand() -> None:
    # hits 1, 0, 0; called 2, 0, 1; true 2, 0, 0
    assert seg_f1(FOUND, TRUE) == pytest.approx(2 * 1 / (3 + 2))
    assert dice(FOUND, TRUE) == pytest.approx((0.5 + 1 + 0) / 3)  # 2·1/(2+2); both empty; nothing there, and called
    assert iou(FOUND, TRUE) == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert mask_panel(count_masks(FOUND, TRUE)) == {
        "seg_f1": seg_f1(FOUND, TRUE), "dice": dice(FOUND, TRUE), "iou": iou(FOUND, TRUE)
    }  # fmt: skip


def test_equal_to_scikit_learn() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    found, true = random.random((4, 9, 7)) > 0.6, random.random((4, 9, 7)) > 0.7
    assert seg_f1(found, true) == pytest.approx(sk.f1_score(true.ravel(), found.ravel()), abs=1e-12)
    each = [(a.ravel(), b.ravel()) for a, b in zip(true, found, strict=True)]
    assert dice(found, true) == pytest.approx(np.mean([sk.f1_score(*pair) for pair in each]), abs=1e-12)
    assert iou(found, true) == pytest.approx(np.mean([sk.jaccard_score(*pair) for pair in each]), abs=1e-12)


def test_generators_are_used_once() -> None:
    assert dice((mask for mask in FOUND), (mask for mask in TRUE)) == dice(FOUND, TRUE)


def test_refusals() -> None:
    with pytest.raises(UndefinedMetric, match="none of the 1 true masks has any"):
        seg_f1([FOUND[0]], [np.zeros((2, 3))])
    for metric in (dice, iou):
        assert metric([np.zeros((2, 3))], [np.zeros((2, 3))]) == 1
        with pytest.raises(UndefinedMetric, match="there are none"):
            metric([], [])
    assert mask_panel(count_masks([], [])) == {"seg_f1": None, "dice": None, "iou": None}
    with pytest.raises(ProjectError, match=r"at index 1 has the shape \(2, 2\), and the true one \(2, 3\)"):
        dice(FOUND, [TRUE[0], TRUE[0]])
    with pytest.raises(ProjectError, match="ends at index 2"):
        dice(FOUND, TRUE[:2])


def test_in_the_registry() -> None:
    for name, function in (("seg_f1", seg_f1), ("dice", dice), ("iou", iou)):
        metric = METRICS[name]
        assert metric.needs == "mask" and metric.task == "anomaly" and metric.function is function
        assert metric.value([0.1, 0.9], [0, 1]) is None  # scores give no masks
        assert metric.value_at(np.array([0.1, 0.9]), [0, 1], 0.5) is None
    assert get_metric("SegF1").name == "seg_f1" and get_metric("mean dice").name == "dice"
    assert get_metric("mean-iou").name == "iou"
