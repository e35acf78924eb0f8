"""Caption submissions of a competition on the disk: the spec's checks, the grade, and a whole round for each format."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from src.competition import Competition, load_competition
from src.errors import ProjectError
from src.manifest import read_manifest
from src.metrics.caption.measure import parse_caption_metric
from src.submission.formats import FORMATS, write_submission
from src.submission.grade import grade
from src.submission.validate import InvalidSubmission, check_submission

IDS = ["001", "002", "003"]
REFERENCES = [
    ["개 한 마리가 잔디밭을 달린다.", "갈색 개가 뛰고 있다."],
    ["빨간 사과 두 개가 놓여 있다."],
    ["아이가 파란 공을 던진다.", "한 아이가 공놀이를 한다."],
]
CAPTIONS = ["개 한 마리가 잔디밭을 달린다.", "사과 두 개가 있다.", "사람이 걷는다."]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("t0", *IDS):
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    (folder / "train.csv").write_text("id,file,caption\nt0,t0.png,개가 있다.\n", encoding="utf-8")
    (folder / "test.csv").write_text("id,file\n" + "".join(f"{i},{i}.png\n" for i in IDS), encoding="utf-8")
    rows = [f'{name},"{text}"\n' for name, texts in zip(IDS, REFERENCES, strict=True) for text in texts]
    (folder / "solution.csv").write_text("id,caption\n" + "".join(rows), encoding="utf-8")
    (folder / "sample_submission.csv").write_text(
        "id,mos,caption\n" + "".join(f"{name},0,\n" for name in IDS), encoding="utf-8"
    )
    return folder


def make(root: Path, form: str = "caption", options: dict[str, Any] | None = None, **changes: Any) -> Competition:
    config: dict[str, Any] = {
        "name": "sentences", "task": "caption", "root": str(root),
        "data": {
            "layout": "csv", "train": "train.csv", "test": "test.csv", "id": "id", "path": "file",
            "captions": {"columns": ["caption"]},
        },
        "solution": "solution.csv", "metric": "0.5*cider_d + 0.5*bleu4 @ char",
        "submission": {"format": form, "columns": {"id": "id", "value": "caption"}, "options": options or {}},
    }  # fmt: skip
    return load_competition({**config, **changes}, source=root / "sentences.yaml")


@pytest.mark.parametrize(
    ("form", "options"),
    [("caption", {}), ("coco_captions", {"image_id": "str"}), ("caption_jsonl", {"output_key": "caption"})],
)
def test_each_format_is_graded_alike(form: str, options: dict[str, Any], root: Path) -> None:
    spec = make(root, form, options)
    manifest = read_manifest(spec)
    path = write_submission(root / f"s{FORMATS[form].suffix}", IDS, CAPTIONS, spec)
    assert check_submission(path, spec, manifest) == []
    panel = grade(path, spec, manifest)
    metric = parse_caption_metric("0.5*cider_d + 0.5*bleu4 @ char")
    assert panel["name"] == metric.name and panel["mode"] == "max"
    assert panel["metric"] == pytest.approx(metric.corpus(CAPTIONS, REFERENCES))
    assert panel["exact_match"] == pytest.approx(1 / 3) and 0 < panel["bleu1"] < 1
    assert panel["signature"].startswith("captions|char")


def test_files_without_columns_need_none(root: Path) -> None:
    spec = make(root, submission={"format": "coco_captions", "options": {"image_id": "str"}})
    path = write_submission(root / "s.json", IDS, CAPTIONS, spec)
    assert grade(path, spec)["exact_match"] == pytest.approx(1 / 3)


def test_a_perfect_file_and_a_refused_one(root: Path) -> None:
    spec = make(root, metric="exact_match")
    path = write_submission(root / "s.csv", IDS, [texts[-1] for texts in REFERENCES], spec)
    assert grade(path, spec)["metric"] == 1.0
    path.write_text(path.read_text(encoding="utf-8").replace(REFERENCES[1][0], "<unk>"), encoding="utf-8")
    with pytest.raises(InvalidSubmission, match="holds a mark of the tokenizer"):
        grade(path, spec)
    assert grade(path, make(root, solution=None)) is None


def test_the_sample_submission_and_the_constants(root: Path) -> None:
    with pytest.raises(ProjectError, match=r"has the columns id, mos, caption, and this file says id, caption\."):
        make(root, sample_submission="sample_submission.csv")
    spec = make(root, options={"constants": {"mos": 3}}, sample_submission="sample_submission.csv")
    path = write_submission(root / "s.csv", IDS, CAPTIONS, spec)
    assert path.read_text(encoding="utf-8").splitlines()[:2] == ["id,mos,caption", f"001,3,{CAPTIONS[0]}"]
    assert check_submission(path, spec, read_manifest(spec)) == []
    with pytest.raises(ProjectError, match=r"submission.options.constants.caption: submission.columns has a column of"):
        make(root, options={"constants": {"caption": 3}})


def test_jsonl_layout_repeats_the_test_file(root: Path) -> None:
    records = [{"id": name, "input": {"image": f"{name}.png"}, "output": [""]} for name in IDS]
    (root / "test.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    known = {"id": "t0", "input": {"image": "t0.png"}, "output": ["개가 있다."]}
    (root / "train.jsonl").write_text(json.dumps(known, ensure_ascii=False) + "\n", encoding="utf-8")
    data = {
        "layout": "jsonl", "train": "train.jsonl", "test": "test.jsonl", "id": "id", "path": "input.image",
        "captions": {"columns": ["output"]},
    }  # fmt: skip
    spec = make(root, "caption_jsonl", data=data, solution=None)
    path = write_submission(root / "s.jsonl", IDS, CAPTIONS, spec)
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert found == [record | {"output": text} for record, text in zip(records, CAPTIONS, strict=True)]
    assert check_submission(path, spec, read_manifest(spec)) == []
