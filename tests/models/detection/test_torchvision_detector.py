"""Torchvision's detectors on the project's canvas: labels, anchors, canvases, weights, norms, learning."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision

from src.errors import ProjectError
from src.models.detection.torchvision_detector import FasterRcnnDetector, FcosDetector, RetinaNetDetector
from src.models.detection.torchvision_parts import BareCanvas, StridedAnchors, _torchvision_layers

KINDS = [FasterRcnnDetector, FcosDetector, RetinaNetDetector]


def build(kind: type, **options):
    own = {"head_width": 64} if kind is FasterRcnnDetector else {"depth": 1} if kind is FcosDetector else {}
    torch.manual_seed(0)
    given = {"backbone": "resnet10t", "width": 32, "score_floor": 0.01, **own, **options}
    return kind(**{"num_classes": 3, "image_size": (64, 64), **given})


def square(label: int, x: int, y: int, side: int = 28) -> tuple[torch.Tensor, dict]:
    image = 0.1 * torch.randn(3, 70, 90, generator=torch.Generator().manual_seed(label))
    image[label, y : y + side, x : x + side] += 2
    target = {"boxes": torch.tensor([[x, y, x + side, y + side]], dtype=torch.float32),
              "labels": torch.tensor([label]), "tags": torch.tensor([label]), "has_boxes": True}  # fmt: skip
    return image, target


@pytest.mark.parametrize("kind", KINDS)
def test_learns_where_and_what(kind: type) -> None:
    """On an odd canvas that no stride divides: classes from 0, boxes in canvas pixels."""
    data = [square(0, 5, 8), square(1, 40, 30), square(2, 55, 4)]
    images, targets = torch.stack([image for image, _ in data]), [target for _, target in data]
    anchors = {} if kind is FcosDetector else {"anchor_scale": 3.0}
    net = build(kind, strides=[8, 16], backbone="test_resnet", width=64, **anchors)
    optimizer = torch.optim.AdamW(net.parameter_groups(lr=2e-3, weight_decay=1e-4))
    net.train()
    first = None
    for _ in range(40):
        loss = sum(net.loss(images, targets).values())
        first = first if first is not None else float(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.6 * first
    for one, target in zip(net.eval().detect(images), targets, strict=True):
        assert int(one["labels"][0]) == int(target["labels"][0])
        assert float(torchvision.ops.box_iou(one["boxes"][:1], target["boxes"])) > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_transform_neither_normalises_nor_resizes(kind: type) -> None:
    net = build(kind)
    assert isinstance(net.model.transform, BareCanvas)
    images = torch.randn(2, 3, 70, 100)
    packed, _ = net.model.transform(list(images))
    assert packed.tensors.shape[-2:] == (96, 128) and packed.image_sizes == [(70, 100)] * 2
    assert torch.equal(packed.tensors[..., :70, :100], images) and packed.tensors[..., 70:, :].abs().sum() == 0


def test_faster_rcnn_keeps_a_place_for_the_background() -> None:
    net = build(FasterRcnnDetector)
    assert net.model.roi_heads.box_predictor.cls_score.out_features == 4 and net.first_label == 1
    assert build(FcosDetector).model.head.classification_head.cls_logits.out_channels == 3


@pytest.mark.parametrize("kind", KINDS)
def test_losses_keep_torchvision_names(kind: type) -> None:
    image, target = square(1, 10, 10)
    losses = build(kind).train().loss(image[None].repeat(2, 1, 1, 1), [target] * 2)
    expected = {
        FasterRcnnDetector: {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"},
        FcosDetector: {"classification", "bbox_regression", "bbox_ctrness"},
        RetinaNetDetector: {"classification", "bbox_regression"},
    }
    assert set(losses) == expected[kind]


def test_anchors_stand_at_their_strides() -> None:
    """Torchvision's own generator divides the canvas by the map: at 96 pixels, a map of stride 128 gets stride 96."""
    from torchvision.models.detection.image_list import ImageList

    anchors = StridedAnchors(strides=[8, 128], sizes=[[16], [256]], ratios=[1.0])
    maps = [torch.zeros(1, 4, 12, 16), torch.zeros(1, 4, 1, 2)]
    found = anchors(ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)]), maps)[0]
    assert len(found) == 12 * 16 + 2
    centres = (found[:, :2] + found[:, 2:]) / 2
    assert centres[1].tolist() == [8.0, 0.0] and centres[16].tolist() == [0.0, 8.0]
    assert centres[-1].tolist() == [128.0, 0.0]
    assert (found[0, 2:] - found[0, :2]).tolist() == [16.0, 16.0]


@pytest.mark.parametrize(
    ("name", "strides", "channels"),
    [("resnet18", {4: 64, 8: 128, 16: 256, 32: 512}, None), ("mobilenet_v3_small", {8: 24, 16: 48, 32: 576}, None),
     ("swin_t", {4: 96, 8: 192, 16: 384, 32: 768}, True), ("regnet_y_400mf", {4: 48, 8: 104, 16: 208, 32: 440}, None)],
)  # fmt: skip
def test_layers_of_torchvision_backbones(name: str, strides: dict[int, int], channels: bool | None) -> None:
    found = _torchvision_layers(f"torchvision/{name}", {})
    assert {stride: found[stride][1] for stride in strides} == strides
    assert found[8][2] is bool(channels)


def test_torchvision_backbone_takes_a_classifier_file(tmp_path: Path) -> None:
    torch.manual_seed(4)
    classifier = torchvision.models.resnet18(weights=None)
    path = tmp_path / "resnet18.pth"
    torch.save(classifier.state_dict(), path)
    net = build(FcosDetector, backbone="torchvision/resnet18", weights=str(path))
    own = net.model.backbone.body.model.state_dict()
    whole = classifier.state_dict()
    assert torch.equal(own["layer4.1.conv2.weight"], whole["layer4.1.conv2.weight"])
    assert net.report.loaded == len(own) and set(net.report.unused) == {"fc.weight", "fc.bias"}
    assert not net.report.missing and not net.report.unexpected
    images = torch.randn(1, 3, 64, 64)
    maps = net.eval().model.backbone.body(images)
    x = classifier.eval().maxpool(classifier.relu(classifier.bn1(classifier.conv1(images))))
    x = classifier.layer2(classifier.layer1(x))
    torch.testing.assert_close(maps[0], x)
    with pytest.raises(ProjectError, match="do not fit backbone torchvision/resnet34"):
        build(FcosDetector, backbone="torchvision/resnet34", weights=str(path))


def test_timm_backbone_takes_a_classifier_file(tmp_path: Path) -> None:
    torch.manual_seed(4)
    classifier = timm.create_model("resnet10t")
    path = tmp_path / "resnet10t.pth"
    torch.save(classifier.state_dict(), path)
    net = build(RetinaNetDetector, weights=str(path), backbone_lr=0.1)
    assert net.report.loaded > 40 and net.model.backbone.pretrained == 1
    rates = {group["lr"] for group in net.parameter_groups(1.0, 0.05)}
    assert rates == {1.0, 0.1}
    again = build(RetinaNetDetector)
    assert {group["lr"] for group in again.parameter_groups(1.0, 0.05)} == {1.0}
    again.load_state_dict(net.state_dict())
    again.backbone_lr = 0.1
    assert {group["lr"] for group in again.parameter_groups(1.0, 0.05)} == {1.0, 0.1}


@pytest.mark.parametrize(("pretrained", "moves"), [(True, False), (False, True)])
def test_norms_of_a_pretrained_backbone_stay(pretrained: bool, moves: bool) -> None:
    net = build(FcosDetector)
    net.model.backbone.pretrained.fill_(float(pretrained))
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items() if k.endswith("running_mean")}
    image, target = square(0, 10, 10)
    net.loss(image[None].repeat(2, 1, 1, 1), [target] * 2)
    after = net.state_dict()
    assert before and any(not torch.equal(value, after[name]) for name, value in before.items()) is moves


@pytest.mark.parametrize(
    ("backbone", "mean"), [("resnet50", 0.485), ("torchvision/resnet50", 0.485), ("vit_tiny_patch16_224", 0.5)]
)
def test_normalisation_is_the_backbones(backbone: str, mean: float) -> None:
    assert FcosDetector.normalization({"backbone": backbone})["mean"][0] == mean


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": [8, 32]}, "twice the one before"),
        ({"backbone": "vit_tiny_patch16_224"}, "no map of stride 8"),
        ({"backbone": "torchvision/resnet181"}, "Did you mean 'resnet18'"),
        ({"backbone": "torchvision/vit_b_16"}, "feature maps of free size"),
        ({"backbone": "resnet_50"}, "unknown backbone"),
        ({"width": 48}, "multiple of 32"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        build(FcosDetector, **options)
