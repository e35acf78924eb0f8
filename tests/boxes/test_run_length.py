"""Run-length codes: the texts of pycocotools and of the competitions, back and forth, and what is illegal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from src.boxes import run_length as rle

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(MASKS)
@settings(max_examples=200, deadline=None)
def test_coco_text_is_pycocotools(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    text = rle.mask_to_coco(mask)
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert text == expected["counts"].decode()
    size = (mask.shape[1], mask.shape[0])
    assert np.array_equal(rle.coco_to_mask(text, size), mask)


def test_coco_text_of_large_masks() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:900, :1300]
    masks = [
        np.zeros((900, 1300), bool),
        np.ones((900, 1300), bool),
        (rows - 400) ** 2 + (columns - 700) ** 2 < 300**2,
        generator.random((900, 1300)) < 0.01,
        generator.random((900, 1300)) < 0.9,
    ]
    for mask in masks:
        expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert rle.mask_to_coco(mask) == expected
        assert np.array_equal(rle.coco_to_mask(expected, (1300, 900)), mask)


@given(st.lists(st.integers(0, 2**40), max_size=30))
def test_counts_round_trip(counts: list[int]) -> None:
    assert rle.expand_counts(rle.compress_counts(np.array(counts, dtype=np.int64))).tolist() == counts


@pytest.mark.parametrize(
    ("text", "message"),
    [("é", "a character"), ("p ", "a character"), ("5X", "cut off"), ("1O", "negative"), ("X" * 20 + "0", "no image")],
)
def test_damaged_coco_text(text: str, message: str) -> None:
    with pytest.raises(rle.IllegalRuns, match=message):
        rle.expand_counts(text)
    with pytest.raises(rle.IllegalRuns, match="does not cover the image: 9 pixels, expected 4×2"):
        rle.coco_to_mask(rle.mask_to_coco(np.ones((3, 3), bool)), (4, 2))


def test_golden_runs() -> None:
    mask = np.array([[0, 1, 1], [1, 1, 0]], bool)  # down the columns: 0 1, 1 1, 1 0
    assert rle.mask_to_runs(mask).tolist() == [[1, 4]]
    assert rle.mask_to_runs(mask, order="row").tolist() == [[1, 4]]
    corner = np.array([[1, 0], [1, 1]], bool)
    assert rle.runs_to_text(rle.mask_to_runs(corner)) == "1 2 4 1"
    assert rle.runs_to_text(rle.mask_to_runs(corner, order="row")) == "1 1 3 2"
    assert rle.runs_to_text(rle.mask_to_runs(corner), base=0) == "0 2 3 1"
    assert rle.runs_to_text(rle.mask_to_runs(np.zeros((2, 2), bool))) == ""


@given(MASKS, st.sampled_from(["column", "row"]), st.sampled_from([0, 1]), st.sampled_from([" ", ","]))
@settings(max_examples=200, deadline=None)
def test_runs_round_trip(mask: np.ndarray, order: rle.Order, base: int, separator: str) -> None:
    text = rle.runs_to_text(rle.mask_to_runs(mask, order=order), base=base, separator=separator)
    runs = rle.runs_from_text(text, base=base, separator=separator, pixels=mask.size)
    assert np.array_equal(rle.runs_to_mask(runs, (mask.shape[1], mask.shape[0]), order=order), mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "odd number of tokens"),
        ("1 2 ", "not a whole number: ''"),
        ("1  2", "not a whole number: ''"),
        ("1 2.0", "not a whole number: '2.0'"),
        ("1 0", "length is not positive: run '1 0'"),
        ("0 4", "starts before pixel 1: run '0 4'"),
        ("5 1 1 2", "not in ascending order: run '1 2'"),
        ("1 4 3 2", "overlap: run '3 2'"),
        ("1 4 95 7", "beyond the image: run '95 7'"),
    ],
)
def test_illegal_runs(text: str, message: str) -> None:
    with pytest.raises(rle.IllegalRuns, match=message):
        rle.runs_from_text(text, pixels=100)


def test_touching_runs_are_legal() -> None:
    assert rle.runs_from_text("1 2 3 2", pixels=4).tolist() == [[0, 2], [2, 2]]
    assert rle.runs_to_mask(np.array([[0, 2], [2, 2]]), (2, 2)).all()
