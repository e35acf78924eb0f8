"""`coco`: the results file that pycocotools loads, there and back, and each faulty entry named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.boxes.run_length import mask_to_coco
from src.boxes.types import Detections
from src.competition import Competition
from src.errors import ProjectError
from src.submission.formats import FORMATS, write_submission
from src.submission.validate import InvalidSubmission, read_values, submission_warnings, validate_submission

MakeSpec = Callable[..., Competition]
SIZES = {"42": (100, 50), "7": (10, 10)}
KNOWN: dict[str, Any] = {"classes": ("apple", "cup"), "category_ids": (3, 90), "sizes": SIZES}
IDS = ["42", "7"]
TWO = Detections([[10.1, 20.2, 30, 40.5], [0, 0, 100, 50]], [0.25, 0.93], [0, 1])


def test_golden_file(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("coco", {})
    path = write_submission(tmp_path / "s.json", IDS, [TWO, Detections.empty()], spec, **KNOWN)
    assert path.read_text() == (
        "[\n"
        '{"image_id": 42, "category_id": 90, "bbox": [0.0, 0.0, 100.0, 50.0], "score": 0.93},\n'
        '{"image_id": 42, "category_id": 3, "bbox": [10.1, 20.2, 19.9, 20.3], "score": 0.25}\n'
        "]\n"
    )
    assert validate_submission(path, spec, IDS, **KNOWN) == [] and FORMATS["coco"].suffix == ".json"
    found = read_values(path, spec, IDS, **KNOWN)
    assert list(found) == IDS and len(found["7"]) == 0 and found["42"].labels.tolist() == [1, 0]
    assert list(read_values(path, spec, **KNOWN)) == ["42"]


def test_text_ids_and_masks(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("coco", {}, image_id="str", decimals=0, segmentation=True)
    mask = np.zeros((50, 100), bool)
    mask[2:5, 3:9] = True
    value = Detections([[2.6, 2, 9, 5]], [0.5], [0], (mask_to_coco(mask),))
    known = {"classes": ("apple",), "sizes": {"img/007.jpg": (100, 50)}}
    path = write_submission(tmp_path / "s.json", ["img/007.jpg"], [value], spec, **known)
    assert json.loads(path.read_text()) == [
        {
            "image_id": "img/007.jpg",
            "category_id": 0,
            "bbox": [3, 2, 6, 3],
            "score": 0.5,
            "segmentation": {"size": [50, 100], "counts": mask_to_coco(mask)},
        }
    ]
    assert validate_submission(path, spec, ["img/007.jpg"], **known) == []
    assert read_values(path, spec, ["img/007.jpg"], **known)["img/007.jpg"].masks == (mask_to_coco(mask),)


def test_pycocotools_loads_it(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    truth = coco.COCO()
    truth.dataset = {
        "images": [{"id": 42, "width": 100, "height": 50}, {"id": 7, "width": 10, "height": 10}],
        "categories": [{"id": 3, "name": "apple"}, {"id": 90, "name": "cup"}],
        "annotations": [],
    }
    truth.createIndex()
    path = write_submission(tmp_path / "s.json", IDS, [TWO, TWO.select([1])], make_boxes_spec("coco", {}), **KNOWN)
    loaded = truth.loadRes(str(path))
    assert sorted(a["category_id"] for a in loaded.loadAnns(loaded.getAnnIds(imgIds=[42]))) == [3, 90]
    assert loaded.loadAnns(loaded.getAnnIds(imgIds=[7]))[0]["bbox"] == [0, 0, 10, 10]


def test_which_boxes_are_written(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    boxes = [[1, 1, 3, 3], [1.2, 1.2, 3.2, 3.2], [5, 5, 5, 9], [-4, 0, 5, 5], [0, 0, 1, 1]]
    value = Detections(boxes, [0.9, 0.8, 0.7, 0.6, 0.3], [0, 0, 0, 0, 1])
    spec = make_boxes_spec("coco", {}, decimals=0, max_boxes=2, min_score=0.1)
    path = write_submission(tmp_path / "s.json", ["42"], [value], spec, **KNOWN)
    assert [entry["bbox"] for entry in json.loads(path.read_text())] == [[1, 1, 2, 2], [0, 0, 5, 5]]


ROWS = st.lists(
    st.tuples(
        st.floats(0, 90), st.floats(0, 40), st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0, 1), st.booleans()
    ),
    max_size=6,
    unique_by=lambda row: row[:4],
)


@given(rows=ROWS, decimals=st.sampled_from([None, 0, 2]), kind=st.sampled_from(["int", "str"]))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(
    rows: list[Any], decimals: int | None, kind: str, make_boxes_spec: MakeSpec, tmp_path: Path
) -> None:
    boxes = [[x, y, x + w, y + h] for x, y, w, h, _, _ in rows]
    value = Detections(boxes, [row[4] for row in rows], [int(row[5]) for row in rows])
    spec = make_boxes_spec("coco", {}, decimals=decimals, image_id=kind)
    path = write_submission(tmp_path / "s.json", IDS, [value, Detections.empty()], spec, **KNOWN)
    assert validate_submission(path, spec, IDS, **KNOWN) == []
    found = read_values(path, spec, IDS, **KNOWN)["42"]
    best = value.select(np.argsort(-value.scores, kind="stable"))
    if decimals == 0:  # boxes that became alike are one
        assert set(found.scores) <= set(best.scores) and set(found.labels) <= set(best.labels)
        return
    assert found.scores.tolist() == best.scores.tolist() and found.labels.tolist() == best.labels.tolist()
    assert np.allclose(found.boxes, best.boxes, rtol=0, atol=1e-9 if decimals is None else 0.01)


GOOD = {"image_id": 42, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}
MASK = {"size": [50, 100], "counts": mask_to_coco(np.ones((50, 100), bool))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 43}, "entries have an image_id that is not in the test set (1): entry 1 (43 Did you mean '42'?)"),
        ({"image_id": "42"}, "entries have an image_id that is not a whole number (1): entry 1 ('42')"),
        ({"image_id": True}, "entries have an image_id that is not a whole number"),
        ({"category_id": 1}, "entries have a category_id that is no class (1): entry 1 (1). The ids are 3, 90."),
        ({"category_id": "apple"}, "entries have a category_id that is not a whole number (1): entry 1 ('apple')"),
        ({"score": 1.5}, "entries have a score outside [0, 1] (1): entry 1 (1.5)"),
        ({"score": float("nan")}, "entries have a score that is not a finite number (1): entry 1 (nan)"),
        ({"score": "0.5"}, "entries have a score that is not a finite number"),
        ({"bbox": [1, 2, 3]}, "entries have a bbox that is not four numbers (1): entry 1 ([1, 2, 3])"),
        ({"bbox": [1, 2, float("inf"), 4]}, "entries have a bbox that holds other than finite numbers"),
        ({"bbox": [1, 2, 10**400, 4]}, "entries have a bbox that holds other than finite numbers"),
        ({"bbox": [1, 2, -3, 4]}, "entries have a bbox whose width or height is not positive"),
        ({"bbox": [-1, 2, 3, 4]}, "entries have boxes outside the image (negative coordinates)"),
        ({"bbox": [1, 2, 100, 4]}, "outside the image (beyond its size) (1): entry 1 ([1, 2, 100, 4], image 100×50)"),
        ({"bbox": [9, 9, 9, 9], "segmentation": [[1, 2]]}, "entries have a segmentation that is no run-length mask"),
        ({"bbox": [9, 9, 9, 9], "segmentation": MASK | {"size": [100, 50]}}, "a mask of another size than the image"),
        ({"bbox": [9, 9, 9, 9], "segmentation": MASK | {"counts": "1"}}, "a mask that does not cover its image"),
        ({"bbox": [9, 9, 9, 9], "segmentation": MASK | {"counts": "X"}}, "have a mask whose text is cut off"),
        ({}, "entries repeat a box of the same image and category (1): entry 1 ([1, 2, 3, 4]). Keep one of them."),
    ],
)  # fmt: skip
def test_each_fault_is_named(
    change: dict[str, Any], message: str, make_boxes_spec: MakeSpec, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([GOOD, GOOD | change]))
    problems = validate_submission(path, make_boxes_spec("coco", {}), IDS, **KNOWN)
    assert len(problems) == 1 and message in problems[0], problems
    assert problems[0].endswith(".")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: cannot be parsed as JSON"),
        (b'[\n{"image_id": 1,}]', "line 2: cannot be parsed as JSON"),
        (b'{"annotations": []}', "the file holds a COCO data set, expected the list of results alone"),
        (b'{"a": 1}', "the file holds a JSON dict. Expected a list"),
        (b"\xef\xbb\xbf[]", "begins with a byte order mark"),
        ("[]".encode("utf-16"), "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[3]", "entries are not objects (1): entry 0 (3)"),
        (b'[{"image_id": 42, "category": 3, "bbox": [1, 2, 3, 4], "score": 1}]', "lack 'category_id' (1): entry 0 ("),
    ],
)
def test_files_that_are_no_list_of_entries(
    content: bytes, message: str, make_boxes_spec: MakeSpec, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    problems = validate_submission(path, make_boxes_spec("coco", {}), IDS, **KNOWN)
    assert len(problems) == 1 and message in problems[0], problems
    assert "does not exist" in validate_submission(tmp_path / "no.json", make_boxes_spec("coco", {}), IDS, **KNOWN)[0]


def test_options_of_the_validator(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([GOOD, GOOD | {"bbox": [0, 0, 1, 1]}]))
    problems = validate_submission(path, make_boxes_spec("coco", {}, max_boxes=1), IDS, **KNOWN)
    assert problems == ["images have more than 1 boxes (1): 42 (2). Keep the best by score."]
    problems = validate_submission(path, make_boxes_spec("coco", {}, segmentation=True), IDS, **KNOWN)
    assert "entries lack 'segmentation' (2): entry 0, entry 1" in problems[0]
    with pytest.raises(InvalidSubmission, match="1 problem"):
        raise InvalidSubmission(path, problems)


def test_refusals(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec, masks = make_boxes_spec("coco", {}), make_boxes_spec("coco", {}, segmentation=True)
    label = Detections([[0, 0, 1, 1]], [0.5], [2])
    for specs, name, value, message in (
        (spec, "a.jpg", TWO, "the id 'a.jpg' is not a whole number.*image_id: str"),
        (spec, "42", label, "the image '42' has the class 2; the competition has 2"),
        (masks, "42", TWO, "options.segmentation needs masks"),
    ):
        with pytest.raises(ProjectError, match=message):
            write_submission(tmp_path / "s.json", [name], [value], specs, **KNOWN)
    with pytest.raises(ProjectError, match="the ids '7' and '007' are one image_id, 7"):
        write_submission(tmp_path / "s.json", ["7", "007"], [TWO, TWO], spec, **KNOWN)
    assert not (tmp_path / "s.json").exists()


def test_warnings(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("coco", {}, sample=json.dumps([GOOD]))
    path = write_submission(tmp_path / "s.json", IDS, [Detections.empty()] * 2, spec, **KNOWN)
    assert submission_warnings(path, spec) == ["the file has no entry: nothing is found in any image."]
    path.write_text(json.dumps([GOOD]))
    assert submission_warnings(path, spec) == ["the file equals the sample submission."]
