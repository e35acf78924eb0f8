"""Class names of published detectors, read from class_names.tsv."""

from pathlib import Path

from src.lexicon.entries import read_rows

ROWS = read_rows(Path(__file__).with_name("class_names.tsv"), 2)


def class_names(vocabulary: str) -> list[str]:
    """The names of one vocabulary (coco, objects365, lvis_frequent), in its own order."""
    return [name for _, (owner, name) in ROWS if owner == vocabulary]
