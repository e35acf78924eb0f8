"""Tiles, test-time views, stopping and resuming, and a detector that needs no training, through the whole flow."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from src.errors import ProjectError
from src.predictions import read_predictions
from src.training import train
from tests.compose import TINY_DETECTOR, compose, make_detection_competition, on_detection
from tests.models.detection.tiny_networks import CONFIGS


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_detection_competition(tmp_path_factory.mktemp("options") / "자료")


def predictions(run: Path, name: str = "test") -> pd.DataFrame:
    return read_predictions(run / "predictions" / f"{name}.parquet", "detection").sort_values("id")


def test_tiles_and_views_answer_for_whole_pictures(root: Path, tmp_path: Path) -> None:
    """Rows are pictures again, boxes reach beyond the first tile, and inference repeats what training predicted."""
    from src.inference import infer

    config = compose(
        "train", *on_detection(root, tmp_path), *TINY_DETECTOR, "run=tiled", "report=false", "model.max_epochs=1",
        "data.tiles.size=48", "data.tiles.overlap=0.25", "tta.flip=true",
    )  # fmt: skip
    run = train(config).run.path
    frame = predictions(run)
    assert frame["id"].tolist() == [f"9{n:03d}" for n in range(6)]
    assert set(zip(frame["width"], frame["height"], strict=True)) == {(88, 72)}
    boxes = np.concatenate([np.array(row).reshape(-1, 4) for row in frame["boxes"]])
    assert len(boxes) and boxes[:, 2].max() > 60 and boxes[:, 3].max() > 50
    assert json.loads((run / "metrics.json").read_text())["graded"]["images"] == 6
    out = infer(compose("infer", f"run={run}", "heatmaps=0", f"out={tmp_path}/again"))
    again = read_predictions(out / "predictions.parquet", "detection").sort_values("id")
    for mine, theirs in zip(again["scores"], frame["scores"], strict=True):
        assert np.allclose(mine, theirs, atol=1e-5)


def test_a_resumed_training_ends_as_an_unbroken_one(root: Path, tmp_path: Path) -> None:
    """Averaged weights, optimiser, augmentation and order go on where they stood."""
    quiet = ("report=false", "submission=false", "model.max_epochs=3")
    arguments = (*on_detection(root, tmp_path), *TINY_DETECTOR, *quiet)
    whole = train(compose("train", *arguments, "run=whole")).run.path

    from src.tasks.detection import DetectionTask

    steps, original = [], DetectionTask.training_step

    def stopping(self, batch, batch_idx):
        steps.append(batch_idx)
        if len(steps) == 6:  # in the second epoch, of four steps each
            raise KeyboardInterrupt
        return original(self, batch, batch_idx)

    DetectionTask.training_step = stopping
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(compose("train", *arguments, "run=broken"))
    finally:
        DetectionTask.training_step = original
    broken = train(compose("train", *arguments, "run=broken", "resume=true")).run.path
    first, second = (
        torch.load(run / "fold_0" / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
        for run in (whole, broken)
    )
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_an_untrained_detector_of_words_runs_from_korean_classes_to_a_submission(root: Path, tmp_path: Path) -> None:
    options = compose("train", *on_detection(root, tmp_path), "model=grounding_dino")
    options["model"].update(config=CONFIGS["grounding-dino"], weights="random", image_size=64, score_floor=0.0)
    options.update(run="words", report=False)
    result = train(options)
    kept = torch.load(result.run.path / "fold_0" / "best.ckpt", map_location="cpu", weights_only=True)
    assert kept["hyper_parameters"]["network"]["class_names"] == ["square", "circle"]
    frame = predictions(result.run.path)
    assert len(frame) == 6 and any(len(scores) for scores in frame["scores"])
    assert result.submission.is_file()
    assert kept["global_step"] == 0


def test_a_detector_that_learns_is_refused_where_only_counts_are_known(root: Path, tmp_path: Path) -> None:
    counts = pd.DataFrame({"id": [f"{n:03d}" for n in range(16)], "네모": 1, "원": 0})
    counts.to_csv(root / "counts.csv", index=False)
    config = compose(
        "train", *on_detection(root, tmp_path), *TINY_DETECTOR, "competition=sample_counting",
        "competition.data.boxes=null", "competition.solution=null", "competition.sample_submission=null",
    )  # fmt: skip
    config["competition"]["data"]["counts"] = {"file": "counts.csv", "id": "id", "columns": ["네모", "원"]}
    with pytest.raises(ProjectError, match="counts only.*grounding_dino"):
        train(config)


def test_a_thin_backbone_is_not_trained_from_nothing_unasked(root: Path, tmp_path: Path) -> None:
    options = [o for o in TINY_DETECTOR if "backbone" not in o and "weights" not in o]
    with pytest.raises(ProjectError, match="model=compact_pretrained.*model.weights=random"):
        train(compose("train", *on_detection(root, tmp_path), *options))
    assert not (tmp_path / "detection").exists()
