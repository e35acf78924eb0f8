"""The ledger: rows are complete, several writers lose none, and what people wrote into it stays."""

import csv
import datetime
import hashlib
import multiprocessing
from pathlib import Path

import pytest

from src.errors import ProjectError
from src.submission.ledger import COLUMNS, append_entry, read_ledger


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    path = tmp_path / "submission.csv"
    path.write_text("id,score\n007,0.5\n", encoding="utf-8")
    return path


def test_an_entry_is_complete(submission: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "outputs" / "ledger.csv"
    entry = {
        "file": submission, "task": "anomaly", "competition": "부품", "runs": ["a", "b"], "metric": "auroc",
        "oof": 0.1 + 0.2, "graded": None, "config_hash": "c0ffee", "git": "abc",
    }  # fmt: skip
    row = append_entry(ledger, entry)
    digest = hashlib.sha256(submission.read_bytes()).hexdigest()
    assert row["sha256"] == digest and row["id"] == digest[:8] and row["git"] == "abc"
    assert row["runs"] == "a b" and row["oof"] == "0.30000000000000004" and row["graded"] == row["public"] == ""
    moment = datetime.datetime.fromisoformat(row["time"])
    assert moment.tzinfo is not None
    assert abs(datetime.datetime.now(datetime.UTC) - moment) < datetime.timedelta(minutes=1)
    assert read_ledger(ledger) == [row]
    assert tuple(ledger.read_text("utf-8").splitlines()[0].split(",")) == COLUMNS
    assert len(append_entry(ledger, {"file": submission})["git"]) in (0, 10, 11)
    assert [r["runs"] for r in read_ledger(ledger)] == ["a b", ""]


def _append(ledger: Path, submission: Path, writer: int) -> None:
    for number in range(12):
        append_entry(ledger, {"file": submission, "note": f"{writer}-{number}", "git": "x"})


def test_no_row_is_lost_between_writers(submission: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.csv"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(ledger, submission, n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    notes = [row["note"] for row in read_ledger(ledger)]
    assert sorted(notes) == sorted(f"{w}-{n}" for w in range(4) for n in range(12))


def test_what_people_wrote_stays(submission: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.csv"
    append_entry(ledger, {"file": submission, "note": "first", "git": "x"})
    rows = list(csv.reader(ledger.read_text("utf-8").splitlines()))
    header = ["public", "한글 메모", *[name for name in COLUMNS if name not in ("public", "oof")]]
    line = dict(zip(rows[0], rows[1], strict=True)) | {"public": "0.91", "한글 메모": "두 줄\n메모, 쉼표"}
    with ledger.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(header)
        writer.writerow([*(line[name] for name in header), "left over"])
        file.write("\r\n")
        writer.writerow(["0.5", "short row"])
    append_entry(ledger, {"file": submission, "note": "second", "oof": 0.8, "git": "x"})
    first, second, third = read_ledger(ledger)
    assert first["public"] == "0.91" and first["한글 메모"] == "두 줄\n메모, 쉼표" and first["note"] == "first"
    assert first["extra_1"] == "left over" and first["oof"] == ""
    assert second["public"] == "0.5" and second["한글 메모"] == "short row" and second["file"] == ""
    assert third["note"] == "second" and third["oof"] == "0.8" and third["한글 메모"] == ""


def test_korean_excel_encoding_is_read(submission: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.csv"
    ledger.write_bytes("id,file,note\n1,a.csv,메모\n".encode("cp949"))
    append_entry(ledger, {"file": submission, "git": "x"})
    assert read_ledger(ledger)[0]["note"] == "메모" and len(read_ledger(ledger)) == 2


def test_refusals_leave_the_ledger_alone(submission: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.csv"
    assert read_ledger(ledger) == []
    with pytest.raises(ProjectError, match="Did you mean 'public'"):
        append_entry(ledger, {"file": submission, "pubic": 1})
    with pytest.raises(ProjectError, match="needs `file`"):
        append_entry(ledger, {"task": "anomaly"})
    with pytest.raises(ProjectError, match="absent.csv cannot be read"):
        append_entry(ledger, {"file": tmp_path / "absent.csv"})
    ledger.write_text("something,else\n1,2\n")
    with pytest.raises(ProjectError, match="is not a ledger"):
        append_entry(ledger, {"file": submission})
    assert ledger.read_text() == "something,else\n1,2\n"
