"""Golden files: what is written for each format, byte by byte, and what is refused before anything is written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.competition import Competition
from src.errors import ProjectError
from src.submission.formats import FORMATS, BadCell, Context, write_submission
from src.submission.validate import read_values, validate_submission

IDS = ["007", "012", "part 3", "불량-4", "105"]


def test_scores_in_the_samples_order(spec: Competition, tmp_path: Path) -> None:
    path = write_submission(tmp_path / "out" / "submission.csv", IDS, np.array([0.5, 0.1 + 0.2, 1e-7, -12.0, 3]), spec)
    assert path.read_bytes() == (
        "id,score\n"
        "불량-4,-12.0\n"
        "007,0.5\n"
        "012,0.30000000000000004\n"
        "part 3,1e-07\n"
        "105,3.0\n"
    ).encode()  # fmt: skip
    assert validate_submission(path, spec, IDS) == []
    assert [p.name for p in path.parent.iterdir()] == ["submission.csv"]


def test_float32_scores_are_short_and_keep_their_order(spec: Competition, tmp_path: Path) -> None:
    scores = np.float32([0.8312, 0.8313, 1 / 3, 2e-8, np.nextafter(np.float32(0.8312), np.float32(1))])
    expected = ["2e-08", "0.8312", "0.8313", "0.33333334", "0.83120006"]
    for values in (scores, scores.astype(np.float64), list(scores), pd.Series(scores)):
        path = write_submission(tmp_path / "submission.csv", IDS, values, spec)
        assert [line.split(",")[1] for line in path.read_text("utf-8").splitlines()[1:]] == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_round_trip(dtype: type, make_spec: Callable[..., Competition], tmp_path: Path) -> None:
    spec = make_spec(sample_submission=None, solution=None)
    scores = np.random.default_rng(0).normal(size=2000) * 10.0 ** np.arange(-20, 20).repeat(50)
    scores = scores.astype(dtype)
    ids = [f"{i:05d}" for i in range(2000)]
    written = read_values(write_submission(tmp_path / "s.csv", ids, scores, spec), spec)
    assert list(written) == ids
    assert np.array_equal(np.array(list(written.values())).astype(dtype), scores)
    assert np.array_equal(np.argsort(list(written.values()), kind="stable"), np.argsort(scores, kind="stable"))


def test_labels_in_the_test_tables_order(label_spec: Competition, tmp_path: Path) -> None:
    path = write_submission(tmp_path / "submission.csv", IDS, [0.1, 0.5, 0.49, 2.0, -1], label_spec, threshold=0.5)
    assert path.read_bytes() == (
        "index,label\n"
        '007,"정상, 양호"\n'
        "012,defect\n"
        'part 3,"정상, 양호"\n'
        "불량-4,defect\n"
        '105,"정상, 양호"\n'
    ).encode()  # fmt: skip
    assert validate_submission(path, label_spec, IDS) == []
    texts = ["defect", "정상, 양호", "defect", "defect", "defect"]
    path = write_submission(path, IDS, texts, label_spec)
    assert list(read_values(path, label_spec).values()) == texts


def test_numeric_labels_and_value_column_first(make_spec: Callable[..., Competition], tmp_path: Path) -> None:
    spec = make_spec(
        sample_submission=None,
        solution=None,
        submission={
            "format": "label",
            "columns": {"value": "answer", "id": "file"},
            "labels": {"normal": "0", "anomalous": "1"},
        },
    )
    path = write_submission(tmp_path / "s.csv", ["007", 'quoted "id"', "a,b"], [3.0, 1.0, 2.0], spec, threshold=2.0)
    assert path.read_text("utf-8") == 'answer,file\n1,007\n0,"quoted ""id"""\n1,"a,b"\n'


def test_refusals_write_nothing(spec: Competition, label_spec: Competition, tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("older\n")
    scores = [0.1, 0.2, 0.3, 0.4, 0.5]
    with pytest.raises(ProjectError, match=r"id 7 \(row 0\) is int, not text"):
        write_submission(path, [7, *IDS[1:]], scores, spec)  # type: ignore[list-item]
    with pytest.raises(ProjectError, match=r"1 ids of the sample have no prediction: '007'; 1 predicted ids .*'7'"):
        write_submission(path, ["7", *IDS[1:]], scores, spec)
    with pytest.raises(ProjectError, match="'012' has two predictions"):
        write_submission(path, ["012", *IDS[1:]], scores, spec)
    with pytest.raises(ProjectError, match="5 ids but 4 predictions"):
        write_submission(path, IDS, scores[:4], spec)
    with pytest.raises(ProjectError, match="NaN or infinite"):
        write_submission(path, IDS, [*scores[:4], float("nan")], spec)
    with pytest.raises(ProjectError, match="needs a number"):
        write_submission(path, IDS, ["defect"] * 5, spec)
    with pytest.raises(ProjectError, match="needs a threshold"):
        write_submission(path, IDS, scores, label_spec)
    with pytest.raises(ProjectError, match="label 'scratch' is not one of"):
        write_submission(path, IDS, ["scratch"] * 5, label_spec)
    assert path.read_text() == "older\n" and len(list(tmp_path.glob("*submission*"))) == 1


@pytest.mark.parametrize("name", ["score", "label"])
def test_a_format_reads_what_it_writes(name: str, label_spec: Competition) -> None:
    context, form = Context(label_spec.submission, threshold=1.0), FORMATS[name]
    rows = form.write(["a", "b"], [1.5, 0.25], context)
    assert [row.key for row in rows] == [("a",), ("b",)]
    assert all(form.read(row.cells[0], context) is not None for row in rows)
    assert form.expected(context)
    with pytest.raises(BadCell, match="empty"):
        form.read(" ", context)
