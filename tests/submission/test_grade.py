"""Grading by the solution: ids join as text, values equal scikit-learn's, an invalid file is never graded."""

from collections.abc import Callable
from pathlib import Path

import pytest

from src.competition import Competition
from src.submission.formats import write_submission
from src.submission.grade import grade
from src.submission.validate import InvalidSubmission

IDS = ["007", "012", "part 3", "불량-4", "105"]
LABELS = [0, 1, 0, 1, 0]


def test_scores(spec: Competition, tmp_path: Path) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    scores = [0.3, 0.2, 0.1, 0.9, 0.2]
    found = grade(write_submission(tmp_path / "s.csv", IDS, scores, spec), spec)
    assert found["name"] == "auroc" and found["mode"] == "max" and found["n_anomalous"] == 2
    assert found["metric"] == found["auroc"] == pytest.approx(sk.roc_auc_score(LABELS, scores), abs=1e-12)
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(LABELS, scores), abs=1e-12)


def test_labels(label_spec: Competition, tmp_path: Path) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    path = write_submission(tmp_path / "s.csv", IDS, [0.9, 0.9, 0.1, 0.2, 0.1], label_spec, threshold=0.5)
    found = grade(path, label_spec)
    assert found["metric"] == pytest.approx(sk.f1_score(LABELS, [1, 1, 0, 0, 0], average="macro"), abs=1e-12)
    assert found["accuracy"] == 0.6 and "auroc" not in found


def test_a_metric_that_the_file_cannot_give(make_spec: Callable[..., Competition], tmp_path: Path) -> None:
    for metric in ("f1", "pixel_auroc"):
        spec = make_spec(metric=metric)
        found = grade(write_submission(tmp_path / "s.csv", IDS, [1, 2, 3, 4, 5], spec), spec)
        assert found["metric"] is None and found["auroc"] is not None


def test_no_solution(make_spec: Callable[..., Competition], tmp_path: Path) -> None:
    spec = make_spec(solution=None)
    assert grade(write_submission(tmp_path / "s.csv", IDS, [1, 2, 3, 4, 5], spec), spec) is None


def test_an_invalid_file_is_not_graded(spec: Competition, tmp_path: Path) -> None:
    path = write_submission(tmp_path / "s.csv", IDS, [1, 2, 3, 4, 5], spec)
    path.write_text(path.read_text("utf-8").replace("007", "7"), encoding="utf-8")
    with pytest.raises(InvalidSubmission, match="leading zeros"):
        grade(path, spec)
