"""`rle`: golden rows of each layout of rows, round trips, and each illegal cell named."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from src.boxes.run_length import coco_to_mask, mask_to_coco
from src.boxes.types import Detections
from src.competition import Competition
from src.errors import ProjectError
from src.submission.formats import write_submission
from src.submission.validate import read_values, submission_warnings, validate_submission

MakeSpec = Callable[..., Competition]
SIZES = {"a": (3, 2), "b": (3, 2)}
FIRST = np.array([[1, 1, 0], [0, 1, 0]], bool)
SECOND = np.array([[0, 0, 0], [0, 1, 1]], bool)
CLASSES = ("x", "y")


def detections(*masks: np.ndarray, labels: list[int] | None = None, scores: list[float] | None = None) -> Detections:
    number = len(masks)
    boxes = np.tile([0.0, 0, 3, 2], (number, 1))
    texts = tuple(map(mask_to_coco, masks))
    return Detections(boxes, scores or np.ones(number), labels or np.zeros(number), texts)


def written(spec: Competition, tmp_path: Path, *values: Any, threshold: float | None = None, **known: Any) -> str:
    path = write_submission(tmp_path / "s.csv", ["a", "b"], values, spec, threshold=threshold, sizes=SIZES, **known)
    assert validate_submission(path, spec, ["a", "b"], sizes=SIZES, **known) == []
    return path.read_text()


@pytest.mark.parametrize(
    ("options", "first", "none"),
    [
        ({}, "1 1 3 2 6 1", ""),
        ({"index_base": 0, "empty": "-1"}, "0 1 2 2 5 1", "-1"),
        ({"order": "row", "empty": "1 1"}, "1 2 5 2", "1 1"),
        ({"separator": "-", "empty": " "}, "1-1-3-2-6-1", " "),
        ({"separator": ",", "index_base": 0, "order": "row", "empty": "-1"}, '"0,2,4,2"', "-1"),
        ({"separator": ",", "pair_separator": " "}, '"1,1 3,2 6,1"', ""),
        ({"pair_separator": ", "}, '"1 1, 3 2, 6 1"', ""),
        ({"encoding": "coco"}, "01110O", ""),
        ({"encoding": "coco_json", "empty": "-"}, '"{""size"": [2, 3], ""counts"": ""01110O""}"', "-"),
    ],
)
def test_salt_rows(
    options: dict[str, Any], first: str, none: str, make_boxes_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_boxes_spec("rle", {"id": "id", "value": "rle_mask"}, **options)
    both = detections(FIRST, SECOND, labels=[0, 1])
    text = f"id,rle_mask\na,{first}\nb,{none}\n"
    assert written(spec, tmp_path, both, Detections.empty()) == text
    assert written(spec, tmp_path, FIRST | SECOND, np.zeros((2, 3), bool)) == text
    found = read_values(tmp_path / "s.csv", spec, sizes=SIZES)
    assert len(found["b"]) == 0 and found["a"].boxes.tolist() == [[0, 0, 3, 2]]
    assert np.array_equal(coco_to_mask(found["a"].masks[0], (3, 2)), FIRST | SECOND)


def test_ids_that_name_the_one_class(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("rle", pattern="{id}_1", sample="id,value\nb_1,\na_1,\n")
    masks = {"a": FIRST, "b": np.zeros((2, 3), bool)}
    assert written(spec, tmp_path, masks["a"], masks["b"]) == "id,value\nb_1,\na_1,1 1 3 2\n"
    assert list(read_values(tmp_path / "s.csv", spec, ["a", "b"], sizes=SIZES)) == ["b", "a"]
    assert list(read_values(tmp_path / "s.csv", spec, sizes=SIZES)) == ["b", "a"]
    (tmp_path / "s.csv").write_text("id,value\nb_1,\na,1 1\n")
    problems = validate_submission(tmp_path / "s.csv", spec, ["a", "b"], sizes=SIZES)
    assert len(problems) == 2 and "ids are missing (1): 'a_1'" in problems[1], problems


def test_json_of_uncompressed_counts_is_read(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("rle", encoding="coco_json")
    (tmp_path / "s.csv").write_text('id,value\na,"{""size"": [2, 3], ""counts"": [0, 1, 1, 2, 2]}"\nb,\n')
    assert validate_submission(tmp_path / "s.csv", spec, ["a", "b"], sizes=SIZES) == []
    assert read_values(tmp_path / "s.csv", spec, sizes=SIZES)["a"].masks == (mask_to_coco(FIRST),)


def test_values_are_asked_for_once_each(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    asked: list[int] = []

    class Lazy(Sequence):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> np.ndarray:
            asked.append((0, 1)[index])
            return (FIRST, SECOND)[index]

    spec = make_boxes_spec("rle", sample="id,value\nb,\na,\n")
    path = write_submission(tmp_path / "s.csv", ["a", "b"], Lazy(), spec, sizes=SIZES)
    assert path.read_text() == "id,value\nb,4 1 6 1\na,1 1 3 2\n" and asked == [1, 0]


def test_severstal_rows(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec(
        "rle", {"id": "ImageId_ClassId", "value": "EncodedPixels"}, rows="class", pattern="{id}_{number}"
    )
    value = detections(SECOND, FIRST, SECOND, labels=[1, 0, 0], scores=[0.9, 0.8, 0.2])
    text = written(spec, tmp_path, value, np.stack([FIRST, SECOND]), classes=CLASSES, threshold=0.5)
    assert text == "ImageId_ClassId,EncodedPixels\na_1,1 1 3 2\na_2,4 1 6 1\nb_1,1 1 3 2\nb_2,4 1 6 1\n"
    found = read_values(tmp_path / "s.csv", spec, classes=CLASSES, sizes=SIZES)
    assert found["a"].labels.tolist() == [0, 1] and found["a"].masks == tuple(map(mask_to_coco, (FIRST, SECOND)))


def test_a_row_an_object(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    columns = {"id": "ImageId", "value": "EncodedPixels", "class": "ClassId"}
    spec = make_boxes_spec("rle", columns, rows="instance", labels=1, empty="0 0")
    value = detections(SECOND, FIRST, FIRST, labels=[1, 0, 1], scores=[0.4, 0.9, 0.3])
    text = written(spec, tmp_path, value, Detections.empty(), classes=CLASSES)
    assert text == "ImageId,EncodedPixels,ClassId\na,1 1 3 2,1\na,6 1,2\nb,0 0,\n"
    found = read_values(tmp_path / "s.csv", spec, classes=CLASSES, sizes=SIZES)
    assert found["a"].labels.tolist() == [0, 1] and len(found["b"]) == 0
    path = tmp_path / "s.csv"
    for content, message in (
        ("a,1 2,1\na,2 2,2\nb,1 1,1\n", "images have objects that share pixels (1): 'a'"),
        ("a,1 2,1\na,0 0,\nb,1 1,1\n", "images have an empty row beside others (1): 'a'"),
        ("a,1 2,3\nb,1 1,1\n", "column 'ClassId' has a label that is not a class of this competition (1): line 2 '3'"),
        ("a,1 2,1\n", "ids are missing (1): 'b'"),
        ("a,1 2,1\nb,1 1,1\nc,1 1,1\n", "ids are not in the test set (1): line 4 'c'"),
    ):
        path.write_text("ImageId,EncodedPixels,ClassId\n" + content)
        problems = validate_submission(path, spec, ["a", "b"], classes=CLASSES, sizes=SIZES)
        assert len(problems) == 1 and message in problems[0], problems


MASKS = st.integers(0, 4).flatmap(lambda n: hnp.arrays(bool, (n, 5, 7)))


@given(masks=MASKS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("encoding", ["coco", "coco_json"])
def test_round_trip_of_coco(masks: np.ndarray, encoding: str, make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    mask = masks.any(axis=0) if len(masks) else np.zeros((5, 7), bool)
    spec, sizes = make_boxes_spec("rle", encoding=encoding), {"a": (7, 5)}
    path = write_submission(tmp_path / "s.csv", ["a"], [mask], spec, sizes=sizes)
    assert validate_submission(path, spec, ["a"], sizes=sizes) == []
    found = [coco_to_mask(text, (7, 5)) for text in read_values(path, spec, sizes=sizes)["a"].masks or ()]
    assert len(found) == mask.any() and all(np.array_equal(other, mask) for other in found)


@given(masks=MASKS, order=st.sampled_from(["column", "row"]), base=st.sampled_from([0, 1]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(
    masks: np.ndarray, order: str, base: int, make_boxes_spec: MakeSpec, tmp_path: Path
) -> None:
    masks = masks[masks.any(axis=(1, 2))]
    number, known = len(masks), {"classes": CLASSES, "sizes": {"a": (7, 5)}}
    value = Detections(np.tile([0.0, 0, 7, 5], (number, 1)), np.linspace(1, 0.5, number), np.arange(number) % 2)
    value = Detections(value.boxes, value.scores, value.labels, tuple(map(mask_to_coco, masks)))
    taken = np.zeros((5, 7), bool)
    apart = []
    for mask in masks:
        apart.append(mask & ~taken)
        taken |= mask
    unions = [masks[value.labels == label].any(axis=0) for label in (0, 1)]
    for rows, expected in (("image", [taken]), ("class", unions), ("instance", apart)):
        spec = make_boxes_spec("rle", rows=rows, order=order, index_base=base)
        path = write_submission(tmp_path / "s.csv", ["a"], [value], spec, **known)
        assert validate_submission(path, spec, ["a"], **known) == []
        found = [coco_to_mask(text, (7, 5)) for text in read_values(path, spec, **known)["a"].masks or ()]
        expected = [mask for mask in expected if mask.any()]
        assert len(found) == len(expected)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("options", "cell", "message"),
    [
        ({"encoding": "coco"}, "01", "does not cover the image (1): line 2 1 pixels, expected 6"),
        ({"encoding": "coco"}, "é", "a character that COCO's compressed counts do not have"),
        ({"encoding": "coco_json"}, "01110O", "is not JSON with size and counts (1): line 2 '01110O'"),
        ({"encoding": "coco_json"}, '"{""size"": [3, 2], ""counts"": ""6""}"', "2×3, expected 3×2"),
        ({"encoding": "coco_json"}, '"{""size"": [2, 3], ""counts"": 6}"', "neither a text nor a list of numbers"),
        ({"encoding": "coco_json"}, '"{""size"": [2, 3], ""counts"": [7, -1]}"', "holds a negative count"),
        ({"separator": ",", "pair_separator": " "}, '"1,2 3"', "has a pair that is not a start and a length"),
        ({"separator": ","}, "1 2", "holds a token that is not a whole number (1): line 2 '1 2'"),
    ],
)
def test_each_fault_of_the_other_encodings(
    options: dict[str, Any], cell: str, message: str, make_boxes_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_boxes_spec("rle", **options)
    path = tmp_path / "mine.csv"
    path.write_text(f"id,value\na,{cell}\n")
    problems = validate_submission(path, spec, ["a"], sizes=SIZES)
    assert len(problems) == 1 and message in problems[0], problems


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "is empty (1): line 2 '' (id 'a'). Expected ascending runs 'start length', pixels counted from 1 down"),
        ("1 2 3", "has an odd number of tokens, not pairs of start and length (1): line 2 3 tokens"),
        ("1 2 ", "holds a token that is not a whole number (1): line 2 ''"),
        ("0 2", "has a run that starts before pixel 1 (1): line 2 run '0 2'"),
        ("4 1 1 1", "has runs that are not in ascending order (1): line 2 run '1 1'"),
        ("1 3 2 1", "has runs that overlap (1): line 2 run '2 1'"),
        ("1 0", "has a run whose length is not positive"),
        ("1 2 5 3", "has a run that reaches beyond the image (1): line 2 run '5 3'"),
    ],
)
def test_each_fault_is_named(cell: str, message: str, make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("rle", empty="-1")
    path = tmp_path / "mine.csv"
    path.write_text(f"id,value\na,{cell}\n")
    problems = validate_submission(path, spec, ["a"], sizes=SIZES)
    assert len(problems) == 1 and message in problems[0], problems


def test_refusals(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    image, by_class = make_boxes_spec("rle"), make_boxes_spec("rle", rows="class")
    box = Detections([[0, 0, 1, 1]], [1], [0])
    known = {"classes": CLASSES}
    for spec, value, sizes, message in (
        (image, box, SIZES, "needs masks, and the detections of 'a' have boxes only"),
        (image, detections(FIRST), None, "that of 'a' is not known"),
        (image, detections(FIRST), [(4, 4)], "a mask of the image 'a' does not cover the image: 6 pixels"),
        (image, FIRST, [(2, 3)], "the mask of 'a' is 3×2 pixels, and the image 2×3"),
        (image, FIRST.astype(float), SIZES, "the mask of 'a' is float64, expected bool"),
        (by_class, FIRST, None, r"shape \(2, 3\), expected \(height, width\) or \(2, height, width\)"),
        (by_class, detections(FIRST, labels=[2]), SIZES, "the class 2; there are 2"),
    ):
        with pytest.raises(ProjectError, match=message):
            write_submission(tmp_path / "s.csv", ["a"], [value], spec, sizes=sizes, **known)
    path = write_submission(tmp_path / "s.csv", ["a"], [FIRST], image)
    assert validate_submission(path, image, ["a"]) == []
    with pytest.raises(ProjectError, match="masks need the size of each image, and that of 'a'"):
        read_values(path, image)


def test_warning_of_empty_masks(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("rle", sample="id,value\na,\nb,\n")
    path = write_submission(tmp_path / "s.csv", ["a", "b"], [np.zeros((2, 3), bool)] * 2, spec)
    assert submission_warnings(path, spec) == ["all masks are empty.", "the file equals the sample submission."]
    write_submission(path, ["a", "b"], [FIRST, SECOND], spec)
    assert submission_warnings(path, spec) == []
