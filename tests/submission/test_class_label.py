"""The format `class`: what is written, what a validator says of each mistake, and grading against sklearn's values."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src.competition import Competition
from src.errors import ProjectError
from src.manifest import read_manifest
from src.submission.formats import write_submission
from src.submission.grade import grade
from src.submission.validate import InvalidSubmission, check_submission, read_values, validate_submission
from tests.submission.conftest import IDS

TEXTS = ["tile-good", "타일, 큰-good", "tile-crack 2", "tile-crack 10", '"x"-good']
CLASSES = ["tile-crack 2", "tile-crack 10", "tile-good", '"x"-good', "타일, 큰-good"]


@pytest.fixture
def classes(make_spec: Callable[..., Competition], tmp_path: Path) -> Competition:
    root = tmp_path / "data"
    rows = "".join(f"t{n},{n}.png,{_cell(name)}\n" for n, name in enumerate([*CLASSES, "tile-good"]))
    for number in range(len(CLASSES) + 1):
        (root / f"{number}.png").write_bytes((root / "image.png").read_bytes())
    (root / "train.csv").write_text(f"id,file,label\n{rows}", encoding="utf-8")
    (root / "solution.csv").write_text("id,label\n" + "".join(f"{i},tile-good\n" for i in IDS[:3]) + (
        f"{IDS[3]},tile-crack 2\n{IDS[4]},{_cell(TEXTS[1])}\n"), encoding="utf-8")  # fmt: skip
    (root / "sample_submission.csv").write_text("id,label\n" + "".join(f"{i},tile-good\n" for i in IDS))
    data = {"layout": "csv", "train": "train.csv", "test": "test.csv", "id": "id", "path": "file", "target": "label"}
    return make_spec(
        data=data | {"normal": ["good"], "target_pattern": "{category}-{state}"},
        metric="macro_f1",
        submission={"format": "class", "columns": {"id": "id", "value": "label"}},
    )


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def test_texts_are_written_as_they_are_and_read_back(classes: Competition, tmp_path: Path) -> None:
    for values in (TEXTS, np.array(TEXTS, dtype=object)):
        path = write_submission(tmp_path / "s.csv", IDS, values, classes, classes=CLASSES)
        assert path.read_text("utf-8") == (
            'id,label\n007,tile-good\n012,"타일, 큰-good"\npart 3,tile-crack 2\n불량-4,tile-crack 10\n'
            '105,"""x""-good"\n'
        )
    assert check_submission(path, classes, read_manifest(classes)) == []
    assert list(read_values(path, classes, IDS, classes=CLASSES).values()) == TEXTS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5] * 5, r"needs the text of a class for each image, and '007' has 0\.5 \(float\)"),
        ([*TEXTS[:4], "tile-goood"], r"'105' has the class 'tile-goood', which is not one.*Did you mean 'tile-good'\?"),
        ([*TEXTS[:4], "tile-good "], "which is not one of the competition"),
    ],
)
def test_what_cannot_be_written(classes: Competition, tmp_path: Path, values: list, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        write_submission(tmp_path / "s.csv", IDS, values, classes, classes=CLASSES)
    assert not (tmp_path / "s.csv").exists()
    with pytest.raises(ProjectError, match="they are not known here: give classes="):
        write_submission(tmp_path / "s.csv", IDS, TEXTS, classes)


MISTAKES = [
    ("tile-goood", "'tile-goood' Did you mean 'tile-good'? (id '105')"),
    ("tile-good ", "has spaces around the class (1): line 6 'tile-good ' (id '105')"),
    ("Tile-Good", "differs from the class in capital letters (1): line 6 'Tile-Good' instead of 'tile-good'"),
    ("", "is empty (1)"),
    ("0.8312", "is a number, not the text of a class (1): line 6 '0.8312'"),
    ("3", "is a number, not the text of a class"),
    (unicodedata.normalize("NFD", "타일, 큰-good"), "has another Unicode form than the class (1)"),
    ("zzz", "is not a class of this competition (1): line 6 'zzz' (id '105'). Expected one of 'tile-crack 2', '"),
]


@pytest.mark.parametrize(("cell", "message"), MISTAKES, ids=[message[:30] for _, message in MISTAKES])
def test_a_wrong_cell_is_named(classes: Competition, tmp_path: Path, cell: str, message: str) -> None:
    path = tmp_path / "s.csv"
    lines = [f"{name},{_cell(text)}\n" for name, text in zip(IDS, [*TEXTS[:4], cell], strict=True)]
    path.write_text("id,label\n" + "".join(lines), encoding="utf-8")
    problems = validate_submission(path, classes, IDS, classes=CLASSES)
    assert len(problems) == 1 and message in problems[0], problems
    with pytest.raises(InvalidSubmission):
        grade(path, classes)


def test_the_header_and_ids_are_checked_as_ever(classes: Competition, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("id,Label\n" + "".join(f"{name},tile-good\n" for name in IDS), encoding="utf-8")
    assert "column 'Label' must be written 'label'" in validate_submission(path, classes, IDS, classes=CLASSES)[0]
    path.write_text("id,label\n" + "".join(f"{name.lstrip('0')},tile-good\n" for name in IDS), encoding="utf-8")
    assert "leading zeros" in validate_submission(path, classes, IDS, classes=CLASSES)[0]


def test_one_class_for_all_is_doubted(classes: Competition, tmp_path: Path) -> None:
    path = write_submission(tmp_path / "s.csv", IDS, ["tile-crack 2"] * 5, classes, classes=CLASSES)
    assert check_submission(path, classes, read_manifest(classes)) == ["all 5 rows have the same value (tile-crack 2)."]


def test_many_classes_and_many_mistakes_are_named_soon(classes: Competition, tmp_path: Path) -> None:
    names = [f"category{i}-state{j}" for i in range(15) for j in range(6)]
    path = tmp_path / "s.csv"
    ids = [str(number) for number in range(3000)]
    path.write_text("id,label\n" + "".join(f"{n},categry{int(n) % 15}-state3x{n}\n" for n in ids), encoding="utf-8")
    problems = validate_submission(path, classes, ids, classes=names)
    assert any("(3000): line 2 'categry0-state3x0' Did you mean 'category0-state3'?" in text for text in problems)


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy", "balanced_accuracy"])
def test_grading_compares_texts(classes: Competition, tmp_path: Path, metric: str) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    truth = ["tile-good"] * 3 + ["tile-crack 2", "타일, 큰-good"]
    found = ["tile-good", "tile-good", "tile-crack 10", "tile-crack 10", "tile-good"]
    expected = {
        "macro_f1": sk.f1_score(truth, found, average="macro"),
        "accuracy": sk.accuracy_score(truth, found),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, found),
    }
    spec = Competition(**{**vars(classes), "metric": metric})
    result = grade(write_submission(tmp_path / "s.csv", IDS, found, spec, classes=CLASSES), spec)
    assert result["name"] == metric and result["metric"] == pytest.approx(expected[metric], abs=1e-12)
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    # the verdict: images 3 and 4 are called defects, 4 is one; another category's "good" is right there
    assert (result["n_normal"], result["n_anomalous"], result["n_classes"]) == (4, 1, 3)
    assert (result["verdict_precision"], result["verdict_recall"]) == (0.5, 1.0)
    assert result["verdict_f1"] == pytest.approx(2 / 3)
