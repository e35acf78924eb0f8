"""Tables as text, and the messages about them (what a manifest makes of tables is in test_manifest.py)."""

from pathlib import Path

import pytest

from src.errors import ProjectError
from src.tables import differing_ids, missing_column, read_header, read_table


def test_cells_are_text_and_rows_know_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,x\n007,\n\n"a\nb",NA\n1,2\n')
    table = read_table(path)
    assert table["id"].tolist() == ["007", "a\nb", "1"]
    assert table["x"].tolist() == ["", "NA", "2"]
    assert table.index.tolist() == [2, 4, 6]
    assert read_header(path) == ["id", "x"]


def test_no_rows_and_unnamed_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",id\n")
    assert list(read_table(path).columns) == ["id"]
    assert len(read_table(path)) == 0
    path.write_text(",id\n0,a\n")
    assert read_table(path)["id"].tolist() == ["a"]


def test_long_cells(tmp_path: Path) -> None:
    """Run-length masks pass the csv module's own limit of 131072 characters."""
    path = tmp_path / "a.csv"
    path.write_text("id,rle\na," + "1 2 " * 100_000 + "\n")
    assert len(read_table(path)["rle"].iloc[0]) == 400_000


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"could not read the table .*absent\.csv"):
        read_table(tmp_path / "absent.csv")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(ProjectError, match="neither UTF-8 nor cp949"):
        read_header(tmp_path / "image.csv")


def test_sentences() -> None:
    assert differing_ids(["b", "a"], ["a", "b"]) == ""
    assert differing_ids(list("cdefg"), ["a"]) == "1 id is missing ('a'), 5 ids are unknown ('c', 'd', 'e', …)"
    text = missing_column("t.csv", ["", "id", "label"], "lable")
    assert text == "t.csv has no column 'lable'. Did you mean 'label'? Its columns: id, label."
