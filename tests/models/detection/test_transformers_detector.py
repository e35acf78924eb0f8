"""Detectors of transformers: answers equal the processors', other classes, canvases, normalisation, learning."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from src.errors import ProjectError
from src.hub_models import prepare_network
from src.models.detection.transformers_detector import (
    IMAGENET,
    UNIT,
    TransformersDetector,
    canvas_unit,
    detector_class,
)
from tests.models.detection.tiny_detectors import RESNET, TRANSFORMERS

NAMES = ["cat", "fire truck", "dog"]


def build(
    architecture: str, *, weights: str = "random", config: dict | None = None, size: tuple[int, int] = (64, 64), **more
) -> TransformersDetector:
    options = {"architecture": architecture, "checkpoint": "owner/tiny", "score_floor": 0.0, **more}
    options["config"] = TRANSFORMERS[architecture] if config is None else config
    prepared = prepare_network(
        TransformersDetector, options, weights=weights, weights_dir=None, bundled=False, class_names=NAMES
    )
    torch.manual_seed(0)
    return TransformersDetector(num_classes=3, image_size=size, **prepared.options, **prepared.initial)


@pytest.mark.parametrize(
    ("architecture", "processor"),
    [
        ("rt_detr", "RTDetrImageProcessor"),
        ("d_fine", "RTDetrImageProcessor"),
        ("detr", "DetrImageProcessor"),
        ("yolos", "YolosImageProcessor"),
        ("conditional_detr", "ConditionalDetrImageProcessor"),
        ("deformable_detr", "DeformableDetrImageProcessor"),
        ("rf_detr", "RfDetrImageProcessor"),
    ],
)
def test_answers_equal_the_processors(architecture: str, processor: str, monkeypatch) -> None:
    """On random outputs, most boxes within the canvas, some of which leave it."""
    import transformers

    kept = 100 if architecture in ("deformable_detr", "conditional_detr") else 12  # theirs: 100, or one a query
    net = build(architecture, score_floor=0.1, max_detections=kept).eval()
    wide = 4 if architecture in ("detr", "yolos") else 3
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(2, 12, wide, generator=generator)
    boxes = torch.rand(2, 12, 4, generator=generator) * 0.4 + 0.3
    answer = SimpleNamespace(logits=logits, pred_boxes=boxes)
    monkeypatch.setattr(net.model, "forward", lambda pixel_values: answer)
    mine = net.detect(torch.zeros(2, 3, 64, 96) if architecture != "rf_detr" else torch.zeros(2, 3, 64, 64))
    width = 64 if architecture == "rf_detr" else 96
    theirs = getattr(transformers, processor)().post_process_object_detection(
        answer, threshold=0.1, target_sizes=torch.tensor([[64, width]] * 2)
    )
    for one, other in zip(mine, theirs, strict=True):
        order = other["scores"].argsort(descending=True)
        assert len(one["scores"]) == len(order) > 3
        torch.testing.assert_close(one["scores"], other["scores"][order])
        assert one["labels"].tolist() == other["labels"][order].tolist()
        expected = other["boxes"][order].float().clamp(min=0).minimum(torch.tensor([width, 64, width, 64]))
        torch.testing.assert_close(one["boxes"], expected)


def save(architecture: str, folder: Path, *, classes: int = 5) -> Path:
    """A random checkpoint of other classes, as save_pretrained writes it."""
    from src.hub_models import build_config, load_config

    config = load_config(architecture, TRANSFORMERS[architecture])
    names = {index: f"thing {index}" for index in range(classes)}
    config = {**config, "id2label": names, "label2id": {name: index for index, name in names.items()}}
    torch.manual_seed(11)
    detector_class(architecture)(build_config(config)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("architecture", "class_names"),
    [
        ("rt_detr_v2", ("class_embed", "enc_score_head", "denoising_class_embed")),
        ("d_fine", ("class_embed", "enc_score_head", "denoising_class_embed")),
        ("detr", ("class_labels_classifier",)),
        ("rf_detr", ("class_embed",)),
    ],
)
def test_a_checkpoint_of_other_classes(architecture: str, class_names: tuple[str, ...], tmp_path: Path) -> None:
    folder = save(architecture, tmp_path / "checkpoint")
    net = build(architecture, weights=str(folder), config={})
    report = net.report
    assert report.loaded > 40 and not report.missing and report.mismatched
    assert all(any(part in name for part in class_names) for name in report.mismatched)
    other = detector_class(architecture).from_pretrained(folder).state_dict()
    own = net.model.state_dict()
    differing = {name for name in own if own[name].shape != other[name].shape}
    # a parameter that two names share (a decoder's and the model's class_embed) is reported once
    assert set(report.mismatched) <= differing and all(any(part in name for part in class_names) for name in differing)
    assert all(torch.equal(own[name], other[name]) for name in set(own) - differing)
    groups = net.parameter_groups(1.0, 0.1)
    assert {group["lr"] for group in groups} == {1.0, 0.1}  # a pretrained backbone learns slower
    again = TransformersDetector(num_classes=3, image_size=(64, 64), **plain(net))
    again.load_state_dict(net.state_dict())


def plain(net: TransformersDetector) -> dict:
    """Options that rebuild the network, through JSON."""
    from src.hub_models import plain_config

    options = {"architecture": net.architecture, "checkpoint": net.checkpoint, "config": plain_config(net.model.config)}
    return json.loads(json.dumps(options))


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    folder = save("detr", tmp_path / "checkpoint")
    with pytest.raises(ProjectError, match="is a detr"):
        build("rt_detr", weights=str(folder), config={})


def test_a_checkpoint_that_lacks_parameters_is_refused(tmp_path: Path) -> None:
    folder = save("detr", tmp_path / "checkpoint")
    with pytest.raises(ProjectError, match="does not fit"):
        build("detr", weights=str(folder), config={"encoder_layers": 2})


def test_old_checkpoints_that_name_a_timm_backbone(tmp_path: Path) -> None:
    """facebook/detr-resnet-50 and its like: nothing is fetched for the backbone, and the plain options rebuild it."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    layers = {key: value for key, value in TRANSFORMERS["detr"].items() if key != "backbone_config"}
    old = {"model_type": "detr", "use_timm_backbone": True, "backbone": "resnet18", "use_pretrained_backbone": True,
           "dilation": False, **layers}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(old))
    (folder / "model.safetensors").write_bytes(b"")
    options = {"architecture": "detr", "checkpoint": "owner/tiny", "config": {}}
    prepared = TransformersDetector.prepare(options, {"weights": str(folder)}, NAMES)
    net = TransformersDetector(num_classes=3, image_size=(64, 64), **json.loads(json.dumps(prepared)))
    assert len(net.eval().detect(torch.zeros(1, 3, 64, 64))) == 1


@pytest.mark.parametrize("architecture", ["rt_detr", "rt_detr_v2", "d_fine", "deimv2"])
def test_families_of_the_unit_range(architecture: str) -> None:
    net_options = TransformersDetector.prepare(
        {"architecture": architecture, "config": TRANSFORMERS[architecture]}, {"weights": None}, NAMES
    )
    assert TransformersDetector.normalization(net_options) == {key: list(UNIT[key]) for key in UNIT}


@pytest.mark.parametrize("architecture", TRANSFORMERS)
def test_family_normalisation_is_that_of_its_image_processor(architecture: str) -> None:
    """Where transformers names an image processor for the family."""
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES as NAMES_OF

    found = NAMES_OF.get(architecture)
    if not found:
        pytest.skip("the family's checkpoints name the processor themselves")
    processor = getattr(transformers, found["torchvision"])()
    options = TransformersDetector.prepare(
        {"architecture": architecture, "config": TRANSFORMERS[architecture]}, {"weights": None}, NAMES
    )
    expected = {"mean": processor.image_mean, "std": processor.image_std} if processor.do_normalize else UNIT
    mine = TransformersDetector.normalization(options)
    assert {key: list(value) for key, value in mine.items()} == {key: list(value) for key, value in expected.items()}


def test_a_checkpoint_says_its_own_normalisation(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rt_detr", **TRANSFORMERS["rt_detr"]}))
    options = {"architecture": "rt_detr", "checkpoint": "o/t", "config": {}}
    says = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}
    for name, content in (
        ("preprocessor_config.json", says),
        ("processor_config.json", {"image_processor": says}),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        prepared = TransformersDetector.prepare(options, {"weights": str(tmp_path)}, NAMES)
        assert prepared["image_mean"] == [0.5] * 3 and prepared["image_std"] == [0.2] * 3
        (tmp_path / name).unlink()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False, "image_mean": [0.5] * 3}))
    assert TransformersDetector.prepare(options, {"weights": str(tmp_path)}, NAMES)["image_mean"] == [0.0] * 3
    assert IMAGENET["mean"][0] == 0.485


@pytest.mark.parametrize(
    ("architecture", "size", "next_size"),
    [
        ("rt_detr", (80, 112), r"\[96, 128\]"),
        ("d_fine", (63, 64), "64"),
        ("deimv2", (100, 100), "128"),
        ("lw_detr", (80, 64), r"\[96, 64\]"),
        ("rf_detr", (64, 96), "96"),
        ("rf_detr", (70, 70), "80"),
        ("yolos", (70, 64), r"\[80, 64\]"),
    ],
)
def test_canvases_that_do_not_fit_name_the_next(architecture: str, size, next_size: str) -> None:
    with pytest.raises(ProjectError, match=rf"model.image_size={next_size}\."):
        build(architecture, size=size)
    net = build(architecture, size=(64, 64))
    with pytest.raises(ProjectError, match="does not fit"):  # scaled views of an image come here as well
        net.eval().detect(torch.zeros(1, 3, *size))


def test_canvas_units_of_published_configurations() -> None:
    dinov2 = {"model_type": "rf_detr_dinov2", "patch_size": 14, "num_windows": 4}
    assert canvas_unit({"model_type": "rf_detr", "backbone_config": dinov2}) == (56, True)
    vit = {"model_type": "lw_detr_vit", "patch_size": 16, "num_windows": 16}
    assert canvas_unit({"model_type": "lw_detr", "backbone_config": vit}) == (64, False)
    assert canvas_unit({"model_type": "rt_detr", "feat_strides": [8, 16, 32], "backbone_config": {}}) == (32, False)
    assert canvas_unit({"model_type": "detr", "backbone_config": RESNET}) == (1, False)


def test_fixed_grids_of_a_checkpoint_are_dropped(tmp_path: Path) -> None:
    """RT-DETR can keep anchors of one canvas in its configuration; another canvas would read the wrong ones."""
    config = {**TRANSFORMERS["rt_detr"], "anchor_image_size": [128, 128], "eval_size": 128}
    options = {"architecture": "rt_detr", "checkpoint": "o/t", "config": config}
    prepared = TransformersDetector.prepare(options, {"weights": None}, NAMES)["config"]
    assert prepared["anchor_image_size"] is None and prepared["eval_size"] is None


@pytest.mark.parametrize(("word", "nearest"), [("rt_dter", "rt_detr"), ("pp_doclayout_v2", None), ("resnet", None)])
def test_what_is_no_trainable_detector_is_refused(word: str, nearest: str | None) -> None:
    with pytest.raises(ProjectError, match="no detector") as caught:
        detector_class(word)
    assert nearest is None or f"'{nearest}'" in str(caught.value)
    assert "pp_" not in str(caught.value).partition("Known:")[2]


@pytest.mark.parametrize("architecture", ["rt_detr_v2", "d_fine", "detr", "deformable_detr", "rf_detr"])
def test_training_lowers_the_loss(architecture: str) -> None:
    net = build(architecture).train()
    generator = torch.Generator().manual_seed(2)
    images = 0.1 * torch.randn(4, 3, 64, 64, generator=generator)
    targets = []
    for index in range(4):
        x, y = (int(v) for v in torch.randint(4, 30, (2,), generator=generator))
        images[index, index % 3, y : y + 24, x : x + 24] += 1.5
        targets.append(
            {"boxes": torch.tensor([[x, y, x + 24.0, y + 24.0]]), "labels": torch.tensor([index % 3]),
             "tags": torch.tensor([index % 3]), "has_boxes": True}
        )  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameter_groups(lr=3e-3, weight_decay=1e-4))
    values = []
    for _ in range(14):
        loss = sum(net.loss(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-3:]) < 0.85 * sum(values[:3])


def test_the_loss_stays_finite_where_half_precision_rounds_scores() -> None:
    """LW-DETR's loss takes logarithms of scores; in bfloat16 a score of 0.999 is 1, and its complement's infinite."""
    net = build("lw_detr").train()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("class_embed.bias"):
                parameter.fill_(9.0)
    target = {"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([1]), "has_boxes": True}
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(net.loss(torch.zeros(2, 3, 64, 64), [target] * 2)["loss_detection"])


def test_unprepared_options_are_refused() -> None:
    with pytest.raises(ProjectError, match="not prepared"):
        TransformersDetector(num_classes=2, image_size=(64, 64))
