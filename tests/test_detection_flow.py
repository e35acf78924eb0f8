"""The detection task from command to validated submission, on a tiny competition with a tiny detector."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.predictions import read_predictions
from src.training import train
from tests.compose import DETECTION_CLASSES, TINY_DETECTOR, compose, make_detection_competition, on_detection, scene


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run: (its folder, the competition's root, outputs)."""
    base = tmp_path_factory.mktemp("detection")
    root = make_detection_competition(base / "대회 자료")
    config = compose("train", *on_detection(root, base / "outputs"), *TINY_DETECTOR, "run=one")
    result = train(config)
    return result.run.path, root, base / "outputs"


def test_a_run_leaves_what_the_contract_names(finished) -> None:
    run, _, _ = finished
    names = ("config.yaml", "run.json", "metrics.json", "folds.csv", "submission.csv", "report.html")
    parts = ("fold_0/best.ckpt", "fold_0/last.ckpt", "predictions/oof.parquet", "predictions/test.parquet")
    assert not [name for name in (*names, *parts) if not (run / name).is_file()]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["metric"]["name"] == "map50" and 0 <= metrics["metric"]["value"] <= 1
    assert {"map", "map50", "count_exact", "per_class"} <= set(metrics["oof"])
    assert set(metrics["oof"]["per_class"]) == set(DETECTION_CLASSES)
    assert metrics["graded"]["images"] == 6


def test_store_holds_boxes_in_original_pixels(finished) -> None:
    run, _, _ = finished
    frame = read_predictions(run / "predictions" / "test.parquet", "detection")
    assert frame.attrs["metadata"]["class_names"] == list(DETECTION_CLASSES)
    assert set(zip(frame["width"], frame["height"], strict=True)) == {(88, 72)}
    boxes = np.array([box for row in frame["boxes"] for box in row]).reshape(-1, 4)
    assert len(boxes) and boxes.min() >= 0 and boxes[:, 2].max() <= 88 and boxes[:, 3].max() <= 72
    assert boxes[:, 2].max() > 66  # not left on the 64-pixel canvas


def test_submission_keeps_ids_and_the_sample_order(finished) -> None:
    run, _, _ = finished
    table = pd.read_csv(run / "submission.csv", dtype=str, keep_default_na=False)
    assert table["id"].tolist() == [f"9{n:03d}" for n in range(6)][::-1]


def test_inference_equals_what_training_wrote(finished, tmp_path: Path) -> None:
    from src.inference import infer

    run, root, _ = finished
    out = infer(compose("infer", f"run={run}", f"images='{root}/사진 test'", f"out='{tmp_path}/새 사진'"))
    table = pd.read_csv(out / "predictions.csv", dtype={"id": str}, encoding="utf-8-sig")
    assert list(table.columns[:3]) == ["id", "path", "objects"] and set(DETECTION_CLASSES) <= set(table.columns)
    new = read_predictions(out / "predictions.parquet", "detection").sort_values("id")
    old = read_predictions(run / "predictions" / "test.parquet", "detection").sort_values("id")
    for mine, theirs in zip(new["boxes"], old["boxes"], strict=True):
        assert np.allclose(np.array(mine).reshape(-1, 4), np.array(theirs).reshape(-1, 4), atol=1e-3)
    assert (out / "boxes.csv").is_file() and list((out / "boxes").iterdir())


def test_folds_are_fused_and_runs_blended(finished, tmp_path: Path) -> None:
    from src.submission.build import make

    run, root, outputs = finished
    config = compose(
        "train", *on_detection(root, outputs), *TINY_DETECTOR, "run=two", "folds=2", "seed=1", "model.max_epochs=1"
    )
    second = train(config).run.path
    oof = read_predictions(second / "predictions" / "oof.parquet", "detection")
    assert len(oof) == 16 and set(oof["fold"]) == {0, 1}
    made = make(compose("submit", f"runs=[{run},{second}]", f"out='{tmp_path}/blend.csv'", f"outputs='{outputs}'"))
    assert made["path"].is_file() and made["graded"] is not None
    assert (outputs / "ledger.csv").read_text(encoding="utf-8").count("sample_detection") == 3


def test_counts_are_submitted_where_the_competition_counts(finished, tmp_path: Path) -> None:
    _, root, _ = finished
    truth = [[sum(label == c for label, _ in scene(100 + n)[1]) for c in (0, 1)] for n in range(6)]
    ids = [f"9{n:03d}" for n in range(6)]
    table = pd.DataFrame(truth, columns=list(DETECTION_CLASSES))
    table.insert(0, "id", ids)
    table.to_csv(root / "solution_counts.csv", index=False)
    table.assign(**dict.fromkeys(DETECTION_CLASSES, 0)).to_csv(root / "sample_submission_counts.csv", index=False)
    overrides = (*on_detection(root, tmp_path), *TINY_DETECTOR, "competition=sample_counting", "run=counts")
    config = compose("train", *overrides, "competition.data.counts=null")
    result = train(config)
    table = pd.read_csv(result.submission, dtype={"id": str})
    assert list(table.columns) == ["id", *DETECTION_CLASSES] and table["id"].tolist() == ids
    metrics = json.loads((result.run.path / "metrics.json").read_text())
    assert metrics["metric"]["name"] == "count_exact"
    assert metrics["graded"]["metric"] == pytest.approx((table[list(DETECTION_CLASSES)].to_numpy() == truth).mean())


def test_an_unreadable_test_image_keeps_its_row(finished, tmp_path: Path) -> None:
    _, root, _ = finished
    copy = make_detection_competition(tmp_path / "다른 자료")
    (copy / "사진 test" / "9002.PNG").write_bytes(b"not a picture")
    result = train(compose("train", *on_detection(copy, tmp_path / "out"), *TINY_DETECTOR, "run=broken"))
    table = pd.read_csv(result.submission, dtype=str, keep_default_na=False).set_index("id")
    assert len(table) == 6 and table.loc["9002", "PredictionString"].strip() == ""
