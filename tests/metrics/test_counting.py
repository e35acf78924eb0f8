import numpy as np
import pytest

from src.errors import ProjectError
from src.metrics import counting
from src.metrics.ranking import UndefinedMetric
from src.metrics.registry import get_metric

TRUTH = np.array([[0, 2], [1, 0], [3, 5], [0, 0]])
ANSWER = np.array([[0, 3], [1, 0], [3, 1], [2, 0]])


def test_values_by_hand() -> None:
    panel = counting.count_metrics(ANSWER, TRUTH, classes=["사과", "컵"])
    assert panel["count_mae"] == pytest.approx((1 + 4 + 2) / 8)
    assert panel["count_rmse"] == pytest.approx(np.sqrt((1 + 16 + 4) / 8))
    assert panel["count_rmse_columns"] == pytest.approx((np.sqrt(4 / 4) + np.sqrt(17 / 4)) / 2)
    assert panel["count_exact"] == 5 / 8
    assert panel["count_exact_image"] == 1 / 4
    assert panel["count_tiered"] == pytest.approx((5 + 0.5) / 8)
    assert panel["per_class"]["컵"] == {
        "count_mae": 5 / 4,
        "count_rmse": pytest.approx(np.sqrt(17 / 4)),
        "count_exact": 0.5,
        "count_tiered": pytest.approx(2.5 / 4),
        "n": 7,
    }
    assert counting.count_tiered(ANSWER, TRUTH, tiers=(1, 0.6, 0.2)) == pytest.approx((5 + 0.6 + 0.2) / 8)
    assert counting.count_metrics(ANSWER, TRUTH, classes=["a", "b"], tiers=(1.0,))["count_tiered"] == 5 / 8


def test_one_column_and_fractions() -> None:
    assert counting.count_exact([1, 2, 3], [1, 2, 4]) == pytest.approx(2 / 3)
    assert counting.count_exact_image([1, 2, 3], [1, 2, 4]) == pytest.approx(2 / 3)
    assert counting.count_exact([0.5, 1.4], [1, 1]) == 1.0  # halves are rounded up
    assert counting.count_mae([0.5, 1.5], [1, 1]) == 0.5  # errors are of the number as it is


def test_wrong_counts_name_the_cell() -> None:
    with pytest.raises(ProjectError, match=r"predicted count of row 1, class 0 is -1"):
        counting.count_mae([[1], [-1]], [[1], [1]])
    with pytest.raises(ProjectError, match=r"true count of row 0, class 1 is 1.5; expected a whole"):
        counting.count_mae([[1, 1]], [[1, 1.5]])
    with pytest.raises(ProjectError, match=r"true count of row 0, class 0 is nan"):
        counting.count_mae([[1]], [[np.nan]])
    with pytest.raises(ProjectError, match=r"shape \(2, 1\), true ones \(1, 1\)"):
        counting.count_exact([1, 2], [1])
    with pytest.raises(ProjectError, match="1 columns but there are 2 classes"):
        counting.count_metrics([1], [1], classes=["a", "b"])
    with pytest.raises(ProjectError, match="must be numbers"):
        counting.count_mae(["two"], [2])
    with pytest.raises(UndefinedMetric):
        counting.count_mae(np.zeros((0, 2)), np.zeros((0, 2)))


def test_registered() -> None:
    for name, function in counting.COUNT_METRICS.items():
        metric = get_metric(name)
        assert metric.task == "detection" and metric.needs == "counts"
        assert metric.value(ANSWER, TRUTH) == function(ANSWER, TRUTH)
        better, worse = metric.value(TRUTH, TRUTH), metric.value(TRUTH + 1, TRUTH)
        assert better > worse if metric.mode == "max" else better < worse
    assert get_metric("count_mae").value(np.zeros((0, 1)), np.zeros((0, 1))) is None
