"""`counts`, `count` and `count_long`: golden files, round trips, and each fault named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.competition import Competition
from src.errors import ProjectError
from src.submission.formats import write_submission
from src.submission.validate import read_values, submission_warnings, validate_submission

MakeSpec = Callable[..., Competition]
CLASSES = ("adult_males", "pups")
IDS = ["0", "1"]
VALUES = [np.array([1, 12]), np.array([0, 3])]


def written(spec: Competition, tmp_path: Path, values: list[Any], **known: Any) -> str:
    path = write_submission(tmp_path / "s.csv", IDS, values, spec, **known)
    assert validate_submission(path, spec, IDS, **known) == []
    return path.read_text("utf-8")


def check(spec: Competition, tmp_path: Path, content: str, **known: Any) -> list[str]:
    path = tmp_path / "mine.csv"
    path.write_text(content, encoding="utf-8")
    return validate_submission(path, spec, IDS, **known)


def test_sea_lions(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("counts", {"id": "test_id"})
    assert written(spec, tmp_path, VALUES, classes=CLASSES) == "test_id,adult_males,pups\n0,1,12\n1,0,3\n"
    found = read_values(tmp_path / "s.csv", spec, classes=CLASSES)
    assert [found[name].tolist() for name in IDS] == [[1, 12], [0, 3]]


@pytest.mark.parametrize(
    ("columns", "sample", "text"),
    [
        ({"id": "id", "pups": "n_pups"}, None, "id,n_pups,adult_males\n0,12,1\n1,3,0\n"),
        ({"pups": "n_pups", "id": "id", "adult_males": "m"}, None, "n_pups,id,m\n12,0,1\n3,1,0\n"),
        ({"id": "id"}, "pups,id,adult_males\n0,1,0\n0,0,0\n", "pups,id,adult_males\n3,1,0\n12,0,1\n"),
    ],
)
def test_columns_of_counts(
    columns: dict[str, str], sample: str | None, text: str, make_boxes_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_boxes_spec("counts", columns, sample=sample)
    assert written(spec, tmp_path, VALUES, classes=CLASSES) == text
    assert read_values(tmp_path / "s.csv", spec, classes=CLASSES)["0"].tolist() == [1, 12]


def test_fractions_for_rmse(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("counts", {"id": "id"}, decimals=2)
    values = [np.array([1.005, 12]), np.array([0, 2.5])]
    assert written(spec, tmp_path, values, classes=CLASSES) == "id,adult_males,pups\n0,1.00,12.00\n1,0.00,2.50\n"
    assert check(spec, tmp_path, "id,adult_males,pups\n0,1,.5\n1,2e0,0.123\n", classes=CLASSES) == []


@pytest.mark.parametrize(
    ("options", "values", "column"),
    [
        ({}, VALUES, "13 3"),
        ({}, [2, np.int64(0)], "2 0"),
        ({"class": "pups"}, VALUES, "12 3"),
        ({"decimals": 1}, [0.25, np.array([0.5, 0.5])], "0.2 1.0"),
    ],
)
def test_count(
    options: dict[str, Any], values: list[Any], column: str, make_boxes_spec: MakeSpec, tmp_path: Path
) -> None:
    columns = {"id": "SampleID", "value": "PredictedLabel"}
    spec = make_boxes_spec("count", columns, **options)
    first, second = column.split()
    assert written(spec, tmp_path, values, classes=CLASSES) == f"SampleID,PredictedLabel\n0,{first}\n1,{second}\n"
    assert list(read_values(tmp_path / "s.csv", spec).values()) == [float(first), float(second)]


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, ["0_adult_males", "0_pups", "1_adult_males", "1_pups"]),
        ({"pattern": "{index}-{id}"}, ["0-0", "1-0", "0-1", "1-1"]),
        ({"pattern": "test_{id}.{number}"}, ["test_0.1", "test_0.2", "test_1.1", "test_1.2"]),
        ({"pattern": "{id}_{category_id}"}, ["0_5", "0_50", "1_5", "1_50"]),
        ({"labels": {"adult_males": "m", "pups": "p"}}, ["0_m", "0_p", "1_m", "1_p"]),
    ],
)
def test_count_long(options: dict[str, Any], keys: list[str], make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    known = {"classes": CLASSES, "category_ids": (5, 50)}
    numbers = dict(zip(keys, (1, 12, 0, 3), strict=True))
    spec = make_boxes_spec("count_long", **options)
    text = "id,value\n" + "".join(f"{key},{number}\n" for key, number in numbers.items())
    assert written(spec, tmp_path, VALUES, **known) == text
    for ids in (IDS, None):
        found = read_values(tmp_path / "s.csv", spec, ids, **known)
        assert {name: counts.tolist() for name, counts in found.items()} == {"0": [1, 12], "1": [0, 3]}
    order = [keys[2], keys[1], keys[0], keys[3]]
    sample = "id,value\n" + "".join(f"{key},0\n" for key in order)
    spec = make_boxes_spec("count_long", sample=sample, **options)
    assert written(spec, tmp_path, VALUES, **known) == "id,value\n" + "".join(f"{k},{numbers[k]}\n" for k in order)


def test_count_long_with_a_class_column(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    columns = {"class": "kind", "id": "image", "value": "n"}
    spec = make_boxes_spec("count_long", columns, labels="name")
    text = "kind,image,n\nadult_males,0,1\npups,0,12\nadult_males,1,0\npups,1,3\n"
    assert written(spec, tmp_path, VALUES, classes=CLASSES) == text
    assert read_values(tmp_path / "s.csv", spec, classes=CLASSES)["1"].tolist() == [0, 3]
    problems = check(spec, tmp_path, text.replace("pups,0", "pup,0"), classes=CLASSES)
    assert any("ids are not in the test set (1): line 3 '0, pup'. Did you mean '0, pups'?" in p for p in problems)
    assert any("ids are missing (1): '0, pups'" in p for p in problems)


@given(rows=st.lists(st.lists(st.integers(0, 10**6), min_size=3, max_size=3), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(rows: list[list[int]], make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    ids, classes = [f"{i:03d}" for i in range(len(rows))], ["사과", "a_b", "b"]
    values = [np.array(row) for row in rows]
    for form, columns in (("counts", {"id": "id"}), ("count_long", None)):
        spec = make_boxes_spec(form, columns)
        path = write_submission(tmp_path / "s.csv", ids, values, spec, classes=classes)
        assert validate_submission(path, spec, ids, classes=classes) == []
        found = read_values(path, spec, ids, classes=classes)
        assert list(found) == ids and [counts.tolist() for counts in found.values()] == rows


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("3.0", "rows where column 'pups' is a decimal number (1): line 3 '3.0' (id '1'). Expected a whole number, 0"),
        ("-1", "rows where column 'pups' is negative (1): line 3 '-1' (id '1')"),
        ("-0.5", "rows where column 'pups' is negative"),
        ("", "rows where column 'pups' is empty (1): line 3 '' (id '1'). Expected a whole number, 0 or more. Write 0"),
        ("nan", "is no finite number"),
        (" 3", "has spaces around the number"),
        ("three", "is not a number"),
        ("1_0", "is not a number"),
    ],
)
def test_each_fault_is_named(cell: str, message: str, make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("counts", {"id": "id"})
    problems = check(spec, tmp_path, f"id,adult_males,pups\n0,1,2\n1,0,{cell}\n", classes=CLASSES)
    assert len(problems) == 1 and message in problems[0], problems


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,pups,adult_males\n0,1,2\n1,0,3\n", "columns are in the order 'id,pups,adult_males', expected 'id,adult"),
        ("id,adult_males\n0,1\n1,0\n", "column 'pups' is missing; found 'id,adult_males'"),
        ("id,adult_males,pup\n0,1,2\n1,0,3\n", "found column 'pup' where 'pups' is expected"),
        ("id,adult_males,pups\n1,1,2\n0,0,3\n", "rows are in another order than expected"),
    ],
)
def test_faults_of_the_header(content: str, message: str, make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    problems = check(make_boxes_spec("counts", {"id": "id"}), tmp_path, content, classes=CLASSES)
    assert any(message in problem for problem in problems), problems


def test_refusals(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    wide = make_boxes_spec("counts", {"id": "id"})
    for spec, value, classes, message in (
        (wide, [1.5, 2], CLASSES, "'0' has the count 1.5, and this format has whole numbers"),
        (wide, [-1, 2], CLASSES, "'0' has the count -1: a count is finite and not negative"),
        (wide, [np.nan, 2], CLASSES, "a count is finite"),
        (wide, [1], CLASSES, "'0' has 1 counts, expected 2"),
        (wide, [1], (), "no class is known here"),
        (make_boxes_spec("counts", {"id": "i", "pup": "p"}), [1, 2], CLASSES, "'pup' is not a class .*'pups'"),
        (make_boxes_spec("count", **{"class": "pup"}), [1, 2], CLASSES, "'pup' is not a class .*'pups'"),
        (make_boxes_spec("count_long"), [1, 2], (), "the classes are not known"),
    ):
        with pytest.raises(ProjectError, match=message):
            write_submission(tmp_path / "s.csv", ["0"], [value], spec, classes=classes)
    with pytest.raises(ProjectError, match="the row 'a_b_c' would stand for 'a_b' and for 'a'"):
        write_submission(
            tmp_path / "s.csv", ["a_b", "a"], [[1, 2]] * 2, make_boxes_spec("count_long"), classes=["c", "b_c"]
        )
    assert not (tmp_path / "s.csv").exists()


def test_warnings(make_boxes_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_boxes_spec("counts", {"id": "id"}, sample="id,adult_males,pups\n0,0,0\n1,0,0\n")
    for values, expected in (
        (VALUES, []),
        ([VALUES[0]] * 2, ["all 2 rows have the same value (1, 12)."]),
        ([[0, 0]] * 2, ["all counts are 0.", "the file equals the sample submission."]),
    ):
        path = write_submission(tmp_path / "s.csv", IDS, values, spec, classes=CLASSES)
        assert submission_warnings(path, spec, classes=CLASSES) == expected
