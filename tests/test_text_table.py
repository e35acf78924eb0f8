"""Tables for people: alignment, Markdown, and a terminal that is too narrow for lines."""

import sys

import pytest

from src.text_table import TextTable

TABLE = TextTable(["run", "f1"], [["a|b", "0.5"], ["[bold]타일", "-"]])


def test_plain_is_aligned_by_what_a_terminal_shows() -> None:
    assert TABLE.plain() == "run          f1\na|b         0.5\n[bold]타일    -"


def test_markdown() -> None:
    assert TABLE.markdown() == "| run | f1 |\n| --- | ---: |\n| a\\|b | 0.5 |\n| [bold]타일 | - |\n"


@pytest.mark.parametrize(("columns", "lines"), [("40", True), ("19", False)])
def test_lines_only_where_they_fit(
    columns: str, lines: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    TABLE.print()
    printed = capsys.readouterr().out
    assert ("│" in printed) == lines and "[bold]타일" in printed and "0.5" in printed
