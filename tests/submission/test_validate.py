"""The validator: a good file passes; each kind of fault is refused with its lines, what was found and the remedy."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from src.competition import Competition
from src.errors import ProjectError
from src.manifest import read_manifest
from src.submission.validate import InvalidSubmission, check_submission, submission_warnings, validate_submission

IDS = ["007", "012", "part 3", "불량-4", "105"]
GOOD = "id,score\n불량-4,0.4\n007,0.1\n012,0.2\npart 3,3e-1\n105,-5\n"


def check(content: str | bytes, spec: Competition, tmp_path: Path, ids: list[str] | None = IDS) -> list[str]:
    path = tmp_path / "mine.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return validate_submission(path, spec, ids)


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.rstrip("\n"),
        GOOD + "\n\n",
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("007,0.1", '"007","0.1"'),
        GOOD.replace("0.1", " 0.1").replace("0.2", ".2").replace("-5", "+5.E2"),
    ],
)
def test_good_files_pass(content: str, spec: Competition, tmp_path: Path) -> None:
    assert check(content, spec, tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty (0 bytes)"),
        ("\n\n \n", "the file is empty (4 bytes)"),
        (b"\xef\xbb\xbf" + GOOD.encode(), "line 1: the file begins with a byte order mark"),
        (GOOD.encode("utf-16"), "the file is UTF-16, expected UTF-8"),
        (GOOD.encode("cp949"), "line 2: the bytes are not UTF-8. It looks like CP949"),
        (GOOD.encode()[:14] + b"\xff\xff", "line 2: the bytes are not UTF-8. It may be cut off"),
        (GOOD + "\0", "line 7: the file holds zero bytes"),
        (GOOD.replace("007,0.1", '"007,0.1'), "line 3: cannot be parsed as CSV"),
        (GOOD.replace("id,", ",id,").replace("\n", "\n0,"), "found an index column ('') that pandas wrote"),
        (GOOD.replace("id,", "Unnamed: 0,id,"), "found an index column ('Unnamed: 0')"),
        (GOOD.replace("id,", "ID,"), "column 'ID' must be written 'id'"),
        (GOOD.replace("id,score", "id, score"), "column ' score' must be written 'score'"),
        (GOOD.replace("id,score", "id,scores"), "found column 'scores' where 'score' is expected. Rename it"),
        (GOOD.replace("id,score", "id,a,b"), "column 'score' is missing; found 'id,a,b'"),
        (GOOD.replace("id,score", "id,score,extra").replace("\n", ",1\n"), "column 'extra' is not expected"),
        (GOOD.replace("id,score", "score,id"), "columns are in the order 'score,id', expected 'id,score'"),
        (GOOD.replace("id,score", "id,id"), "column 'id' appears 2 times"),
        (GOOD.replace(",", ";"), "cells are separated by ';', expected commas"),
        (GOOD.removeprefix("id,score\n"), "there is no header; found the row '불량-4,0.4', expected 'id,score'"),
        ("id,score\n", "there are no rows below the header. Expected 5 rows"),
        (GOOD.replace("012,0.2\n", ""), "ids are missing (1): '012'"),
        (GOOD.replace("012,0.2\n", ""), "there are 4 rows, expected 5"),
        (GOOD + "999,0.1\n", "ids are not in the test set (1): line 7 '999'"),
        (GOOD.replace("012", "0123"), "line 4 '0123'. Did you mean '012'? Expected ids such as '불량-4'"),
        (GOOD + "007,0.9\n", "ids appear more than once (1): '007' (lines 3, 7)"),
        (GOOD + "007,0.9\n", "there are 6 rows, expected 5"),
        (GOOD.replace("007", "7"), "ids lost their leading zeros (1): line 3 '7' for '007'. Ids are text"),
        (GOOD.replace("007", "7.0"), "ids became decimal numbers (1): line 3 '7.0' for '007'"),
        (GOOD.replace("105", "105.0"), "ids became decimal numbers (1): line 6 '105.0' for '105'"),
        (GOOD.replace("007", " 007"), "ids have other spaces around them (1): line 3 ' 007' for '007'"),
        (
            "id,score\n007,0.1\n012,0.2\npart 3,0.3\n불량-4,0.4\n105,5\n",
            "rows are in another order than expected: line 2 has id '007', expected '불량-4'",
        ),
        (GOOD.replace("007,0.1", "007,"), "rows where column 'score' is empty (1): line 3 '' (id '007')"),
        (GOOD.replace("007,0.1", "007,NaN"), "rows where column 'score' is missing (NaN) (1): line 3 'NaN' (id"),
        (GOOD.replace("007,0.1", "007,-inf"), "rows where column 'score' is infinite (1): line 3 '-inf'"),
        (GOOD.replace("007,0.1", "007,1e999"), "is too large for a float (1): line 3 '1e999'"),
        (GOOD.replace("007,0.1", '007,"0,1"'), "is not a number (1): line 3 '0,1' (id '007'). Expected a"),
        (GOOD.replace("007,0.1", "007,1_0"), "is not a number (1): line 3 '1_0'"),
        (GOOD.replace("007,0.1", "007,90%"), "is not a number (1): line 3 '90%'"),
        (GOOD.replace("007,0.1", "007,0.1,0.2"), "rows do not have 2 cells (1): line 3 has 3"),
        (GOOD.replace("007,0.1", "007"), "rows do not have 2 cells (1): line 3 has 1"),
        (GOOD.replace("007,", "\n007,"), "blank lines between the rows (1): line 3"),
    ],
)  # fmt: skip
def test_each_fault_is_named(content: str | bytes, message: str, spec: Competition, tmp_path: Path) -> None:
    problems = check(content, spec, tmp_path)
    assert any(message in problem for problem in problems), problems
    assert all(problem.endswith((".", "?")) for problem in problems)


def test_one_fault_is_reported_once(spec: Competition, tmp_path: Path) -> None:
    for content in (
        GOOD.replace("007", "7"),
        GOOD.replace("id,score", "score,id").replace("007,0.1", "007,0.1"),
        GOOD.replace("id,", "ID,"),
        GOOD.replace("007,0.1", "007,"),
        GOOD.removeprefix("id,score\n"),
        b"\xef\xbb\xbf" + GOOD.encode(),
    ):
        problems = check(content, spec, tmp_path)
        if not isinstance(content, bytes) and content.startswith("score,id"):
            continue  # the cells really do stand under the wrong names
        assert len(problems) == 1, problems


def test_all_faults_at_once_with_five_rows_each(make_spec: Callable[..., Competition], tmp_path: Path) -> None:
    ids = [f"{i:03d}" for i in range(40)]
    spec = make_spec(sample_submission=None, solution=None)
    lines = [f"{i},{'x' if i < 7 else 0.5}" for i in range(30)] + ["031,", "zzz,1"]
    problems = check("id,scores\n" + "\n".join(lines), spec, tmp_path, ids)
    text = "\n".join(problems)
    assert "found column 'scores' where 'score' is expected" in text and "32 rows, expected 40" in text
    assert (
        "ids lost their leading zeros (30): line 2 '0' for '000'" in text and "line 6 '4' for '004' and 25 more" in text
    )
    assert "ids are missing (9): '030', '032', '033', '034', '035' and 4 more" in text
    assert "ids are not in the test set (1): line 33 'zzz'" in text
    with pytest.raises(InvalidSubmission) as caught:
        check_submission(tmp_path / "mine.csv", spec, pd.DataFrame({"id": ids, "split": "test"}))
    assert caught.value.problems == problems and "mine.csv would be refused, 5 problems:\n  1. " in str(caught.value)


def test_zeros_are_not_guessed_where_two_ids_could_be_meant(
    make_spec: Callable[..., Competition], tmp_path: Path
) -> None:
    spec = make_spec(sample_submission=None, solution=None)
    problems = check("id,score\n7,1\n8,1\n", spec, tmp_path, ["007", "0007"])
    assert any("ids are not in the test set (2): line 2 '7', line 3 '8'" in problem for problem in problems)


def test_missing_file_and_folder(spec: Competition, tmp_path: Path) -> None:
    assert "does not exist" in validate_submission(tmp_path / "absent.csv", spec, IDS)[0]
    assert "is a folder" in validate_submission(tmp_path, spec, IDS)[0]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            "Defect",
            "is not a label of this competition (1): line 3 'Defect' (id '012'). Expected '정상, 양호' or 'defect'",
        ),
        ("defect ", "has spaces around the label (1): line 3 'defect '"),
        ("", "is empty (1): line 3"),
        ("1", "is not a label of this competition (1): line 3 '1'"),
    ],
)
def test_labels(cell: str, message: str, label_spec: Competition, tmp_path: Path) -> None:
    rows = [f'{name},"정상, 양호"' for name in IDS]
    assert check("index,label\n" + "\n".join(rows), label_spec, tmp_path) == []
    rows[1] = f"012,{cell}"
    assert any(message in problem for problem in check("index,label\n" + "\n".join(rows), label_spec, tmp_path))


def test_whole_number_labels_that_became_decimal(make_spec: Callable[..., Competition], tmp_path: Path) -> None:
    grammar = {"format": "label", "columns": {"id": "id", "value": "y"}, "labels": {"normal": "0", "anomalous": "1"}}
    spec = make_spec(sample_submission=None, solution=None, submission=grammar)
    problems = check("id,y\n007,1.0\n", spec, tmp_path, ["007"])
    assert (
        len(problems) == 1 and "is a decimal number (1): line 2 '1.0'" in problems[0] and "astype(int)" in problems[0]
    )


def test_a_sample_that_does_not_match_the_test_table(spec: Competition, tmp_path: Path) -> None:
    problems = check(GOOD, spec, tmp_path, ["008", *IDS[1:]])
    assert len(problems) == 2
    assert "sample_submission.csv does not match the test table: ids that the table lacks (1): '007'" in problems[0]
    assert "sample_submission.csv does not match the test table: test ids that it lacks (1): '008'" in problems[1]


def test_check_against_the_manifest(spec: Competition, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(GOOD, encoding="utf-8")
    assert check_submission(path, spec, read_manifest(spec)) == []
    path.write_text(GOOD.replace("007", "7"), encoding="utf-8")
    with pytest.raises(ProjectError, match="leading zeros"):
        check_submission(path, spec, read_manifest(spec))


def test_warnings(make_spec: Callable[..., Competition], spec: Competition, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(GOOD, encoding="utf-8")
    assert submission_warnings(path, spec) == []
    path.write_bytes((spec.root / "sample_submission.csv").read_bytes())
    same, sample = submission_warnings(path, spec)
    assert "all 5 rows have the same value" in same and "equals the sample submission" in sample
    spec = make_spec(sample_submission=None, solution=None)
    path.write_text("id,score\n" + "".join(f"{i},{i % 2}\n" for i in range(20)), encoding="utf-8")
    assert "two values only" in submission_warnings(path, spec)[0]
