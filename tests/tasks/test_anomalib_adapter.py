"""anomalib's classes under our Trainer: they run, predict as under their own Engine, and rebuild from checkpoints."""

import socket
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from src.data.datamodule import DataModule, _row_hash
from src.data.transforms import PreprocessSpec
from src.errors import ProjectError
from src.tasks.anomalib_adapter import build_adapted, load_adapted, model_class
from src.tasks.anomalib_arguments import check_arguments, read_preprocessing
from src.tasks.batches import PredictionBatch

REPOSITORY = Path(__file__).resolve().parents[2]
NORMAL, DEFECTIVE = 8, 3
VIT = "vit_small_patch14_reg4_dinov2"
SMALL = {"backbone": "resnet18"}
# class -> (image size, arguments): small, random, without any file from outside but a folder of pictures
QUICK: dict[str, tuple[int, dict[str, Any]]] = {
    "AnomalyDINO": (28, {"encoder_name": VIT}),
    "Cfa": (64, SMALL),
    "Cflow": (
        32,
        {**SMALL, "layers": ["layer2"], "coupling_blocks": 1, "condition_vector": 16, "fiber_batch_size": 16},
    ),
    "Dfkde": (32, {**SMALL, "n_pca_components": 2}),
    "Dfm": (32, {**SMALL, "layer": "layer2"}),
    "Fastflow": (64, {**SMALL, "flow_steps": 1}),
    "Fre": (32, {**SMALL, "layer": "layer2", "input_dim": 512, "latent_dim": 8}),
    "Ganomaly": (32, {"n_features": 8, "latent_vec_size": 10}),
    "Glass": (64, {**SMALL, "pretrain_embed_dim": 16, "target_embed_dim": 16, "discriminator_hidden": 8, "step": 1}),
    "MHPatchcore": (64, {**SMALL, "memory_bank_size": 20, "local_coreset_size": 8}),
    "Padim": (32, {**SMALL, "layers": ["layer1", "layer2"], "n_features": 10}),
    "Patchcore": (32, {**SMALL, "coreset_sampling_ratio": 0.1}),
    "Rad": (32, {"backbone": "vit_tiny_patch16_224", "layers": [3, 6]}),
    "ReverseDistillation": (32, {**SMALL, "anomaly_map_mode": "multiply"}),
    "Stfpm": (32, {**SMALL, "layers": ["layer1", "layer2"]}),
    "SuperADD": (64, {"backbone": "test_vit", "patch_size": 64, "layers": [1, 2]}),
}
SLOW: dict[str, tuple[int, dict[str, Any]]] = {
    "Csflow": (128, {"n_coupling_blocks": 1, "cross_conv_hidden_channels": 8}),
    "Dinomaly": (28, {"encoder_name": VIT}),
    "Draem": (32, {"dtd_dir": "PICTURES"}),
    "Dsr": (128, {}),
    "EfficientAd": (256, {"imagenet_dir": "PICTURES"}),
    "FoundAD": (28, {"encoder_name": "dinov2_vit_small_14", "pred_depth": 1, "n_layer": 1}),
    "InpFormer": (28, {"encoder_name": VIT}),
    "GeneralAD": (32, {"backbone": "vit_tiny_patch16_224", "layers": [12], "hidden_dim": 16}),
    "Patchflow": (64, SMALL),
    "Supersimplenet": (128, SMALL),
    "L2BT": (28, {}),
    "Uflow": (448, {"backbone": "resnet18", "flow_steps": 1}),
    "UniNet": (64, {"teacher_backbone": "resnet50", "student_backbone": "resnet50"}),
}
# class -> what a person must bring; each refuses with a message that says so
CANNOT = {
    "AiVad": "video clips",
    "AnomalyVFM": "MaticFuc/anomalyvfm_radio",
    "CFM": "3-D scan",
    "Fuvas": "video clips",
    "VlmAd": "package that is not installed",
    "WinClip": "package that is not installed",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def picture(number: int, size: int, *, defect: bool = False) -> np.ndarray:
    pixels = np.random.default_rng(number).integers(90, 150, (size, size, 3)).astype(np.uint8)
    if defect:
        pixels[size // 4 : size // 2, size // 4 : size // 2] = 250
    return pixels


def make_data(root: Path, size: int, **options: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Pictures of the network's size below `root`, normal and defective, and what a DataModule takes of them."""
    rows = []
    for number in range(NORMAL + DEFECTIVE):
        defect = number >= NORMAL
        path = root / ("defect" if defect else "normal") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            cv2.imwrite(str(path), picture(number, size, defect=defect)[..., ::-1])
        rows.append(
            {"id": f"{number:03d}", "path": str(path), "split": "train", "target": None, "label": int(defect),
             "group": None, "mask": None, "source": "test"}
        )  # fmt: skip
    test = [{**row, "split": "test", "label": pd.NA, "id": f"t{row['id']}"} for row in rows[-5:]]
    manifest = pd.DataFrame([*rows, *test])
    manifest["label"] = manifest["label"].astype("Int64")
    # the first two normal pictures and all defects validate in fold 0
    folds = pd.Series([0 if n < 2 or n >= NORMAL else 1 for n in range(len(rows))], index=manifest.index[: len(rows)])
    return manifest, {"folds": folds, "fold": 0, "batch_size": 4, "num_workers": 0, "one_class": True, **options}


def datamodule_for(module: pl.LightningModule, root: Path, **options: Any) -> DataModule:
    manifest, settings = make_data(root, module.preprocess.height, **options)
    return DataModule(manifest, spec=module.preprocess, **settings)


def trainer(**options: Any) -> pl.Trainer:
    defaults = {"max_epochs": 1, "num_sanity_val_steps": 0, "enable_checkpointing": False, "logger": False}
    return pl.Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        **{**defaults, **options, "devices": 1},
    )  # fmt: skip


def predict(module: pl.LightningModule, loader: Any) -> PredictionBatch:
    batches = trainer().predict(module, dataloaders=loader)
    maps = None if batches[0].maps is None else torch.cat([b.maps for b in batches])
    return PredictionBatch([i for b in batches for i in b.ids], torch.cat([b.scores for b in batches]), maps)


def assert_same(one: PredictionBatch, other: PredictionBatch, tolerance: float) -> None:
    assert one.ids == other.ids
    scale = max(1.0, float(one.scores.abs().max()))
    torch.testing.assert_close(one.scores, other.scores, atol=tolerance * scale, rtol=0)
    assert (one.maps is None) == (other.maps is None)
    if one.maps is not None:
        scale = max(1.0, float(one.maps.abs().max()))
        torch.testing.assert_close(one.maps, other.maps, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_class_trains_predicts_and_rebuilds(name: str, tmp_path: Path) -> None:
    size, args = {**QUICK, **SLOW}[name]
    make_data(tmp_path, size)
    args = {key: str(tmp_path / "normal") if value == "PICTURES" else value for key, value in args.items()}
    torch.manual_seed(0)
    module = build_adapted(name, image_size=(size, size), args=args)
    assert type(module).__name__ == name and module.one_class
    data = datamodule_for(module, tmp_path)
    fitting = trainer(**module.trainer_arguments)
    fitting.fit(module, datamodule=module.wrap_datamodule(data))
    assert "val/monitor" in fitting.callback_metrics and "val/auroc" in fitting.callback_metrics

    found = predict(module, module.wrap_datamodule(data).oof_dataloader())
    assert found.ids == ["000", "001", "008", "009", "010"]
    assert found.scores.dtype == torch.float32 and found.scores.shape == (5,) and found.scores.isfinite().all()
    if found.maps is not None:
        assert found.maps.dtype == torch.float32 and found.maps.shape == (5, 1, size, size)

    fitting.save_checkpoint(tmp_path / "a.ckpt")
    plain = torch.load(tmp_path / "a.ckpt", weights_only=True)["hyper_parameters"]
    assert plain["name"] == name and plain["args"].keys() == args.keys()
    rebuilt = load_adapted(tmp_path / "a.ckpt")
    (tmp_path / "a.ckpt").unlink()  # up to a gigabyte, and pytest keeps folders
    assert rebuilt.preprocess == module.preprocess and not rebuilt.training
    assert_same(found, predict(rebuilt, rebuilt.wrap_datamodule(data).oof_dataloader()), 1e-6)
    for batch in data.val_dataloader():  # the same outside a Trainer
        direct = rebuilt.predict_batch(batch)
        rows = [found.ids.index(i) for i in direct.ids]
        assert_same(direct, PredictionBatch(direct.ids, found.scores[rows], _rows(found.maps, rows)), 1e-6)


def _rows(maps: torch.Tensor | None, rows: list[int]) -> torch.Tensor | None:
    return None if maps is None else maps[rows]


@pytest.mark.parametrize("name", ["stfpm", "reverse_distillation", "efficient_ad", "dinomaly"])
def test_shipped_options_are_those_of_the_class(name: str) -> None:
    model = yaml.safe_load((REPOSITORY / f"conf/model/anomaly/{name}.yaml").read_text(encoding="utf-8"))
    size = (model["image_size"], model["image_size"])
    cls = model_class(model["name"])
    assert check_arguments(cls, dict(model["args"]), size).keys() == model["args"].keys()
    assert read_preprocessing(cls, size)[0].height == size[0]


def test_every_installed_class_is_accounted_for() -> None:
    import anomalib.models

    assert {*QUICK, *SLOW, *CANNOT} == set(anomalib.models.__all__)


@pytest.mark.parametrize("name", CANNOT)
def test_a_class_that_needs_more_says_what_within_seconds(name: str, tmp_path: Path) -> None:
    if (package := {"VlmAd": "ollama", "WinClip": "open_clip"}.get(name)) and find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ProjectError, match=CANNOT[name]):
        module = build_adapted(name, image_size=None)
        trainer(**module.trainer_arguments).fit(
            module, datamodule=module.wrap_datamodule(datamodule_for(module, tmp_path))
        )


@pytest.mark.parametrize(
    ("name", "args", "epochs"),
    [
        ("Padim", {**SMALL, "layers": ["layer1", "layer2"], "n_features": 10}, 1),
        ("Stfpm", {**SMALL, "layers": ["layer1", "layer2"]}, 3),
        ("Cfa", SMALL, 2),  # reads the loader beside the Trainer: un-normalised there, normalised in its steps
    ],
)
def test_predictions_equal_those_under_their_own_engine(name: str, args: dict, epochs: int, tmp_path: Path) -> None:
    """Same pictures, same first weights, one batch an epoch (so that order does not matter), both on the CPU."""
    import anomalib.models
    from anomalib.data import Folder
    from anomalib.engine import Engine

    size = 64
    module = build_adapted(name, image_size=(size, size), args=args)
    data = datamodule_for(module, tmp_path, batch_size=NORMAL)
    data._folds[:] = np.where(np.arange(len(data._folds)) < NORMAL, 1, 0)  # all normal pictures train
    with weights_random():
        cls = getattr(anomalib.models, name)
        theirs = cls(
            **args, pre_processor=cls.configure_pre_processor((size, size)), post_processor=False, evaluator=False,
            visualizer=False,
        )  # fmt: skip
    theirs.load_state_dict(module.state_dict())

    folder = Folder(
        name="x", root=tmp_path, normal_dir="normal", abnormal_dir="defect", train_batch_size=NORMAL,
        eval_batch_size=NORMAL, num_workers=0, val_split_mode="same_as_test", test_split_mode="from_dir",
        normal_test_dir="normal",
    )  # fmt: skip
    options = {"accelerator": "cpu", "devices": 1, "max_epochs": epochs, "enable_progress_bar": False}
    engine = Engine(default_root_dir=tmp_path / "engine", **options)
    torch.manual_seed(0)
    engine.fit(theirs, datamodule=folder)
    expected = {
        Path(path).name: (float(score), maps)
        for batch in engine.predict(theirs, datamodule=folder, return_predictions=True)
        for path, score, maps in zip(batch.image_path, batch.pred_score, batch.anomaly_map, strict=True)
    }

    torch.manual_seed(0)
    trainer(**{"max_epochs": epochs, **module.trainer_arguments}).fit(module, datamodule=module.wrap_datamodule(data))
    data.fold = 1
    normal = predict(module, module.wrap_datamodule(data).oof_dataloader())
    data.fold = 0
    defects = predict(module, module.wrap_datamodule(data).oof_dataloader())
    assert len(normal.ids) + len(defects.ids) == len(expected) == NORMAL + DEFECTIVE
    for found in (normal, defects):
        for name_, score, maps in zip(found.ids, found.scores, found.maps, strict=True):
            their_score, their_map = expected[f"{int(name_)}.png"]
            assert float(score) == pytest.approx(their_score, rel=1e-3)
            torch.testing.assert_close(maps[0], their_map.as_subclass(torch.Tensor), rtol=2e-3, atol=1e-4)


def weights_random() -> Any:
    from src.tasks.anomalib_weights import weights_from

    return weights_from(lambda _: None, {})


def test_timm_weights_come_from_a_file_with_any_head_and_arguments(tmp_path: Path) -> None:
    source = timm.create_model("mobilenetv2_035", num_classes=11, pad_type="same")
    torch.save(source.state_dict(), tmp_path / "a.pth")
    asked: list[str] = []

    def find(backbone: str) -> str:
        asked.append(backbone)
        return str(tmp_path / "a.pth")

    create = timm.create_model
    module = build_adapted(
        "Padim", image_size=(32, 32), weights=find, backbone_args={"pad_type": "same"},
        args={"backbone": "mobilenetv2_035", "layers": ["blocks.1", "blocks.2"], "n_features": 8},
    )  # fmt: skip
    assert timm.create_model is create and asked == ["mobilenetv2_035"]
    features = module.model.feature_extractor.feature_extractor
    assert torch.equal(features.conv_stem.weight, source.conv_stem.weight)
    assert type(features.conv_stem).__name__ == "Conv2dSame"
    assert module.loaded_weights[0].path == str(tmp_path / "a.pth") and module.loaded_weights[0].loaded > 100
    with torch.no_grad():
        torch.testing.assert_close(features(torch.ones(1, 3, 32, 32))[0].shape[-1], 8)


@pytest.mark.parametrize("backbone", ["convnext_atto", "vit_tiny_patch16_224"])
def test_weights_survive_timms_renaming(backbone: str, tmp_path: Path) -> None:
    """features_only renames modules, and a vision transformer's position embedding is resampled to our size."""
    source = timm.create_model(backbone)
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "a.pth")
    vit = "vit" in backbone
    module = build_adapted(
        "Patchcore", image_size=(64, 64), weights=str(tmp_path / "a.pth"),
        args={"backbone": backbone, "layers": ["blocks.3"] if vit else ["stages.1"]},
    )  # fmt: skip
    own = module.model.feature_extractor.feature_extractor.state_dict()
    name = "blocks.3.mlp.fc1.weight" if vit else "stages_1.blocks.0.mlp.fc1.weight"
    source_name = name.replace("stages_1", "stages.1")
    assert torch.equal(own[name], source.state_dict()[source_name])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "other.pth")
    with pytest.raises(ProjectError, match="do not fit resnet18"):
        build_adapted("Stfpm", image_size=(64, 64), weights=str(tmp_path / "other.pth"), args=SMALL)
    state = timm.create_model("resnet18").state_dict()
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "hole.pth")
    with pytest.raises(ProjectError, match="1 tensors are missing .layer1.0.conv1.weight"):
        build_adapted("Stfpm", image_size=(64, 64), weights=str(tmp_path / "hole.pth"), args=SMALL)
    with pytest.raises(ProjectError, match="do not fit torchvision's resnet18: 1 tensors are missing"):
        build_adapted("Cfa", image_size=(64, 64), weights=str(tmp_path / "hole.pth"), args=SMALL)


def test_torchvision_weights_come_from_a_file(tmp_path: Path) -> None:
    import torchvision

    source = torchvision.models.resnet18()
    torch.save(source.state_dict(), tmp_path / "a.pth")
    asked: list[str] = []
    build_adapted("Cfa", image_size=(64, 64), weights=lambda name: asked.append(name), args=SMALL)
    assert asked == ["torchvision/resnet18"]
    module = build_adapted("Cfa", image_size=(64, 64), weights=str(tmp_path / "a.pth"), args=SMALL)
    assert torch.equal(module.model.feature_extractor.get_parameter("conv1.weight"), source.conv1.weight)


def test_efficient_ad_takes_its_teacher_from_a_file_and_flat_folders(tmp_path: Path) -> None:
    from anomalib.models.image.efficient_ad.torch_model import SmallPatchDescriptionNetwork

    teacher = SmallPatchDescriptionNetwork(out_channels=384, padding=False)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
    make_data(tmp_path, 256)
    asked: list[str] = []

    def find(name: str) -> str:
        asked.append(name)
        return str(tmp_path / "teacher.pth")

    options = {"image_size": (256, 256), "args": {"imagenet_dir": str(tmp_path / "normal")}}
    module = build_adapted("EfficientAd", weights=find, **options)
    assert asked == ["efficient_ad_teacher_small"]
    assert torch.equal(module.model.teacher.conv1.weight, teacher.conv1.weight)
    data = datamodule_for(module, tmp_path)  # its batch size is 4; EfficientAD insists on 1
    wrapped = module.wrap_datamodule(data)
    assert next(iter(wrapped.train_dataloader())).image.shape[0] == 1 == wrapped.train_batch_size
    assert data.batch_size == 4
    module.prepare_imagenette_data((256, 256))
    assert len(module.imagenet_loader.dataset) == NORMAL
    with pytest.raises(ProjectError, match="do not fit EfficientAD's teacher"):
        build_adapted("EfficientAd", weights=lambda _: _saved_linear(tmp_path), **options)


def _saved_linear(folder: Path) -> str:
    torch.save(torch.nn.Linear(2, 2).state_dict(), folder / "linear.pth")
    return str(folder / "linear.pth")


@pytest.mark.parametrize(
    ("name", "args", "remedy"),
    [
        ("EfficientAd", {}, "imagenet_dir=<a folder"),
        ("Draem", {}, "dtd_dir=<a folder"),
        ("Glass", {**SMALL, "anomaly_source_path": "./datasets/none"}, "anomaly_source_path=<a folder"),
    ],
)
def test_data_sets_that_cannot_be_fetched_fail_fast(
    name: str, args: dict, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # their default folders are relative
    started = time.monotonic()
    with pytest.raises(ProjectError, match=remedy):
        build_adapted(name, args=args)
    assert time.monotonic() - started < 10
    assert not (tmp_path / "datasets").exists()  # an empty folder would pass for the data next time


def test_unknown_names_get_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="Did you mean 'Fastflow'.*Stfpm"):
        build_adapted("Fastflo")
    with pytest.raises(ProjectError, match="Did you mean 'ReverseDistillation'"):
        build_adapted("reverse_distillation")
    with pytest.raises(ProjectError, match="model.name is not given"):
        build_adapted("???")
    with pytest.raises(ProjectError, match="takes no such argument. Did you mean 'backbone'"):
        build_adapted("Stfpm", args={"backbon": "resnet18"})
    with pytest.raises(ProjectError, match="no layer layr2. Did you mean 'layer2'"):
        build_adapted("Padim", args={**SMALL, "layers": ["layer1", "layr2"]})
    with pytest.raises(ProjectError, match="none of add, multiply"):
        build_adapted("ReverseDistillation", args={**SMALL, "anomaly_map_mode": "mean"})
    with pytest.raises(ProjectError, match="loads no weights"):
        build_adapted("Ganomaly", image_size=(32, 32), weights="a.pth")
    with pytest.raises(ProjectError, match="refuses backbone_args"):
        build_adapted("Stfpm", args=SMALL, backbone_args={"colour": 3})


def test_sizes_are_checked_before_training() -> None:
    with pytest.raises(ProjectError, match="240×240 pixels only"):
        build_adapted("WinClip", image_size=(256, 256))
    with pytest.raises(ProjectError, match="multiple of 14, for example 98"):
        build_adapted("AnomalyDINO", image_size=(100, 100), args={"encoder_name": VIT})


def test_the_spec_is_read_off_the_class() -> None:
    padim = build_adapted("Padim", image_size=(64, 96), args=SMALL).preprocess
    assert padim == PreprocessSpec(height=64, width=96, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    dinov2 = build_adapted("AnomalyDINO", args={"encoder_name": VIT}).preprocess
    assert (dinov2.height, dinov2.width, dinov2.interpolation) == (252, 252, "bicubic")
    other = build_adapted("Padim", image_size=(32, 32), mean=[0.5] * 3, std=[0.25] * 3, args=SMALL)
    assert other.preprocess == PreprocessSpec(height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    white = torch.full((1, 3, 32, 32), 1.0)
    torch.testing.assert_close(other.pre_processor.transform(white), torch.full((1, 3, 32, 32), 2.0))
    with pytest.raises(ProjectError, match="not normalised"):
        build_adapted("EfficientAd", mean=[0.5] * 3)
    ganomaly = build_adapted("Ganomaly", image_size=(32, 32)).preprocess
    assert ganomaly.mean == (0.485, 0.456, 0.406)
    assert not build_adapted("Supersimplenet", image_size=(64, 64), args={**SMALL, "supervised": True}).one_class


def test_asking_how_long_an_epoch_is_leaves_a_resumed_runs_place(tmp_path: Path) -> None:
    """Dinomaly's schedule asks before the Trainer takes its loader, which must begin where the checkpoint stood."""
    module = build_adapted("Padim", image_size=(32, 32), args=QUICK["Padim"][1])
    data = datamodule_for(module, tmp_path, batch_size=2)
    wrapped = module.wrap_datamodule(data)
    whole = [i for batch in wrapped.train_dataloader() for i in batch.ids]
    rows = _row_hash(data.train_rows()["id"])
    wrapped.load_state_dict({"epoch": 0, "consumed": 4, "seed": data.seed, "rows": rows})
    with wrapped.aside():
        assert len(wrapped.train_dataloader()) == 3
    assert [i for batch in wrapped.train_dataloader() for i in batch.ids] == whole[4:]


@pytest.mark.slow
def test_a_resumed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Dinomaly's schedule asks the data module for its length, and keeps NumPy arrays in its state."""
    args = {"encoder_name": VIT}
    module = build_adapted("Dinomaly", image_size=(28, 28), args=args)
    data = datamodule_for(module, tmp_path, batch_size=2)
    keep = ModelCheckpoint(dirpath=tmp_path, filename="middle", every_n_train_steps=2, save_top_k=-1)
    trainer(**module.trainer_arguments, callbacks=[keep], enable_checkpointing=True).fit(
        module, datamodule=module.wrap_datamodule(data)
    )
    middle = tmp_path / "middle.ckpt"
    assert torch.load(middle, weights_only=True)["global_step"] == 2

    again = build_adapted("Dinomaly", image_size=(28, 28), args=args)
    seen: list[str] = []
    again.on_train_batch_start = lambda batch, index: seen.extend(batch.ids)
    rest = trainer(**again.trainer_arguments)
    wrapped = again.wrap_datamodule(datamodule_for(again, tmp_path, batch_size=2))
    rest.fit(again, datamodule=wrapped, ckpt_path=middle, weights_only=True)
    whole = datamodule_for(again, tmp_path, batch_size=2).train_dataloader()
    assert rest.global_step == 3 and seen == [i for batch in whole for i in batch["id"]][4:6]


def test_the_trainers_loader_can_be_read_beside_the_trainer(tmp_path: Path) -> None:
    """GLASS does; with persistent workers its pass would have emptied the Trainer's own."""
    size, args = QUICK["Glass"]
    module = build_adapted("Glass", image_size=(size, size), args=args)
    data = datamodule_for(module, tmp_path, num_workers=1, batch_size=3)
    steps: list[int] = []
    module.on_train_batch_end = lambda outputs, batch, index: steps.append(len(batch.ids))
    trainer(limit_val_batches=0).fit(module, datamodule=module.wrap_datamodule(data))
    assert steps == [3, 3]


def test_masks_and_labels_reach_a_supervised_class(tmp_path: Path) -> None:
    module = build_adapted("Supersimplenet", image_size=(128, 128), args={**SMALL, "supervised": True})
    manifest, settings = make_data(tmp_path, 128, one_class=module.one_class, with_masks=True, batch_size=11)
    settings["folds"][:] = 1
    for row in manifest.index[NORMAL : NORMAL + DEFECTIVE]:
        path = tmp_path / f"mask{row}.png"
        mask = np.zeros((128, 128), np.uint8)
        mask[32:64, 32:64] = 255
        cv2.imwrite(str(path), mask)
        manifest.loc[row, "mask"] = str(path)
    data = DataModule(manifest, spec=module.preprocess, **settings)
    batch = next(iter(module.wrap_datamodule(data).train_dataloader()))
    assert int(batch.gt_label.sum()) == DEFECTIVE and int(batch.gt_mask.sum()) == DEFECTIVE * 32 * 32
    assert batch.image.max() <= 1 and batch.image.dtype == torch.float32
    assert batch.image_path[0].endswith(".png") and len(batch.ids) == 11
    trainer(gradient_clip_val=1).fit(module, datamodule=module.wrap_datamodule(data))


def test_a_fold_that_holds_nothing_out(tmp_path: Path) -> None:
    module = build_adapted("Padim", image_size=(32, 32), args=QUICK["Padim"][1])
    data = datamodule_for(module, tmp_path)
    data._folds[:] = -1
    trainer(**module.trainer_arguments).fit(module, datamodule=module.wrap_datamodule(data))
    assert predict(module, module.wrap_datamodule(data).test_dataloader()).ids == [f"t{n:03d}" for n in range(6, 11)]


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    torch.save({"hyper_parameters": {"x": 1}, "state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(ProjectError, match="not a checkpoint of an anomalib model"):
        load_adapted(tmp_path / "a.ckpt")
