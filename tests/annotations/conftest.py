"""Tiny detection competitions on the disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from src.competition import Competition, load_competition


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """Save a grey picture of a width and height under the root."""

    def save(name: str, size: tuple[int, int] = (100, 50), orientation: int | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {}
        if orientation is not None:
            options["exif"] = Image.Exif()
            options["exif"][274] = orientation
        Image.new("L", size, 128).save(path, **options)
        return path

    return save


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a text (or bytes) under the root."""

    def save(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return save


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Competition]:
    """A detection competition of a layout; further keys go to `data`, but for those of the spec itself."""

    def load(layout: str, **changes: Any) -> Competition:
        top = {key: changes.pop(key) for key in ("metric", "submission", "solution") if key in changes}
        config = {
            "name": "mine",
            "task": "detection",
            "root": str(tmp_path),
            "data": {"layout": layout, **changes},
            "metric": "map50",
            "submission": {"format": "prediction_string", "columns": {"id": "id", "value": "PredictionString"}},
        }
        return load_competition(config | top, source="conf/competition/mine.yaml")

    return load


def train_rows(manifest: pd.DataFrame) -> pd.DataFrame:
    return manifest[manifest["split"] == "train"].reset_index(drop=True)


def boxes_of(manifest: pd.DataFrame) -> list[list[list[float]] | None]:
    """Boxes of the training images as lists."""
    return [None if boxes is None else boxes.tolist() for boxes in train_rows(manifest)["boxes"]]


def names_of(manifest: pd.DataFrame) -> list[list[str] | None]:
    """Class names of the training images' boxes."""
    classes = manifest.attrs["classes"]
    rows = train_rows(manifest)["labels"]
    return [None if labels is None else [classes[label] for label in labels] for labels in rows]


def problems_of(manifest: pd.DataFrame) -> list[tuple[str, str | None, str]]:
    """(source, id, action) of all reports."""
    return [(report["source"], report["id"], report["action"]) for report in manifest.attrs["box_reports"]]
