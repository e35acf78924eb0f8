"""A small competition on the disk, for writing, validating and grading submissions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest

from src.competition import Competition, SubmissionSpec, load_competition
from src.data_spec import DataSpec
from src.submission.formats import check_columns, check_options

IDS = ["007", "012", "part 3", "불량-4", "105"]
ANSWERS = ["normal", "scratch", "normal", "hole", "normal"]


@pytest.fixture
def make_spec(tmp_path: Path) -> Callable[..., Competition]:
    """A spec with five test images, a sample submission and a solution, all on the disk; keys can be replaced."""
    root = tmp_path / "data"
    root.mkdir()
    cv2.imwrite(str(root / "image.png"), np.zeros((8, 8, 3), np.uint8))
    (root / "train.csv").write_text("id,file,label\nt0,image.png,normal\n", encoding="utf-8")
    (root / "test.csv").write_text("id,file\n" + "".join(f"{i},image.png\n" for i in IDS), encoding="utf-8")
    order = [3, 0, 1, 2, 4]  # neither the test table's nor sorted
    (root / "sample_submission.csv").write_text(
        "id,score\n" + "".join(f"{IDS[i]},0\n" for i in order), encoding="utf-8"
    )
    (root / "solution.csv").write_text(
        "id,label\n" + "".join(f"{i},{a}\n" for i, a in zip(IDS, ANSWERS, strict=True)), encoding="utf-8"
    )

    def make(**changes: Any) -> Competition:
        config: dict[str, Any] = {
            "name": "parts",
            "task": "anomaly",
            "root": str(root),
            "data": {
                "layout": "csv", "train": "train.csv", "test": "test.csv", "id": "id", "path": "file",
                "target": "label", "normal": ["normal"],
            },
            "sample_submission": "sample_submission.csv",
            "solution": "solution.csv",
            "metric": "auroc",
            "submission": {"format": "score", "columns": {"id": "id", "value": "score"}},
        }  # fmt: skip
        return load_competition({**config, **changes}, source=tmp_path / "parts.yaml")

    return make


@pytest.fixture
def spec(make_spec: Callable[..., Competition]) -> Competition:
    return make_spec()


@pytest.fixture
def label_spec(make_spec: Callable[..., Competition]) -> Competition:
    return make_spec(
        metric="macro_f1",
        sample_submission=None,
        submission={
            "format": "label",
            "columns": {"id": "index", "value": "label"},
            "labels": {"normal": "정상, 양호", "anomalous": "defect"},
        },
    )


@pytest.fixture
def make_boxes_spec(tmp_path: Path) -> Callable[..., Competition]:
    """A competition of boxes, counts or masks, with the text of its sample submission where one is given."""

    def make(
        form: str,
        columns: dict[str, str] | None = None,
        *,
        sample: str | None = None,
        metric: str = "map50",
        **options: Any,
    ) -> Competition:
        def fail(key: str, problem: str) -> NoReturn:
            raise AssertionError(f"{key}: {problem}")

        columns = {"id": "id", "value": "value"} if columns is None else columns
        check_columns(form, columns, fail)
        path = None
        if sample is not None:
            path = tmp_path / "sample_submission.csv"
            path.write_text(sample, encoding="utf-8")
        return Competition(
            name="things",
            task="detection",
            root=tmp_path,
            data=DataSpec(layout="csv", train="train.csv", test="test.csv", id="id", path="file"),
            metric=metric,
            submission=SubmissionSpec(
                format=form, columns=columns, labels={}, sample=path, options=check_options(form, options, fail)
            ),
            solution=None,
            rules="none",
            bundled=False,
            source=tmp_path / "things.yaml",
        )

    return make
