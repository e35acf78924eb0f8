"""`prediction_string`: the competitions' own rows, every variant there and back, and each fault named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.boxes.types import Detections
from src.competition import Competition
from src.errors import ProjectError
from src.submission.formats import write_submission
from src.submission.validate import read_values, submission_warnings, validate_submission

MakeSpec = Callable[..., Competition]
CLASSES = ("사과", "바나나", "컵")
NOTHING = Detections.empty()
APPLE = Detections([[10.1, 20.2, 300.4, 400.5]], [0.93], [0])


def written(spec: Competition, tmp_path: Path, values: dict[str, Detections], **known: Any) -> str:
    path = write_submission(tmp_path / "s.csv", list(values), list(values.values()), spec, **known)
    assert validate_submission(path, spec, list(values), **known) == []
    return path.read_bytes().decode()


def problems(spec: Competition, tmp_path: Path, cell: str, **known: Any) -> list[str]:
    path = tmp_path / "mine.csv"
    path.write_text(f'id,value\na,"{cell}"\n', encoding="utf-8")
    return validate_submission(path, spec, ["a"], **known)


def test_boostcamp_rows(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    columns = {"value": "PredictionString", "id": "image_id"}
    spec = make_boxes_spec("prediction_string", columns, trailing_space=True)
    two = Detections([[0, 1, 2, 3], [10.1, 20.2, 300.4, 400.5]], [0.5, 0.93], [0, 5])
    values = {"test/0000.jpg": two.select([1]), "test/0001.jpg": NOTHING, "test/0002.jpg": two}
    assert written(spec, tmp_path, values, classes=[str(i) for i in range(10)]) == (
        "PredictionString,image_id\n"
        "5 0.93 10.1 20.2 300.4 400.5 ,test/0000.jpg\n"
        ",test/0001.jpg\n"
        "5 0.93 10.1 20.2 300.4 400.5 0 0.5 0.0 1.0 2.0 3.0 ,test/0002.jpg\n"
    )


def test_siim_rows(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    columns = {"id": "Id", "value": "PredictionString"}
    spec = make_boxes_spec("prediction_string", columns, labels="name", empty="none 1 0 0 1 1", decimals=0)
    values = {"2b95d54e4be68_image": NOTHING, "2b95d54e4be69_image": APPLE}
    assert written(spec, tmp_path, values, classes=["opacity"]) == (
        "Id,PredictionString\n"
        "2b95d54e4be68_image,none 1 0 0 1 1\n"
        "2b95d54e4be69_image,opacity 0.93 10 20 300 400\n"
    )


def test_vinbigdata_rows(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("prediction_string", {"id": "ID", "value": "TARGET"}, empty="14 1 0 0 1 1", integer=True)
    classes = [f"finding {i}" for i in range(14)]
    values = {"004f": NOTHING, "008b": Detections([[10.4, 20.6, 30, 40]], [0.25], [13])}
    assert written(spec, tmp_path, values, classes=classes) == (
        "ID,TARGET\n004f,14 1 0 0 1 1\n008b,13 0.25 10 21 30 40\n"
    )
    path = tmp_path / "s.csv"
    path.write_text("ID,TARGET\n004f,14 0.8 0 0 1 1 3 0.2 5 6 7 8\n008b,14 1 0 0 1 1\n")
    assert validate_submission(path, spec, ["004f", "008b"], classes=classes, sizes=[(100, 100)] * 2) == []
    found = read_values(path, spec, classes=classes)
    assert found["004f"].labels.tolist() == [3] and len(found["008b"]) == 0


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ({}, "0 0.93 10.1 20.2 300.4 400.5"),
        ({"labels": 1}, "1 0.93 10.1 20.2 300.4 400.5"),
        ({"labels": "name"}, "사과 0.93 10.1 20.2 300.4 400.5"),
        ({"labels": "category_id"}, "7 0.93 10.1 20.2 300.4 400.5"),
        ({"labels": {"사과": "apple", "바나나": "banana", "컵": 3}}, "apple 0.93 10.1 20.2 300.4 400.5"),
        ({"box": "xywh", "decimals": 1}, "0 0.93 10.1 20.2 290.3 380.3"),
        ({"box": "cxcywh", "decimals": 2}, "0 0.93 155.25 210.35 290.30 380.30"),
        ({"normalized": True, "decimals": 3}, "0 0.93 0.020 0.020 0.601 0.400"),
        ({"order": ["x", "y", "w", "h", "score", "label"], "integer": True}, "10 20 290 380 0.93 0"),
        ({"separator": ";"}, "0;0.93;10.1;20.2;300.4;400.5"),
    ],
)
def test_variants(options: dict[str, Any], row: str, make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("prediction_string", **options)
    known = {"classes": CLASSES, "category_ids": [7, 9, 11], "sizes": {"a": (500, 1000)}}
    assert written(spec, tmp_path, {"a": APPLE}, **known) == f"id,value\na,{row}\n"
    found = read_values(tmp_path / "s.csv", spec, **known)["a"]
    assert found.labels.tolist() == [0] and found.scores.tolist() == [0.93]
    assert np.abs(found.boxes - APPLE.boxes).max() <= 0.5


def test_one_class_without_label_and_boxes_apart(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    order = ["score", "x", "y", "w", "h"]
    spec = make_boxes_spec("prediction_string", order=order, separator=",", box_separator="|", decimals=0)
    two = Detections([[1, 2, 3, 5], [4, 4, 8, 8]], [0.25, 0.75], [0, 0])
    assert written(spec, tmp_path, {"a": two}, classes=["wheat"]) == 'id,value\na,"0.75,4,4,4,4|0.25,1,2,2,3"\n'
    assert read_values(tmp_path / "s.csv", spec)["a"].boxes.tolist() == [[4, 4, 8, 8], [1, 2, 3, 5]]
    with pytest.raises(ProjectError, match="has no label, and the competition has several classes"):
        write_submission(tmp_path / "s.csv", ["a"], [two], spec, classes=CLASSES)


def test_which_boxes_are_written(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    boxes = [[1, 1, 2, 2], [3, 3, 4, 4], [5, 5, 6, 6], [-5, 7, 8, 90], [9, 9, 9, 12], [60, 0, 70, 5]]
    found = Detections(boxes, [0.1, 0.2, 0.3, 0.9, 0.8, 0.7], [0] * 6)
    for options, threshold, row in (
        ({"integer": True}, None, "0 0.9 0 7 8 50 0 0.3 5 5 6 6 0 0.2 3 3 4 4 0 0.1 1 1 2 2"),
        ({"integer": True, "min_score": 0.2}, None, "0 0.9 0 7 8 50 0 0.3 5 5 6 6 0 0.2 3 3 4 4"),
        ({"integer": True, "min_score": 0.2}, 0.25, "0 0.9 0 7 8 50 0 0.3 5 5 6 6"),
        ({"integer": True, "max_boxes": 2}, 0.2, "0 0.9 0 7 8 50 0 0.3 5 5 6 6"),
    ):
        spec = make_boxes_spec("prediction_string", **options)
        path = write_submission(tmp_path / "s.csv", ["a"], [found], spec, threshold=threshold, sizes={"a": (50, 50)})
        assert path.read_text() == f"id,value\na,{row}\n"


def test_thin_boxes_keep_an_area(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("prediction_string", integer=True)
    thin = Detections([[4.6, 4.1, 5.4, 9], [9.7, 0.2, 10, 0.4]], [0.5, 0.4], [0, 0])
    text = written(spec, tmp_path, {"a": thin}, sizes={"a": (10, 10)})
    assert text == "id,value\na,0 0.5 4 4 6 9 0 0.4 9 0 10 1\n"


SIZE = (640, 480)
BOXES = st.tuples(
    st.floats(0, 639, width=32), st.floats(0, 479, width=32), st.floats(0.01, 640), st.floats(0.01, 480)
).map(lambda b: [b[0], b[1], min(b[0] + b[2], 640.0), min(b[1] + b[3], 480.0)])
DETECTIONS = st.lists(st.tuples(BOXES, st.floats(0, 1), st.integers(0, 2)), max_size=6).map(
    lambda rows: Detections([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
)
VARIANTS = st.fixed_dictionaries(
    {
        "box": st.sampled_from(["xyxy", "xywh", "cxcywh"]),
        "labels": st.sampled_from(["index", "name", "category_id", 1, {"사과": "a", "바나나": "b", "컵": "c"}]),
        "normalized": st.booleans(),
        "decimals": st.sampled_from([None, 0, 2, 5]),
        "trailing_space": st.booleans(),
        "empty": st.sampled_from(["", " ", "none 1 0 0 1 1", "14 1 0 0 1 1"]),
        "separator": st.sampled_from([" ", ";", ","]),
        "box_separator": st.sampled_from([None, "|"]),
    }
)


@given(found=DETECTIONS, options=VARIANTS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(
    found: Detections, options: dict[str, Any], make_boxes_spec: MakeSpec, tmp_path: Path
) -> None:
    if options["normalized"] and options["decimals"] == 0:
        options["decimals"] = 4
    spec = make_boxes_spec("prediction_string", **options)
    known = {"classes": CLASSES, "category_ids": (3, 5, 20), "sizes": {"a": SIZE, "b": SIZE}}
    path = write_submission(tmp_path / "s.csv", ["a", "b"], [found, NOTHING], spec, **known)
    assert validate_submission(path, spec, ["a", "b"], **known) == []
    values = read_values(path, spec, **known)
    assert len(values["b"]) == 0
    best = found.select(np.argsort(-found.scores, kind="stable"))
    assert values["a"].labels.tolist() == best.labels.tolist()
    # float32 scores have float32's digits, and its smallest numbers have few of them
    assert np.allclose(values["a"].scores, best.scores, rtol=1e-7, atol=1e-44)
    unit = 1e-4 if options["decimals"] is None else 10.0 ** -options["decimals"] * (640 if options["normalized"] else 1)
    assert np.allclose(values["a"].boxes, best.boxes, rtol=0, atol=1.501 * unit)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "is empty (1): line 2 '' (id 'a'). Expected 'label score x1 y1 x2 y2', one box after another, or 'none"),
        ("0 0.9 1 2 3", "does not have a multiple of 6 tokens (1): line 2 5 tokens, '0 0.9 1 2 3' (id 'a')"),
        ("0 0.9 1 2 3 4 ", "ends with a space"),
        (" 0 0.9 1 2 3 4", "begins with a space"),
        ("0 0.9  1 2 3 4", "has two spaces in a row (1): line 2 '0 0.9  1 2 3 4' (id 'a')"),
        ("0,0.9,1,2,3,4", "separates tokens by ','"),
        ("0 0.9, 1 2 3 4", "has a comma among its numbers (1): line 2 box 1: '0.9,'"),
        ("0 0.9 1 2 nan 4", "holds NaN or infinity (1): line 2 box 1: 'nan'"),
        ("0 0.9 1 2 1e999 4", "holds a number too large for a float"),
        ("0 0.9 1 2 3px 4", "holds a token that is not a number (1): line 2 '3px'"),
        ("0 0.9 1 2 3_0 4", "holds a token that is not a number (1): line 2 '3_0'"),
        ("0 93 1 2 3 4", "has a score outside [0, 1] (1): line 2 box 1: '0 93 1 2 3 4'"),
        ("0 -0.1 1 2 3 4", "has a score outside [0, 1]"),
        ("3 0.9 1 2 3 4", "has a label that is not a class of this competition (1): line 2 box 1: '3'"),
        ("3 0.9 1 2 3 4", "Classes are written '0', '1', '2'"),
        ("1.0 0.9 1 2 3 4", "has a label with a decimal point (1): line 2 box 1: '1.0'"),
        ("0 0.9 1 2 3 4 0 0.8 30 20 10 40", "x2 ≤ x1 or y2 ≤ y1 (1): line 2 box 2: '0 0.8 30 20 10 40'"),
        ("0 0.9 -3 2 3 4", "has boxes outside the image (negative coordinates) (1): line 2 box 1: '0 0.9 -3 2 3 4'"),
        ("0 0.9 1 2 3 101", "has boxes outside the image (beyond its size)"),
        ("0 0.9 201 2 203 4", "has boxes outside the image (beyond its size)"),
        (" ".join(["0 0.9 1 2 3 4"] * 4), "has more than 3 boxes (1): line 2 4 boxes"),
    ],
)
def test_each_fault_is_named(cell: str, message: str, make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("prediction_string", empty="none 1 0 0 1 1", max_boxes=3)
    found = problems(spec, tmp_path, cell, classes=CLASSES, sizes={"a": (200, 100)})
    assert len(found) == 1 and message in found[0], found
    assert found[0].startswith("rows where column 'value' ") and found[0].endswith(".")


@pytest.mark.parametrize(
    ("options", "cell", "message"),
    [
        ({"trailing_space": True}, "0 0.9 1 2 3 4", "has no space at the end"),
        ({"trailing_space": True}, "0 0.9 1 2 3 4  ", "ends with several spaces"),
        ({"integer": True}, "0 0.9 1 2 3.0 4", "has coordinates that are not whole numbers (1): line 2 '3.0'"),
        ({"box": "xywh"}, "0 0.9 1 2 0 4", "whose width or height is not positive"),
        ({"box": "xywh"}, "0 0.9 150 2 60 4", "outside the image (beyond its size)"),
        ({"normalized": True}, "0 0.9 1 2 3 4", "outside the image (beyond its size)"),
        ({"labels": "name"}, "0 0.9 1 2 3 4", "not a class of this competition (1): line 2 box 1: '0'"),
        ({"labels": "name"}, "바나 0.9 1 2 3 4", "'바나' Did you mean '바나나'?"),
        ({"labels": 1}, "0 0.9 1 2 3 4", "not a class of this competition (1): line 2 box 1: '0'"),
        ({"empty": " "}, "", "is blank in another way than expected"),
        ({"box_separator": "|"}, "0 0.9 1 2 3 4|0 0.9 1 2", "has a box of other than 6 tokens (1): line 2 '0 0.9 1 2'"),
        ({}, "none 1 0 0 1 1", "has a label that is not a class of this competition (1): line 2 box 1: 'none'"),
    ],
)
def test_faults_of_variants(
    options: dict[str, Any], cell: str, message: str, make_boxes_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_boxes_spec("prediction_string", **options)
    found = problems(spec, tmp_path, cell, classes=CLASSES, sizes={"a": (200, 100)})
    assert len(found) == 1 and message in found[0], found


def test_without_classes_and_sizes(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("prediction_string")
    assert problems(spec, tmp_path, "99 0.9 1 2 3000 4") == []
    assert "is not a class" in problems(spec, tmp_path, "x 0.9 1 2 3 4")[0]
    with pytest.raises(ProjectError, match="labels: name needs the competition's classes"):
        problems(make_boxes_spec("prediction_string", labels="name"), tmp_path, "x 0.9 1 2 3 4")


def test_refusals_write_nothing(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    path, spec = tmp_path / "s.csv", make_boxes_spec("prediction_string", labels="name")
    mapped = make_boxes_spec("prediction_string", labels={"사과": "a"})
    twice = make_boxes_spec("prediction_string", labels={"사과": "a", "바나나": "a", "컵": "c"})
    normal = make_boxes_spec("prediction_string", normalized=True)
    for specs, value, known, message in (
        (spec, APPLE, {"classes": ["traffic light"]}, "'traffic light' cannot be written .* {traffic light: traffic_l"),
        (spec, APPLE, {}, "needs the competition's classes"),
        (spec, Detections([[0, 0, 1, 1]], [0.5], [3]), {"classes": CLASSES}, "class 3, and the competition has 3"),
        (mapped, APPLE, {"classes": CLASSES}, "the class '바나나' has no text"),
        (mapped, APPLE, {"classes": ["사과나무"]}, "'사과' is not a class of the competition. Did you mean '사과나무'"),
        (twice, APPLE, {"classes": CLASSES}, "two classes are written 'a'"),
        (normal, APPLE, {}, "normalised boxes need the size of each image, and that of 'a'"),
        (normal, Detections([[0, 0, 1, 1]], [1.5], [0]), {}, "has a box with the score 1.5, outside"),
        (normal, np.zeros(3), {}, "'a' has ndarray"),
        (spec, APPLE, {"classes": CLASSES, "category_ids": [1]}, "3 classes but 1 category ids"),
        (spec, APPLE, {"classes": CLASSES, "sizes": []}, "0 sizes but 1 ids"),
    ):
        with pytest.raises(ProjectError, match=message):
            write_submission(path, ["a"], [value], specs, **known)
    assert not path.exists()


def test_warnings(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    sample = "id,value\n007,14 1 0 0 1 1\n008,14 1 0 0 1 1\n"
    spec = make_boxes_spec("prediction_string", empty="14 1 0 0 1 1", sample=sample)
    path = tmp_path / "s.csv"
    known = {"classes": CLASSES}
    for values, expected in (
        ([APPLE, NOTHING], []),
        ([APPLE, APPLE], ["all 2 rows have the same value (the same boxes)."]),
        ([NOTHING, NOTHING], ["no row has a box.", "the file equals the sample submission."]),
    ):
        write_submission(path, ["007", "008"], values, spec, **known)
        assert submission_warnings(path, spec, **known) == expected
