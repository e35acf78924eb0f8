"""Grading boxes, counts and masks against a solution of boxes, and the check against a manifest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.boxes.types import Detections, Truth
from src.competition import Competition
from src.errors import ProjectError
from src.metrics.detection import evaluate_boxes, voc_map
from src.submission.formats import write_submission
from src.submission.grade import grade
from src.submission.validate import InvalidSubmission, check_submission

MakeSpec = Callable[..., Competition]
IDS = ["007", "012", "100"]
CLASSES = ["사과", "컵"]
TRUTH = [
    Truth([[10, 10, 50, 50], [20, 60, 90, 95]], [0, 1]),
    Truth([], []),
    Truth([[5, 5, 30, 30], [0, 0, 100, 20]], [0, 0], [False, True]),
]
FOUND = [
    Detections([[12, 10, 50, 52], [20, 60, 50, 95], [0, 0, 9, 9]], [0.9, 0.8, 0.3], [0, 1, 0]),
    Detections.empty(),
    Detections([[5, 5, 30, 31]], [0.7], [0]),
]


@pytest.fixture
def manifest() -> pd.DataFrame:
    sizes = pd.array([100, 100, 100], dtype="Int64")
    frame = pd.DataFrame({"id": IDS, "split": "test", "width": sizes, "height": sizes})
    frame.attrs |= {"classes": CLASSES, "category_ids": [2, 5]}
    return frame


@pytest.fixture
def solution(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The solution rows that `read_solution` answers."""
    frame = pd.DataFrame({"id": IDS})
    for column in ("boxes", "labels", "ignored"):
        frame[column] = pd.Series([getattr(truth, column) for truth in TRUTH], dtype=object)
    frame["counts"] = pd.Series([truth.counts(2) for truth in TRUTH], dtype=object)
    monkeypatch.setattr("src.manifest.read_solution", lambda spec: frame)
    return frame


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("prediction_string", {}),
        ("prediction_string", {"labels": "name", "box": "xywh"}),
        ("coco", {"image_id": "str"}),
    ],
)
def test_boxes(
    form: str, options: dict[str, Any], make_boxes_spec: MakeSpec, manifest: pd.DataFrame, solution: pd.DataFrame,
    tmp_path: Path,
) -> None:  # fmt: skip
    spec = make_boxes_spec(form, {} if form == "coco" else None, metric="map50", **options)
    path = write_submission(tmp_path / "s", IDS, FOUND, spec, classes=CLASSES, category_ids=[2, 5])
    assert check_submission(path, spec, manifest) == []
    panel = grade(path, spec, manifest)
    expected = evaluate_boxes(FOUND, TRUTH, classes=CLASSES)
    assert 0 < expected["map50"] < 1 and panel["metric"] == expected["map50"]
    assert (panel["name"], panel["mode"]) == ("map50", "max")
    assert {key: panel[key] for key in expected} == expected
    voc = make_boxes_spec(form, {} if form == "coco" else None, metric="voc_map40", **options)
    assert grade(path, voc, manifest)["metric"] == voc_map(FOUND, TRUTH, n_classes=2, iou=0.4)


COUNTS = [np.array([1, 2]), np.array([0, 0]), np.array([3, 0])]  # true: 1 1, 0 0, 1 0


@pytest.mark.parametrize(
    ("form", "options", "exact", "mae"),
    [
        ("counts", {}, 4 / 6, 3 / 6),
        ("count_long", {}, 4 / 6, 3 / 6),
        ("count", {}, 1 / 3, 1.0),
        ("count", {"class": "컵"}, 2 / 3, 1 / 3),
    ],
)
def test_counts(
    form: str, options: dict[str, Any], exact: float, mae: float, make_boxes_spec: MakeSpec, manifest: pd.DataFrame,
    solution: pd.DataFrame, tmp_path: Path,
) -> None:  # fmt: skip
    columns = {"id": "id"} if form == "counts" else None
    spec = make_boxes_spec(form, columns, metric="count_mae", **options)
    path = write_submission(tmp_path / "s.csv", IDS, COUNTS, spec, classes=CLASSES)
    panel = grade(path, spec, manifest)
    assert panel["mode"] == "min" and panel["metric"] == panel["count_mae"] == pytest.approx(mae)
    assert panel["count_exact"] == pytest.approx(exact)
    boxes = make_boxes_spec(form, columns, metric="map50", **options)
    assert grade(path, boxes, manifest)["metric"] is None and "map50" not in grade(path, boxes, manifest)


def test_masks_are_not_graded(
    make_boxes_spec: MakeSpec, manifest: pd.DataFrame, solution: pd.DataFrame, tmp_path: Path
) -> None:
    spec = make_boxes_spec("rle")
    path = write_submission(tmp_path / "s.csv", IDS, [np.ones((100, 100), bool)] * 3, spec)
    assert check_submission(path, spec, manifest)
    assert grade(path, spec, manifest) == {"name": "map50", "mode": "max", "metric": None}


def test_sizes_and_classes_come_from_the_manifest(
    make_boxes_spec: MakeSpec, manifest: pd.DataFrame, solution: pd.DataFrame, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    spec = make_boxes_spec("prediction_string")
    outside = [FOUND[0], FOUND[1], Detections([[5, 5, 30, 200]], [0.7], [1])]
    path = write_submission(tmp_path / "s.csv", IDS, outside, spec)
    with pytest.raises(InvalidSubmission, match="outside the image"):
        check_submission(path, spec, manifest)
    monkeypatch.setattr("src.manifest.read_manifest", lambda spec: manifest)
    with pytest.raises(InvalidSubmission, match="outside the image"):
        grade(path, spec)
    manifest.loc[2, "height"] = pd.NA  # of an unreadable image nothing is known
    assert check_submission(path, spec, manifest) == []
    path.write_text(path.read_text().replace("1 0.7", "2 0.7"))
    with pytest.raises(InvalidSubmission, match="not a class of this competition"):
        check_submission(path, spec, manifest)


def test_a_solution_with_holes(
    make_boxes_spec: MakeSpec, manifest: pd.DataFrame, solution: pd.DataFrame, tmp_path: Path
) -> None:
    spec = make_boxes_spec("prediction_string")
    path = write_submission(tmp_path / "s.csv", IDS, FOUND, spec)
    solution.at[1, "boxes"] = None
    with pytest.raises(ProjectError, match="the solution has no boxes for id '012' and 0 more"):
        grade(path, spec, manifest)
