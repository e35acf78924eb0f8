"""Cleaning of boxes: what is mended, what is set aside, and that nothing else is touched."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from src.boxes.cleaning import THINNEST, clean_boxes

INF, NAN = float("inf"), float("nan")


def clean(*boxes: list[float], labels: list[int] | None = None, size: tuple | None = (100, 50), **options):
    labels = labels if labels is not None else [0] * len(boxes)
    width, height = size if size is not None else (None, None)
    return clean_boxes(list(boxes), labels, width, height, **options)


def test_good_boxes_pass_untouched() -> None:
    boxes, labels, ignored, problems = clean([0, 0, 100, 50], [1.25, 2, 3, 4.5], labels=[1, 0], ignored=[False, True])
    assert boxes.tolist() == [[0, 0, 100, 50], [1.25, 2, 3, 4.5]]
    assert (labels.tolist(), ignored.tolist(), problems) == ([1, 0], [False, True], [])
    assert (boxes.dtype, labels.dtype, ignored.dtype) == (np.float64, np.int64, bool)


def test_no_boxes_at_all() -> None:
    boxes, labels, ignored, problems = clean()
    assert (boxes.shape, labels.shape, ignored.shape, problems) == ((0, 4), (0,), (0,), [])


@pytest.mark.parametrize(
    ("box", "expected", "problem"),
    [
        ([30, 40, 10, 20], [10, 20, 30, 40], "corners in the wrong order: [30, 40, 10, 20]"),
        ([10, 40, 30, 20], [10, 20, 30, 40], "corners in the wrong order: [10, 40, 30, 20]"),
        ([-5, 10, 20, 60], [0, 10, 20, 50], "beyond the picture (the picture is 100×50): [-5, 10, 20, 60]"),
        ([90, 10, 101.5, 20], [90, 10, 100, 20], "beyond the picture (the picture is 100×50): [90, 10, 101.5, 20]"),
    ],
)
def test_mended(box: list[float], expected: list[float], problem: str) -> None:
    boxes, _, _, problems = clean(box, sources=["boxes.csv:7"])
    assert boxes.tolist() == [expected]
    action = "swapped" if "order" in problem else "clipped"
    assert problems == [{"source": "boxes.csv:7", "index": 0, "problem": problem, "action": action}]


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ([10, 10, 10, 20], "no area"),
        ([10, 10, 20, 10 + THINNEST / 2], "no area"),
        ([100, 10, 120, 20], "outside the picture (the picture is 100×50)"),
        ([-20, 10, 0, 20], "outside the picture"),
        ([10, -20, 20, -10], "outside the picture"),
        ([NAN, 10, 20, 20], "a coordinate that is no finite number"),
        ([0, 10, INF, 20], "a coordinate that is no finite number"),
    ],
)
def test_set_aside(box: list[float], problem: str) -> None:
    boxes, labels, ignored, problems = clean([1, 1, 2, 2], box, [3, 3, 4, 4], labels=[5, 6, 7])
    assert boxes.tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]
    assert (labels.tolist(), len(ignored)) == ([5, 7], 2)
    assert [(p["source"], p["action"]) for p in problems] == [("box 2", "set aside")]
    assert problem in problems[0]["problem"]


def test_a_rounding_error_at_the_border_is_no_problem() -> None:
    boxes, _, _, problems = clean([-0.004, 0, 100.009, 50])
    assert boxes.tolist() == [[0, 0, 100, 50]]
    assert problems == []


def test_duplicates_are_of_one_class_and_equally_ignored() -> None:
    box = [1, 2, 3, 4]
    boxes, labels, ignored, problems = clean(
        box, box, box, box, labels=[0, 1, 0, 0], ignored=[False, False, False, True]
    )
    assert len(boxes) == 3
    assert (labels.tolist(), ignored.tolist()) == ([0, 1, 0], [False, False, True])
    assert [(p["index"], p["action"]) for p in problems] == [(2, "set aside")]


def test_boxes_that_become_the_same_by_clipping_are_duplicates() -> None:
    boxes, _, _, problems = clean([-1, 0, 10, 10], [-2, 0, 10, 10])
    assert boxes.tolist() == [[0, 0, 10, 10]]
    assert [p["action"] for p in problems] == ["clipped", "clipped", "set aside"]


def test_of_an_unknown_size_only_zero_is_a_border() -> None:
    boxes, _, _, problems = clean([-1, 0, 5000, 10], size=None)
    assert boxes.tolist() == [[0, 0, 5000, 10]]
    assert problems[0]["problem"] == "beyond the picture: [-1, 0, 5000, 10]"


def test_the_input_is_not_changed() -> None:
    boxes = np.array([[30.0, 40, 10, 20]])
    clean_boxes(boxes, [0], 100, 50)
    assert boxes.tolist() == [[30, 40, 10, 20]]


def test_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 boxes, 1 labels"):
        clean_boxes([[0, 0, 1, 1]] * 2, [0], 9, 9)


numbers = st.floats(-50, 150, width=32) | st.sampled_from([0.0, 50.0, 100.0, NAN, INF, -INF])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(boxes=arrays(np.float64, st.tuples(st.integers(0, 8), st.just(4)), elements=numbers), data=st.data())
def test_whatever_comes_in_is_clean_when_it_goes_out(boxes: np.ndarray, data) -> None:
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes)))
    kept, classes, ignored, problems = clean_boxes(boxes, labels, 100, 50)
    assert np.isfinite(kept).all()
    assert (kept >= 0).all() and (kept[:, [0, 2]] <= 100).all() and (kept[:, [1, 3]] <= 50).all()
    assert (kept[:, 2:] - kept[:, :2] >= THINNEST).all()
    assert len(kept) == len(classes) == len(ignored)
    gone = {problem["index"] for problem in problems if problem["action"] == "set aside"}
    assert len(gone) == len(boxes) - len(kept)
    assert classes.tolist() == [label for index, label in enumerate(labels) if index not in gone]
    again, _, _, more = clean_boxes(kept, classes, 100, 50)
    assert more == [] and np.array_equal(again, kept)
