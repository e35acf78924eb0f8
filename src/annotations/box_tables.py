"""Boxes in a CSV table: a row a box, or a cell an image; in a table of their own or in that of the images.

A row whose box cells are empty (or nan, none, null, []) says that its image has no object, as does an image without
any row. Cells of numbers in one column may have brackets, commas, semicolons or spaces; four numbers a box.
"""

import math
import re
from pathlib import Path

import pandas as pd

from src.annotations.reading import Marks
from src.data_spec import BoxTable
from src.errors import ProjectError
from src.listing import nfc

NOTHING = ("", "nan", "none", "null", "[]", "[[]]", "()", "na", "<na>")
_FLOAT = re.compile(r"\d+\.0+")
_SEPARATORS = re.compile(r"[\s,;\[\]()]+")


def read_boxes(table: pd.DataFrame, spec: BoxTable, name: str, *, one_class: str) -> dict[str, Marks]:
    """Marks of each id that the table has; coordinates as written (maybe shares), turned to xyxy.

    Args:
        table: of `src.tables.read_table`, with the columns that `spec` names; `name` is its file, for messages.
        one_class: the class of all boxes where no column names one.

    Raises:
        ProjectError: a cell that is no number, a box with some cells empty or without a class.
    """
    marks: dict[str, Marks] = {}
    sources = [f"{name}:{line}" for line in table.index]
    if spec.format == "prediction_string":
        with_scores = _has_scores(table[spec.columns[0]].tolist(), sources, spec)
        for source, identifier, cell in zip(sources, table[spec.id], table[spec.columns[0]], strict=True):
            of_image = marks.setdefault(identifier, Marks())
            for label, box in _objects(_tokens(cell, spec), with_scores):
                of_image.add(_corners(_numbers(box, source), spec.convention), _name(label), source)
        return marks
    labels = table[spec.label].tolist() if spec.label is not None else [one_class] * len(table)
    cells = zip(*(table[column] for column in spec.columns), strict=True)
    for source, identifier, label, texts in zip(sources, table[spec.id], labels, cells, strict=True):
        of_image = marks.setdefault(identifier, Marks())
        for box in _boxes_of(texts, source, spec):
            if not label.strip():
                raise ProjectError(f"{source}: a box without a class: column '{spec.label}' is empty. Write it.")
            of_image.add(_corners(box, spec.convention), _name(label), source)
    return marks


def table_name(path: Path, root: Path) -> str:
    """A table's name in messages: relative to the root where it lies below it."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _boxes_of(texts: tuple[str, ...], source: str, spec: BoxTable) -> list[list[float]]:
    stripped = [text.strip() for text in texts]
    if all(text.lower() in NOTHING or text in spec.empty for text in stripped):
        return []
    if len(texts) == 1:
        numbers = _numbers([part for part in _SEPARATORS.split(stripped[0]) if part], source)
        if len(numbers) % 4:
            raise ProjectError(
                f"{source}: column '{spec.columns[0]}' holds {len(numbers)} numbers ('{stripped[0]:.60}'), where a box "
                "has four. Leave the cell empty for an image without objects."
            )
        return [numbers[start : start + 4] for start in range(0, len(numbers), 4)]
    missing = [column for column, text in zip(spec.columns, stripped, strict=True) if text.lower() in NOTHING]
    if missing:
        raise ProjectError(
            f"{source}: a box without '{missing[0]}'. Write all four numbers, or none for an image without objects."
        )
    return [_numbers(stripped, source)]


def _numbers(texts: list[str], source: str) -> list[float]:
    try:
        return [float(text) for text in texts]
    except ValueError as error:
        raise ProjectError(f"{source}: a box is made of numbers ({error}). Write them with a decimal point.") from None


def _corners(box: list[float], convention: str) -> list[float]:
    a, b, c, d = box
    if convention == "xyxy":
        return [a, b, c, d]
    if c < 0 or d < 0:  # a negative width is no corner that could be swapped
        return [math.nan] * 4
    if convention == "xywh":
        return [a, b, a + c, b + d]
    return [a - c / 2, b - d / 2, a + c / 2, b + d / 2]


# cells of the format prediction_string -------------------------------------------------------------------


def _tokens(cell: str, spec: BoxTable) -> list[str]:
    text = cell.strip()
    return [] if text.lower() in NOTHING or text in spec.empty else text.split()


def _has_scores(cells: list[str], sources: list[str], spec: BoxTable) -> bool:
    """Whether objects are of six words (class score box) or of five (class box): all cells must agree.

    Raises:
        ProjectError: they fit neither.
    """
    lengths = [len(_tokens(cell, spec)) for cell in cells]
    for words, answer in ((6, True), (5, False)):
        if all(length % words == 0 for length in lengths):
            return answer
    row = next(row for row, length in enumerate(lengths) if length % 6)
    raise ProjectError(
        f"{sources[row]}: {lengths[row]} words in column '{spec.columns[0]}', where each object has 6 (class score x y "
        "x y) or, in all cells, 5 (class x y x y). Correct the cell, or list it in data.boxes.empty if it says that "
        "there is nothing."
    )


def _objects(tokens: list[str], with_scores: bool) -> list[tuple[str, list[str]]]:
    words = 6 if with_scores else 5
    starts = range(0, len(tokens), words)
    return [(tokens[start], tokens[start + words - 4 : start + words]) for start in starts]


def _name(label: str) -> str:
    """A class as text; "3.0", which tables with gaps make of 3, is "3"."""
    text = nfc(label.strip())
    return text.partition(".")[0] if _FLOAT.fullmatch(text) else text
