"""The compact detector: it learns, and its parts do what their papers say."""

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou, generalized_box_iou_loss

from src.errors import ProjectError
from src.models.detection.compact import CompactDetector
from src.models.detection.compact_assignment import assign, pad_targets
from src.models.detection.compact_losses import generalized_iou_loss, quality_focal_loss
from src.models.features import FeatureExtractor

TINY = {"channels": (8, 16, 16, 16), "layers": (1, 1, 1, 1), "stem_width": 8}


def tiny(**options: object) -> CompactDetector:
    torch.manual_seed(0)
    defaults = {"num_classes": 2, "image_size": (64, 96), "backbone": "resnet18", "backbone_args": TINY, "width": 16}
    return CompactDetector(**{**defaults, **options})


def target(boxes: list, labels: list, *, has_boxes: bool = True) -> dict:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "tags": torch.zeros(0, dtype=torch.int64),
        "has_boxes": has_boxes,
    }


def squares(count: int, seed: int = 0) -> tuple[Tensor, list[dict]]:
    """Noise of 64×96 pixels with one to three bright squares: red ones are class 0, blue ones class 1."""
    draw = torch.Generator().manual_seed(seed)
    images, targets = 0.3 * torch.randn(count, 3, 64, 96, generator=draw), []
    for image in images:
        boxes, labels = [], []
        for column in range(int(torch.randint(1, 4, (1,), generator=draw))):
            side, x, y, label = (int(torch.randint(0, n, (1,), generator=draw)) for n in (12, 8, 32, 2))
            x, side = x + 32 * column, side + 12
            image[2 * label, y : y + side, x : x + side] += 3
            boxes.append([x, y, x + side, y + side])
            labels.append(label)
        targets.append(target(boxes, labels))
    return images, targets


def test_it_learns_to_find_and_name_objects() -> None:
    model = tiny().train()
    images, targets = squares(16)
    optimizer = torch.optim.AdamW(model.parameter_groups(0.01, 0.01))
    for _ in range(60):
        loss = sum(model.loss(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    found = wanted = extra = 0
    for result, truth in zip(model.detect(images), targets, strict=True):
        sure = result["scores"] > 0.4
        same = result["labels"][sure][:, None] == truth["labels"]
        hits = (box_iou(result["boxes"][sure], truth["boxes"]) > 0.6) & same
        found, wanted = found + int(hits.any(dim=0).sum()), wanted + len(truth["labels"])
        extra += int((~hits.any(dim=1)).sum())
    assert found >= 0.9 * wanted
    assert extra <= 0.1 * wanted


@pytest.mark.parametrize(
    ("backbone", "args", "strides"),
    [
        ("mobilenetv4_conv_small_050", {}, [8, 16, 32]),
        ("resnet18", TINY, [4]),
        ("resnet18", TINY, [8, 16, 32, 64]),
        ("test_vit", {}, [8, 16, 32]),
    ],
)
def test_any_backbone_and_strides(backbone: str, args: dict, strides: list[int]) -> None:
    size = (160, 160) if backbone == "test_vit" else (72, 104)
    model = tiny(image_size=size, backbone=backbone, backbone_args=args, strides=strides)
    logits, boxes, points, steps = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, len(points), 2)
    assert boxes.shape == (2, len(points), 4)
    assert sorted(set(steps.tolist())) == strides
    for stride in strides:  # the grid covers the image and starts half a cell within
        own = points[steps == stride]
        assert own.amin(dim=0).tolist() == [stride / 2, stride / 2]
        assert (own.amax(dim=0) + stride / 2 >= torch.tensor([size[1], size[0]])).all()
    sum(model.loss(torch.randn(2, 3, *size), [target([[8, 8, 40, 40]], [1]), target([], [])]).values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    "targets",
    [
        [target([], []), target([], [])],
        [target([], []), target([[0, 0, 1, 1]], [0], has_boxes=False)],
        [target([[10, 10, 10.5, 10.5], [0, 0, 96, 64]], [1, 1]), target([[90, 60, 96, 64]], [0])],
    ],
    ids=["empty", "unknown", "extreme sizes"],
)
def test_loss_is_finite(targets: list[dict]) -> None:
    model = tiny().train()
    losses = model.loss(torch.randn(2, 3, 64, 96), targets)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_images_with_unknown_boxes_teach_nothing() -> None:
    model = tiny().eval()
    losses = model.loss(torch.randn(1, 3, 64, 96), [target([[5, 5, 40, 40]], [0], has_boxes=False)])
    assert [float(loss.detach()) for loss in losses.values()] == [0.0, 0.0]
    losses = model.loss(torch.randn(1, 3, 64, 96), [target([], [])])
    assert losses["loss_class"] > 0  # an empty image teaches that nothing is there


def test_mixed_precision_agrees_with_full() -> None:
    model, (images, targets) = tiny().eval(), squares(2)
    full = model.loss(images, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.loss(images, targets)
    for name, value in full.items():
        assert mixed[name].dtype == torch.float32
        torch.testing.assert_close(mixed[name], value, rtol=0.05, atol=0.02)


def test_detections_are_clipped_sorted_and_limited() -> None:
    model = tiny(score_floor=0.0, max_detections=7).eval()
    nn.init.constant_(model.head.box_out.bias, 5.0)  # boxes far beyond the image
    for result in model.detect(torch.randn(2, 3, 64, 96)):
        assert len(result["scores"]) <= 7
        assert (result["scores"].diff() <= 0).all()
        assert result["boxes"].amin() >= 0
        assert (result["boxes"].amax(dim=0) <= torch.tensor([96, 64, 96, 64])).all()
    assert len(tiny(score_floor=0.99).eval().detect(torch.randn(1, 3, 64, 96))[0]["scores"]) == 0


def test_same_seed_same_network_and_loss() -> None:
    images, targets = squares(2)
    first, second = (tiny().train().loss(images, targets) for _ in range(2))
    assert {k: float(v.detach()) for k, v in first.items()} == {k: float(v.detach()) for k, v in second.items()}


# --- assignment -----------------------------------------------------------------------------------------------------


def grid(stride: int, size: int) -> tuple[Tensor, Tensor]:
    centres = (torch.arange(size // stride) + 0.5) * stride
    points = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).reshape(-1, 2)
    return points, torch.full((len(points),), float(stride))


def test_points_belong_to_the_object_that_they_fit() -> None:
    points, strides = grid(8, 64)
    truth = torch.tensor([[4.0, 4, 36, 36], [40, 40, 60, 60]])
    nearest = ((points[:, None] - (truth[:, :2] + truth[:, 2:]) / 2).norm(dim=-1)).argmin(dim=1)
    targets = pad_targets([target(truth.tolist(), [0, 1]), target([], [])], points.device)
    predicted = truth[nearest][None].expand(2, -1, -1)
    found = assign(torch.full((2, 64, 2), 0.5), predicted, points, strides, targets, topk=4)
    assert found.positive[0].sum() == 8
    assert not found.positive[1].any()
    for index in found.positive[0].nonzero()[:, 0]:
        x, y = points[index]
        x1, y1, x2, y2 = found.boxes[0, index]
        assert x1 <= x <= x2
        assert y1 <= y <= y2
        assert found.labels[0, index] == nearest[index]
    torch.testing.assert_close(found.quality[0][found.positive[0]], torch.ones(8))  # every box was perfect


def test_quality_is_the_iou_of_the_best_point() -> None:
    points, strides = grid(8, 64)
    predicted = torch.tensor([[8.0, 8, 40, 40]]).expand(64, 4)[None]
    targets = pad_targets([target([[8, 8, 40, 24]], [0])], points.device)
    found = assign(torch.full((1, 64, 1), 0.3), predicted, points, strides, targets, topk=3)
    assert float(found.quality.max()) == pytest.approx(0.5)
    assert (found.quality[~found.positive] == 0).all()


def test_no_object_goes_without_a_point() -> None:
    """Objects thinner than a stride, between points, in the corner; and predictions that overlap none of them."""
    points, strides = grid(16, 64)
    truth = [[16.0, 16, 17, 17], [0, 0, 2, 64], [62, 62, 64, 64], [30, 5, 33, 8]]
    far = torch.tensor([[500.0, 500, 510, 510]]).expand(len(points), 4)[None]
    found = assign(
        torch.full((1, 16, 1), 0.01), far, points, strides, pad_targets([target(truth, [0] * 4)], points.device)
    )
    assert {tuple(box) for box in found.boxes[0][found.positive[0]].tolist()} == {tuple(box) for box in truth}


def test_padding_changes_nothing() -> None:
    points, strides = grid(8, 64)
    torch.manual_seed(0)
    scores = torch.rand(1, 64, 3)
    predicted = torch.cat([points - 10 * torch.rand(64, 2), points + 10 * torch.rand(64, 2)], dim=1)[None]
    one, many = target([[5, 5, 30, 30]], [2]), target([[0, 0, 9, 9]] * 6, [0] * 6)
    alone = assign(scores, predicted, points, strides, pad_targets([one], points.device))
    beside = assign(
        scores.expand(2, -1, -1), predicted.expand(2, -1, -1), points, strides, pad_targets([one, many], points.device)
    )
    assert torch.equal(alone.positive[0], beside.positive[0])
    assert torch.equal(alone.quality[0], beside.quality[0])
    assert torch.equal(alone.boxes[0][alone.positive[0]], beside.boxes[0][beside.positive[0]])


# --- losses ---------------------------------------------------------------------------------------------------------


def test_generalized_iou_loss_is_torchvisions() -> None:
    torch.manual_seed(0)
    low = 50 * torch.rand(2, 100, 2)
    first, second = torch.cat([low, low + 30 * torch.rand(2, 100, 2)], dim=-1)
    torch.testing.assert_close(generalized_iou_loss(first, second), generalized_box_iou_loss(first, second))


def test_quality_focal_loss_is_least_at_the_quality() -> None:
    quality = torch.tensor([0.0, 0.3, 0.9])
    scores = torch.linspace(0.01, 0.99, 99)
    losses = quality_focal_loss(scores.logit()[:, None].expand(-1, 3), quality.expand(99, -1))
    torch.testing.assert_close(scores[losses.argmin(dim=0)], torch.tensor([0.01, 0.3, 0.9]))


# --- pretrained backbones -------------------------------------------------------------------------------------------


@pytest.fixture
def saved_backbone(tmp_path: Path) -> str:
    torch.manual_seed(7)
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("resnet18", **TINY).state_dict(), path)
    return str(path)


def test_weights_file_fills_the_backbone_and_it_learns(saved_backbone: str) -> None:
    model = tiny(weights=saved_backbone, backbone_lr=0.1).train()
    assert model.report is not None
    assert not model.report.missing
    stem = torch.load(saved_backbone)["conv1.weight"]
    torch.testing.assert_close(model.backbone.model.conv1.weight.detach(), stem)
    groups = model.parameter_groups(1.0, 0.05)
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {(0.1, 0.05), (0.1, 0), (1, 0.05), (1, 0)}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    sum(model.loss(*squares(2)).values()).backward()
    torch.optim.SGD(groups).step()
    assert not torch.equal(model.backbone.model.conv1.weight, stem)


def test_backbone_factor_is_for_pretrained_weights_and_survives_rebuilding(saved_backbone: str) -> None:
    assert {group["lr"] for group in tiny(backbone_lr=0.1).parameter_groups(1.0, 0.0)} == {1.0}
    rebuilt = tiny(backbone_lr=0.1)
    rebuilt.load_state_dict(tiny(backbone_lr=0.1, weights=saved_backbone).state_dict())
    assert {group["lr"] for group in rebuilt.parameter_groups(1.0, 0.0)} == {0.1, 1.0}


def test_frozen_norm_keeps_pretrained_statistics(saved_backbone: str) -> None:
    def moved(model: CompactDetector) -> bool:
        before = model.backbone.model.bn1.running_mean.clone()
        model.train().loss(*squares(2))
        return not torch.equal(before, model.backbone.model.bn1.running_mean)

    assert not moved(tiny(freeze_norm=True, weights=saved_backbone))
    assert moved(tiny(freeze_norm=False, weights=saved_backbone))
    assert moved(tiny(freeze_norm=True))  # random weights have no statistics worth keeping


def test_feature_extractor_is_frozen_unless_trainable() -> None:
    images = torch.randn(1, 3, 64, 64)
    frozen = FeatureExtractor(backbone="resnet18", layers=["layer2"], backbone_args=TINY).train()
    free = FeatureExtractor(backbone="resnet18", layers=["layer2"], backbone_args=TINY, trainable=True).train()
    assert not frozen.training
    assert not frozen(images)[0].requires_grad
    assert free.training
    assert free(images)[0].requires_grad
    with torch.no_grad():
        assert not free(images)[0].requires_grad


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strides", [[], [8, 8], [12], [1]])
def test_strides_that_cannot_be(strides: list[int]) -> None:
    with pytest.raises(ProjectError, match="powers of two"):
        tiny(strides=strides)


def test_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(ProjectError, match="resnet18"):
        tiny(backbone="resnet_18", backbone_args={})
