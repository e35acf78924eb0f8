"""The anomaly task: statistics of training images are those of the saved weights; built-in features stand in."""

from pathlib import Path

import pytest
import torch
from torch import tensor

from tests.compose import compose, make_competition, on_competition

TINY = (
    "model=autoencoder", "model.image_size=64", "model.channels=[8,16]", "model.latent_channels=4", "model.cell=8",
    "model.blur_sigma=1.0", "trainer.max_epochs=3", "model.lr=0.01", "data.batch_size=4", "report=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_competition(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("ema", ["null", "0.9"])
@pytest.mark.parametrize("holdout", ["0", "0.3"])
def test_statistics_fit_the_weights_of_the_checkpoint(tiny, tmp_path, ema: str, holdout: str) -> None:
    from src.competition import from_config
    from src.data.datamodule import DataModule
    from src.folds import read_folds
    from src.manifest import read_manifest
    from src.runs import read_config
    from src.tasks.load import load_task
    from src.training import train

    run = train(
        compose("train", *on_competition(tiny, tmp_path), *TINY, "run=a", f"model.ema={ema}", f"data.holdout={holdout}")
    ).run
    task = load_task(run.fold(0) / "best.ckpt")
    manifest = read_manifest(from_config(read_config(run)["competition"]))
    folds = read_folds(run.path / "folds.csv", manifest)
    data = DataModule(manifest, folds, 0, task.preprocess, batch_size=4, num_workers=0, one_class=True)
    kept = {name: value.clone() for name, value in task.network.named_buffers()}
    with torch.no_grad():
        for batch in data.memory_dataloader():
            task.network.collect(task.preprocess.normalize(batch["image"]))
        task.network.finish()
    changed = dict(task.network.named_buffers())
    learnt = [name for name in kept if "map_" in name or "intercept" in name]
    assert learnt and all(kept[name].abs().sum() > 0 for name in learnt)
    for name in learnt:
        torch.testing.assert_close(changed[name], kept[name], rtol=1e-3, atol=1e-4)


def test_chosen_layers_of_the_filter_bank_stay() -> None:
    from src.tasks.create import with_builtin_features

    target = "src.models.anomaly.patchcore.PatchCore"
    chosen = with_builtin_features({"_target_": target, "backbone": "filter_bank", "layers": ["coarse"]})
    assert chosen["layers"] == ["coarse"] and chosen["standardize"] is True
    replaced = with_builtin_features({"_target_": target, "backbone": "resnet18", "layers": ["layer2"]})
    assert replaced["backbone"] == "filter_bank" and len(replaced["layers"]) == 2


def test_statistics_are_learnt_where_steps_run_out(tiny, tmp_path) -> None:
    from src.tasks.load import load_task
    from src.training import train

    limits = ("run=a", "data.holdout=0", "trainer.max_steps=3", "trainer.max_epochs=50")
    run = train(compose("train", *on_competition(tiny, tmp_path), *TINY, *limits)).run
    network = load_task(run.fold(0) / "best.ckpt").network
    assert network.comparison.map_std.any()


@pytest.mark.parametrize(("model", "arguments"), [("vae", {"devices": 1}), ("classifier", {})])
def test_what_is_remembered_of_training_images_lies_in_one_process(model: str, arguments: dict) -> None:
    from src.class_set import ClassSet
    from src.tasks.create import create_task

    small = [f"model={model}", "model.backbone=filter_bank", "model.image_size=64"]
    task, _ = create_task(
        compose("train", "task=anomaly", *small)["model"],
        monitor="auroc",
        weights_dir=Path("weights"),
        bundled=False,
        classes=ClassSet(("normal", "anomalous"), ("normal",), by_target=False) if model == "classifier" else None,
    )
    assert task.trainer_arguments == arguments


def test_what_picks_the_best_epoch() -> None:
    from src.class_set import ClassSet
    from src.tasks.anomaly_validation import validation_value

    classes = ClassSet(("crack", "good", "hole"), ("good",), by_target=True)
    found = [
        (tensor([3.0, -1.0, 0.5]), tensor([0, 1, -1]), tensor([0, 1, 1])),
        (tensor([2.0, -2.0]), tensor([2, 1]), tensor([0, 1])),
    ]
    assert validation_value(found, classes, "accuracy") == ("accuracy", 0.75)
    name, value = validation_value(found, classes, "macro_f1")
    assert name == "macro_f1" and value == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert validation_value(found, classes, "f1") == ("auroc", 1.0)  # F1 knows no third class
    labels = [(tensor([0.1, 0.9, 0.3]), tensor([0, 1, 1]), None)]
    assert validation_value(labels, None, "macro_f1") == ("auroc", 1.0)
    assert validation_value([(tensor([0.1]), tensor([0]), None)], None, "auroc") == ("auroc", None)


def test_few_shots_are_what_class_weights_count(tiny) -> None:
    from src.competition import from_config
    from src.flows import flow_of
    from src.manifest import read_manifest

    config = compose(
        "train", *on_competition(tiny, tiny), "model=classifier", "model.backbone=filter_bank", "model.image_size=64",
        "model.class_weights=balanced", "data.shots=2", "data.shots_normal=all",
    )  # fmt: skip
    competition = from_config(config["competition"])
    task, _ = flow_of("anomaly").create(config, competition, read_manifest(competition), weights_dir=Path("weights"))
    torch.testing.assert_close(task.network.class_weights, tensor([16 / (2 * 14), 16 / (2 * 2)]))
