"""Backbones: features equal timm's own, weights files are checked, the network stays frozen."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.features import FeatureExtractor, default_normalization

SHARED_NAME = "mobilenetv2_100_same.safetensors"
FAMILIES = [
    ("resnet18", ["layer2", "layer3"], 64),
    ("mobilenetv2_100", ["blocks.2", "blocks.1"], 64),
    ("convnext_atto", ["stages.0", "stages.1"], 64),
    ("efficientnet_b0", [1, "blocks.2"], 64),
    ("test_vit", ["blocks.5", "blocks.2"], 160),
    ("swin_tiny_patch4_window7_224", [0, 1], 56),
]
SMALL_SWIN = {"embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2), "img_size": 56}


def saved_model(backbone: str, path: Path, wrap: Callable[[dict], dict] = lambda s: s, **args: object) -> nn.Module:
    """A timm model with random weights and batch statistics, and its state dict on disk."""
    torch.manual_seed(0)
    model = timm.create_model(backbone, **args).eval()
    for name, value in model.state_dict().items():
        if "running_var" in name:
            value.copy_(torch.rand_like(value) + 0.5)
    torch.save(wrap(model.state_dict()), path)
    return model


def same_up_to_rounding(feature: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def timm_features(model: nn.Module, backbone: str, layers: list, images: Tensor, args: dict) -> list[Tensor]:
    """What timm's features_only form of the same weights gives, in the order of `layers`."""
    names = [info["module"] for info in timm.create_model(backbone, features_only=True, **args).feature_info.info]
    indices = [layer if isinstance(layer, int) else names.index(layer) for layer in layers]
    overlay = {"state_dict": model.state_dict(), "num_classes": model.num_classes}
    reference = timm.create_model(
        backbone,
        pretrained=True,
        pretrained_cfg_overlay=overlay,
        features_only=True,
        out_indices=sorted(indices),
        **args,
    ).eval()
    with torch.no_grad():
        features = reference(images)
    features = [features[sorted(indices).index(index)] for index in indices]
    return [f.permute(0, 3, 1, 2) for f in features] if "swin" in backbone else features


@pytest.mark.parametrize(("backbone", "layers", "size"), FAMILIES, ids=[family[0] for family in FAMILIES])
def test_features_are_those_of_timm(backbone: str, layers: list, size: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    args = SMALL_SWIN if "swin" in backbone else {}
    model = saved_model(backbone, path, lambda s: {"state_dict": {"module." + k: v for k, v in s.items()}}, **args)
    extractor = FeatureExtractor(backbone=backbone, layers=layers, backbone_args=args, weights=str(path))
    images = torch.randn(1, 3, size, size)
    features = extractor(images)
    for feature, expected in zip(features, timm_features(model, backbone, layers, images, args), strict=True):
        same_up_to_rounding(feature, expected)
        assert feature.std() > 1e-3  # not zeros on both sides
    assert extractor.channels == [feature.shape[1] for feature in features]
    assert extractor.strides == [size // feature.shape[2] for feature in features]
    assert extractor.report is not None
    assert not extractor.report.missing
    assert not extractor.report.mismatched


def test_vision_transformer_takes_other_sizes() -> None:
    extractor = FeatureExtractor(backbone="test_vit", layers=["blocks.1"])
    assert extractor(torch.randn(1, 3, 96, 64))[0].shape == (1, 64, 6, 4)
    with pytest.raises(ProjectError, match="100×64"):
        extractor(torch.randn(1, 3, 100, 64))


def test_later_stages_are_dropped() -> None:
    extractor = FeatureExtractor(backbone="mobilenetv2_100", layers=["blocks.1"])
    assert not any(name.startswith("model.blocks.2") for name in extractor.state_dict())


def test_always_frozen() -> None:
    extractor = FeatureExtractor(backbone="resnet18", layers=["layer1"])
    before = {name: value.clone() for name, value in extractor.state_dict().items()}
    nn.Sequential(extractor).train()
    images = torch.randn(2, 3, 64, 64, requires_grad=True)
    assert not extractor(images)[0].requires_grad
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert all(torch.equal(value, before[name]) for name, value in extractor.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.encoder."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_wrapped_files_are_read(prefix: str, wrapper: str | None, tmp_path: Path) -> None:
    def wrap(state: dict) -> dict:
        state = {prefix + name: value for name, value in state.items()} | {"loss.weight": torch.ones(1)}
        return state if wrapper is None else {wrapper: state, "epoch": 3}

    path = tmp_path / "weights.pt"
    model = saved_model("resnet18", path, wrap)
    extractor = FeatureExtractor(backbone="resnet18", layers=["layer2"], weights=str(path))
    assert torch.equal(extractor.state_dict()["model.conv1.weight"], model.conv1.weight)
    assert extractor.report.unexpected == ("loss.weight",)


def test_another_head_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    model = saved_model("resnet18", path, num_classes=7)
    report = FeatureExtractor(backbone="resnet18", layers=["layer1"], weights=str(path)).report
    assert "fc.weight" in report.unused
    assert model.fc.out_features == 7


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    saved_model("resnet18", path)
    with pytest.raises(ProjectError, match=r"do not fit backbone resnet50.*of another shape.*another backbone"):
        FeatureExtractor(backbone="resnet50", layers=["layer1"], weights=str(path))
    with pytest.raises(ProjectError, match=r"do not fit backbone mobilenetv2_100.*missing"):
        FeatureExtractor(backbone="mobilenetv2_100", layers=[1], weights=str(path))


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = timm.create_model("resnet18").state_dict()
    del state["layer2.0.conv1.weight"]
    save_file(state, path)
    with pytest.raises(ProjectError, match=r"1 missing \(layer2\.0\.conv1\.weight\)"):
        FeatureExtractor(backbone="resnet18", layers=["layer2"], weights=str(path))
    # a tensor that only later layers need is not missed
    assert FeatureExtractor(backbone="resnet18", layers=["layer1"], weights=str(path)).report.missing == ()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_unreadable_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(ProjectError, match="does not exist"):
        FeatureExtractor(backbone="resnet18", layers=["layer1"], weights=str(path))
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ProjectError, match="could not read weights"):
        FeatureExtractor(backbone="resnet18", layers=["layer1"], weights=str(path))


def test_a_file_without_tensors(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3}, path)
    with pytest.raises(ProjectError, match="no state dict"):
        FeatureExtractor(backbone="resnet18", layers=["layer1"], weights=str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet19", "layers": ["layer1"]}, "Did you mean 'resnet1"),
        ({"backbone": "resnet18", "layers": ["layer22"]}, "Did you mean 'layer2'"),
        ({"backbone": "resnet18", "layers": [9]}, "layer 9 of resnet18 does not exist"),
        ({"backbone": "resnet18", "layers": []}, "at least one layer"),
        ({"backbone": "resnet18", "layers": ["layer1", 1]}, "twice"),
        ({"backbone": "resnet18", "layers": ["layer1"], "backbone_args": {"paddings": 1}}, "refuses backbone_args"),
        ({"backbone": "resnet18", "layers": ["layer1"], "backbone_args": {"in_chans": 1}}, "backbone_args.in_chans"),
        ({"backbone": "filter_bank", "layers": ["coars"]}, "Did you mean 'coarse'"),
    ],
)
def test_mistakes_are_named(options: dict, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        FeatureExtractor(**options)


def test_default_normalization() -> None:
    assert default_normalization("resnet18")[0] == (0.485, 0.456, 0.406)
    assert default_normalization("vit_tiny_patch16_224")[1] == (0.5, 0.5, 0.5)
    with pytest.raises(ProjectError, match="unknown backbone"):
        default_normalization("resnet19")


def test_filter_bank_needs_no_weights() -> None:
    extractor = FeatureExtractor(backbone="filter_bank", layers=["coarse", "fine"])
    features = extractor(torch.rand(2, 3, 64, 96))
    assert [feature.shape[1] for feature in features] == extractor.channels
    assert [64 // feature.shape[2] for feature in features] == extractor.strides


def test_real_mobilenet_weights(shared_data: Path) -> None:
    path = shared_data / "weights" / SHARED_NAME
    if not path.is_file():
        pytest.skip(f"no {SHARED_NAME} here")
    reference = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=1001).eval()
    reference.load_state_dict(load_file(path))
    extractor = FeatureExtractor(
        backbone="mobilenetv2_100",
        layers=["blocks.2", "blocks.4"],
        backbone_args={"pad_type": "same"},
        weights=str(path),
    )
    images = torch.randn(1, 3, 97, 64)
    with torch.no_grad():
        expected = reference.forward_intermediates(images, intermediates_only=True)
    same_up_to_rounding(extractor(images)[0], expected[2])
    same_up_to_rounding(extractor(images)[1], expected[3])
    # at an odd size, symmetric padding gives other features: the option reaches timm
    other = FeatureExtractor(backbone="mobilenetv2_100", layers=["blocks.2", "blocks.4"], weights=str(path))
    assert not torch.allclose(other(images)[0], expected[2], atol=1e-3)
