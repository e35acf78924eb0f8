"""A stopped run goes on as if it had not been stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.compose import compose, make_competition, on_competition
from tests.conftest import REPOSITORY

FLOW = (
    "model=fastflow", "model.backbone=resnet10t", "model.layers=[layer2]", "model.weights=random",
    "model.image_size=64", "model.flow_steps=2", "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=1",
    "data.batch_size=4", "report=false", "augment=light",
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_competition(tmp_path_factory.mktemp("data"))


def run_train(*overrides: str):
    from src.training import train

    return train(compose("train", *overrides))


COMMON = (
    "model.backbone=resnet10t", "model.image_size=64", "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=1",
    "data.batch_size=4", "report=false", "augment=light",
)  # fmt: skip
MIXED = "model.mixing={mixup: 0.4, cutmix: 1.0, probability: 0.8, label_smoothing: 0.1, switch: 0.5}"
CLASSIFIER = ("model=classifier", *COMMON, "model.unfreeze_every=2", MIXED, "model.ema=0.9", "model.drop_path=0.2")
ARCFACE = ("model=arcface", *COMMON, "model.layers=[layer1]", "model.map_locations=50")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> str:
    import timm

    path = tmp_path_factory.mktemp("weights") / "resnet10t.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t").state_dict(), path)
    return f"model.weights='{path}'"


@pytest.mark.parametrize("options", [FLOW, CLASSIFIER, ARCFACE], ids=["flow", "classifier", "arcface"])
def test_a_run_killed_mid_epoch_ends_with_the_same_weights(tiny, pretrained, tmp_path, monkeypatch, options) -> None:
    from src.tasks.anomaly import AnomalyTask

    options = (*options, pretrained)
    whole = run_train(*on_competition(tiny, tmp_path / "a"), *options, "run=x")
    step = AnomalyTask.training_step

    def dies(self, batch, batch_idx):
        if self.current_epoch == 2 and batch_idx == 1:
            raise MemoryError("the machine is gone")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(AnomalyTask, "training_step", dies)
    with pytest.raises(MemoryError):
        run_train(*on_competition(tiny, tmp_path / "b"), *options, "run=x")
    monkeypatch.undo()
    folder = tmp_path / "b" / "anomaly" / "x"
    assert (folder / "fold_0" / "last.ckpt").is_file() and not (folder / "submission.csv").exists()
    torch.rand(3), np.random.rand(3)  # another process would stand elsewhere, too
    resumed = run_train(*on_competition(tiny, tmp_path / "b"), *options, "run=x", "resume=true")

    def weights(run: Path) -> dict:
        return torch.load(run / "fold_0" / "last.ckpt", weights_only=True)["state_dict"]

    first, second = weights(whole.run.path), weights(resumed.run.path)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0, msg=name)
    assert resumed.submission.read_text() == whole.submission.read_text()


def test_a_killed_process_resumes_to_a_submission(tiny, tmp_path) -> None:
    """SIGKILL between epochs, from outside; the same command with resume=true ends with a submission."""
    command = [
        sys.executable, "train.py", *on_competition(tiny, tmp_path), *FLOW, "run=killed", "trainer.max_epochs=400",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last = tmp_path / "anomaly" / "killed" / "fold_0" / "last.ckpt"
    deadline = time.monotonic() + 180
    while not last.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert last.is_file()
    torch.load(last, weights_only=True)  # whole, whenever the kill came
    epochs = torch.load(last, weights_only=True)["epoch"]
    from src.runs import RunFolder, read_config, write_config

    run = RunFolder(tmp_path / "anomaly" / "killed")
    config = read_config(run)
    config["trainer"]["max_epochs"] = epochs + 3  # so that the test ends soon
    write_config(run, config)
    result = run_train(
        *on_competition(tiny, tmp_path), *FLOW, "run=killed", f"trainer.max_epochs={epochs + 3}", "resume=true"
    )
    assert result.submission.is_file()
    assert torch.load(last, weights_only=True)["epoch"] == epochs + 2


@pytest.mark.parametrize("model", ["padim", "cfa"])
def test_every_kind_of_network_goes_the_whole_way(tiny, tmp_path, model) -> None:
    overrides = [
        f"model={model}", "model.backbone=resnet10t", "model.layers=[layer1]", "model.weights=random",
        "model.image_size=64", "trainer.max_epochs=2", "report=false", "model.blur_sigma=1",
    ]  # fmt: skip
    result = run_train(*on_competition(tiny, tmp_path), *overrides)
    scores = pd.read_csv(result.submission, dtype={"id": str})["score"]
    assert len(scores) == 9 and scores.nunique() > 5


def test_an_anomalib_class_by_name_goes_the_whole_way(tiny, tmp_path) -> None:
    from src.inference import infer

    overrides = [
        "model=anomalib", "model.name=Stfpm", "model.args.backbone=resnet10t", "model.args.layers=[layer1,layer2]",
        "model.weights=random", "model.image_size=64", "trainer.max_epochs=2", "report=false", "seed=3",
    ]  # fmt: skip
    result = run_train(*on_competition(tiny, tmp_path), *overrides)
    written = pd.read_parquet(result.run.predictions / "test.parquet").set_index("id")["score"]
    out = infer(compose("infer", f"run='{result.run.path}'", f"out='{tmp_path}/i'", "heatmaps=0", "batch_size=3"))
    again = pd.read_parquet(out / "predictions.parquet").set_index("id")["score"]
    np.testing.assert_allclose(again[written.index], written, atol=1e-5)
