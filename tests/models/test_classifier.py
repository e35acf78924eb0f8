"""The classifier on several backbones: answers, maps, what learns when and how fast, and weights from files."""

import math
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.anomaly.classifier import SCORE_LIMIT, Classifier

CLASSES = {"class_names": ["good", "hole", "scratch"], "normal_classes": ["good"]}
BACKBONES = ["convnext_atto", "resnet10t", "efficientnet_b0", "mobilenetv2_100", "test_vit", "filter_bank"]
SMALL = ["test_convnext", "test_resnet", "test_efficientnet", "test_vit", "filter_bank"]


def make(backbone: str = "test_resnet", **options: object) -> Classifier:
    torch.manual_seed(0)
    return Classifier(backbone=backbone, **CLASSES | options)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A state dict of test_resnet with its own thousand classes."""
    torch.manual_seed(5)
    path = tmp_path / "test_resnet.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    return str(path)


def logits_of(model: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval().model(images)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_answers(backbone: str, images: Tensor) -> None:
    model = make(backbone)
    if backbone == "filter_bank":
        nn.init.normal_(model.model.fc.weight)
    answer = model.eval()(images)
    logits = logits_of(model, images)
    torch.testing.assert_close(answer.probs, logits.softmax(1))
    expected = torch.log(answer.probs[:, 1:].sum(1)) - torch.log(answer.probs[:, 0])
    torch.testing.assert_close(answer.score, expected, rtol=1e-3, atol=1e-4)
    assert answer.score.dtype == torch.float32
    if backbone == "test_vit":
        assert answer.anomaly_map is None
    else:
        assert answer.anomaly_map.shape == (3, 1, 64, 96) and torch.isfinite(answer.anomaly_map).all()
        assert answer.anomaly_map.std() > 0
    alone = model(images[1:2])
    torch.testing.assert_close(alone.score[0], answer.score[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_rebuilt_from_options_and_state(backbone: str, images: Tensor) -> None:
    model = make(backbone, dropout=0.1)
    step(model, images)
    torch.manual_seed(7)
    again = Classifier(backbone=backbone, dropout=0.1, **CLASSES)
    again.load_state_dict(model.state_dict())
    first, second = model.eval()(images), again.eval()(images)
    assert torch.equal(first.score, second.score) and torch.equal(first.probs, second.probs)


def step(model: Classifier, images: Tensor, lr: float = 1e-3) -> float:
    model.train()
    optimizer = torch.optim.AdamW(model.parameter_groups(lr, 0.01))
    classes = torch.arange(len(images)) % 3
    loss = sum(model.loss(images, classes).values())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@pytest.mark.parametrize("backbone", SMALL)
def test_learns_also_from_one_picture(backbone: str, images: Tensor) -> None:
    model = make(backbone)
    first = [step(model, images, 3e-3) for _ in range(4)]
    assert first[-1] < first[0]
    assert math.isfinite(step(model, images[:1, :, :32, :32] if backbone != "filter_bank" else images[:1]))
    assert model.training and all(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_one_picture_does_not_move_batch_statistics(images: Tensor) -> None:
    model = make("test_resnet")
    step(model, images)
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    step(model, images[:1])
    assert before and all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_losses_and_soft_targets(images: Tensor) -> None:
    classes = torch.tensor([0, 2, 1])
    model = make(class_weights="balanced", class_counts=[6, 2, 1]).train()
    logits = model.model(images)
    expected = nn.functional.cross_entropy(logits, classes, weight=torch.tensor([0.5, 1.5, 3.0]))
    loss = model.loss(images, classes)
    assert list(loss) == ["cross_entropy"]
    torch.testing.assert_close(loss["cross_entropy"], expected)
    soft = nn.functional.one_hot(classes, 3).float()
    torch.testing.assert_close(model.loss(images, soft)["cross_entropy"], expected)
    focal = make(loss="focal", focal_gamma=1.0).train().loss(images, classes)
    assert list(focal) == ["focal"] and focal["focal"] < nn.functional.cross_entropy(logits, classes)


@pytest.mark.parametrize("normal", [[], ["good", "hole", "scratch"]])
def test_one_sided_classes_have_a_finite_score(normal: list[str], images: Tensor) -> None:
    answer = make(normal_classes=normal).eval()(images)
    assert answer.score.tolist() == [-SCORE_LIMIT if normal else SCORE_LIMIT] * 3
    assert torch.isfinite(answer.anomaly_map).all()


# -- maps


@pytest.mark.parametrize("backbone", ["test_resnet", "mobilenetv2_100", "test_efficientnet", "densenet121"])
def test_places_average_to_the_picture(backbone: str, images: Tensor) -> None:
    """Zhou et al. 2016: exact for average pooling and a linear head."""
    from src.models.anomaly.timm_classifier import with_locations

    model = make(backbone).eval()
    with torch.no_grad():
        logits, places = with_locations(model.model, images)
    assert places.shape == (3, 3, 2, 3)
    torch.testing.assert_close(places.mean((2, 3)), logits, rtol=1e-3, atol=1e-4)


def test_channels_last_models_have_places_too() -> None:
    small = {"embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2), "img_size": 56}
    model = make("swin_tiny_patch4_window7_224", backbone_args=small).eval()
    pictures = torch.randn(2, 3, 56, 56)
    assert model(pictures).anomaly_map.shape == (2, 1, 56, 56)


@pytest.mark.parametrize(
    ("backbone", "any_size"),
    [("test_resnet", True), ("test_convnext", True), ("filter_bank", True), ("test_vit", False)],
)
def test_scaled_views_are_for_convolutions(backbone: str, any_size: bool) -> None:
    from src.models.anomaly.views import Views, check_views

    model, scaled = make(backbone), Views(flip=False, rot90=False, scales=(1.0, 1.25))
    assert model.any_size == any_size
    if any_size:
        check_views(model, (128, 128), scaled)
    else:
        with pytest.raises(ProjectError, match=r"tta\.scales"):
            check_views(model, (128, 128), scaled)


def test_a_size_that_the_backbone_refuses_is_named(images: Tensor) -> None:
    with pytest.raises(ProjectError, match="60×96 pixels.*model.image_size"):
        make("test_vit").eval()(images[:, :, :60])


def bright_squares(n: int, seed: int, size: int = 64) -> tuple[Tensor, Tensor, list[tuple[float, float]]]:
    """Noise, and in every second picture a bright square of 12 pixels; its centre (row, column)."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randn(n, 3, size, size, generator=generator) * 0.3
    corners = torch.randint(4, size - 16, (n, 2), generator=generator).tolist()
    classes = torch.arange(n) % 2
    for i, (top, left) in enumerate(corners):
        if classes[i]:
            pictures[i, :, top : top + 12, left : left + 12] += 2.0
    return pictures, classes, [(top + 5.5, left + 5.5) for top, left in corners]


def trained_on_squares(size: int, lr: float, epochs: int, **options: object) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(class_names=["no", "yes"], normal_classes=["no"], **options).train()
    optimizer = torch.optim.AdamW(model.parameter_groups(lr, 0.01))
    for epoch in range(epochs):
        pictures, classes, _ = bright_squares(8, epoch, size)
        optimizer.zero_grad()
        model.loss(pictures, classes)["cross_entropy"].backward()
        optimizer.step()
    return model.eval()


def test_the_map_finds_a_planted_square() -> None:
    model = trained_on_squares(64, 2e-3, 30, backbone="test_resnet", backbone_args={"output_stride": 8})
    pictures, classes, centres = bright_squares(16, 999)
    answer = model(pictures)
    assert ((answer.score > 0).long() == classes).float().mean() >= 0.9
    grid = torch.arange(64.0)
    for plane, label, centre in zip(answer.anomaly_map[:, 0], classes, centres, strict=True):
        if label:
            hot = (plane - plane.amax() * 0.5).clamp_min(0)
            found = (float((hot.sum(1) * grid).sum() / hot.sum()), float((hot.sum(0) * grid).sum() / hot.sum()))
            assert math.dist(found, centre) < 8  # a cell of the last feature map


def test_the_filter_banks_map_finds_a_planted_square() -> None:
    model = trained_on_squares(128, 3e-2, 15, backbone="filter_bank")
    pictures, classes, centres = bright_squares(8, 999, 128)
    answer = model(pictures)
    assert ((answer.score > 0).long() == classes).float().mean() >= 0.9
    for plane, label, centre in zip(answer.anomaly_map[:, 0], classes, centres, strict=True):
        if label:
            hot = (plane >= plane.amax() * 0.9).nonzero().float().mean(0).tolist()
            assert math.dist(hot, centre) < 20  # half a window


# -- what learns, and how fast


def rate_of(model: Classifier, groups: list[dict], name: str) -> float:
    parameter = dict(model.model.named_parameters())[name]
    return next(g["lr"] for g in groups if any(p is parameter for p in g["params"]))


def test_layer_wise_rates(weights: str) -> None:
    model = make(weights=weights, layer_decay=0.5, backbone_lr=0.2)
    groups = model.parameter_groups(1.0, 0.1)
    # test_resnet: a stem, four stages of one block each, the head
    found = [rate_of(model, groups, name) for name in
             ["conv1.0.weight", *(f"layer{i}.0.conv1.weight" for i in (1, 2, 3, 4)), "fc.weight"]]  # fmt: skip
    assert found == pytest.approx([0.2 * 0.5**5, 0.2 * 0.5**4, 0.2 * 0.5**3, 0.2 * 0.5**2, 0.2 * 0.5, 1.0])
    named = [p for g in groups for p in g["params"]]
    assert len(named) == len({id(p) for p in named}) == len(list(model.parameters()))
    for group in groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.1}


def test_rates_are_those_of_timm(weights: str) -> None:
    from timm.optim import param_groups_layer_decay

    model = make(weights=weights, layer_decay=0.7)
    expected = {
        id(p): (g["lr_scale"], g["weight_decay"])
        for g in param_groups_layer_decay(model.model, weight_decay=0.05, layer_decay=0.7)
        for p in g["params"]
    }
    found = {id(p): (g["lr"], g["weight_decay"]) for g in model.parameter_groups(1.0, 0.05) for p in g["params"]}
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key]) for key in found)


def test_random_weights_learn_everywhere_alike() -> None:
    model = make(layer_decay=0.5, backbone_lr=0.1, unfreeze_every=2, freeze_norm=True)
    model.begin_epoch(0)
    assert {group["lr"] for group in model.parameter_groups(1.0, 0.1)} == {1.0}
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.train().modules())


def learning(model: Classifier) -> set[str]:
    return {name.split(".")[0] for name, p in model.model.named_parameters() if p.requires_grad}


def test_stages_wake_by_epoch(weights: str) -> None:
    model = make(weights=weights, unfreeze_every=2).train()
    assert model.stages == 6
    awake = ["fc", "layer4", "layer3", "layer2", "layer1", "conv1"]
    for epoch in range(14):
        model.begin_epoch(epoch)
        expected = set(awake[: 1 + epoch // 2])
        assert learning(model) - {"bn1"} == expected
        for name, part in model.model.named_children():
            if list(part.parameters()):
                assert part.training == (name in expected or (name == "bn1" and "conv1" in expected)), (epoch, name)
    fresh = make(weights=weights, unfreeze_every=2).train()
    fresh.begin_epoch(5)  # a resumed run begins here
    assert learning(fresh) == {"fc", "layer4", "layer3"}
    # the optimiser holds what wakes later
    assert sum(len(g["params"]) for g in fresh.parameter_groups(1.0, 0.0)) == len(list(fresh.parameters()))


def test_frozen_stages_keep_weights_and_statistics(weights: str, images: Tensor) -> None:
    model = make(weights=weights, unfreeze_every=1)
    model.begin_epoch(0)
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    step(model, images)
    changed = {n.split(".")[0] for n, v in model.model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"fc"}
    model.eval()
    assert not any(module.training for module in model.modules())
    model.begin_epoch(1)
    assert not any(module.training for module in model.modules())  # waking stages does not begin training
    step(model, images)
    changed = {n.split(".")[0] for n, v in model.model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"fc", "layer4"}


def test_freeze_norm(weights: str, images: Tensor) -> None:
    model = make(weights=weights, freeze_norm=True)
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    kept = model.model.layer1[0].conv1.weight.clone()
    step(model, images)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert not torch.equal(kept, model.model.layer1[0].conv1.weight)
    again = make(freeze_norm=True)
    again.load_state_dict(model.state_dict())
    assert not any(m.training for m in again.train().modules() if isinstance(m, nn.BatchNorm2d))


# -- weights


def test_a_head_of_other_classes_is_left_out(weights: str) -> None:
    model = make(weights=weights)
    stored = torch.load(weights, weights_only=True)
    assert torch.equal(model.model.layer4[0].conv1.weight, stored["layer4.0.conv1.weight"])
    assert set(model.report.unused) == {"fc.weight", "fc.bias"} and not model.report.missing
    # the new head begins at zero: no class is preferred, and pretrained features are not shaken by random ones
    assert model.model.fc.weight.shape[0] == 3 and not model.model.fc.weight.any() and not model.model.fc.bias.any()
    answer = model.eval()(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(answer.probs, torch.full((2, 3), 1 / 3))


def test_a_head_of_the_same_classes_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "three.pth"
    source = timm.create_model("test_resnet", num_classes=3)
    torch.save(source.state_dict(), path)
    model = make(weights=str(path))
    assert torch.equal(model.model.fc.weight, source.fc.weight) and not model.report.unused


def test_another_backbones_weights_are_refused(weights: str) -> None:
    with pytest.raises(ProjectError, match="do not fit backbone test_efficientnet"):
        make("test_efficientnet", weights=weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet19"}, "Did you mean 'resnet"),
        ({"class_names": ["one"], "normal_classes": []}, "two classes or more"),
        ({"class_names": ["a", "a"], "normal_classes": []}, "each once"),
        ({"normal_classes": ["god"]}, "Did you mean 'good'"),
        ({"loss": "focl"}, "Did you mean 'focal'"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"layer_decay": 1.5}, "model.layer_decay"),
        ({"unfreeze_every": 0.5}, "model.unfreeze_every"),
        ({"class_weights": "balanced"}, "class_counts is"),
        ({"backbone": "vgg11", "drop_path": 0.1}, "set model.drop_path=0"),
        ({"backbone_args": {"num_classes": 5}}, "backbone_args.num_classes"),
        ({"backbone_args": {"drop_rate": 0.5}}, "set model.dropout"),
        ({"backbone_args": {"paddings": 5}}, "refuses backbone_args"),
        ({"backbone": "filter_bank", "backbone_args": {"a": 5}}, "takes no backbone_args"),
    ],
)
def test_mistakes_are_named(options: dict, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        make(**options)


def test_running_standardization_is_that_of_everything_seen() -> None:
    from src.models.anomaly.filter_classifier import RunningStandardization

    torch.manual_seed(0)
    rows = torch.randn(23, 4) * 3 + 5
    norm = RunningStandardization(4).train()
    for part in rows.split([1, 7, 15]):
        norm(part)
    answer = norm.eval()(rows)
    torch.testing.assert_close(norm.mean, rows.mean(0))
    torch.testing.assert_close(norm.variance, rows.var(0, correction=0))
    torch.testing.assert_close(norm(rows[3:4]), answer[3:4])
