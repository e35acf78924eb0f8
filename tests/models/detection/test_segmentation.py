"""Masks of boxes through the real Segment Anything classes, on canvases of any aspect."""

import json

import pytest
import torch
import transformers

from src.errors import ProjectError
from src.hub_models import load_config, part_config, prepare_network
from src.models.detection.segmentation import GroundedSam, Segmenter, mask_extents
from tests.models.detection.tiny_networks import CONFIGS, SEGMENTERS

NAMES = ["cat", "dog"]
IMAGENET = [(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)]


def options(segmenter: str | None, architecture="owlv2", **changes) -> dict:
    return {
        "architecture": architecture,
        "checkpoint": "owner/detector",
        "config": CONFIGS[architecture],
        "segmenter": segmenter,
        "segmenter_checkpoint": "owner/segmenter",
        "segmenter_config": SEGMENTERS[segmenter] if segmenter else None,
        "segmenter_weights": None,
        **changes,
    }


def build(segmenter: str | None, *, size=(64, 96), **changes) -> GroundedSam:
    prepared = prepare_network(
        GroundedSam, options(segmenter, **changes), weights="random", weights_dir=None, bundled=False,
        class_names=NAMES,
    )  # fmt: skip
    torch.manual_seed(0)
    return GroundedSam(num_classes=2, image_size=size, score_floor=0.0, **prepared.options, **prepared.initial).eval()


def small_segmenter(architecture: str) -> Segmenter:
    torch.manual_seed(0)
    config = load_config(architecture, SEGMENTERS[architecture])
    return Segmenter(architecture=architecture, config=config, canvas_mean=IMAGENET[0], canvas_std=IMAGENET[1])


@pytest.mark.parametrize("segmenter", SEGMENTERS)
@pytest.mark.parametrize("size", [(64, 96), (80, 48)])
def test_a_mask_for_every_box(segmenter: str, size: tuple[int, int]) -> None:
    net = build(segmenter, size=size)
    for one in net.detect(torch.randn(2, 3, *size)):
        number = len(one["boxes"])
        assert number and one["masks"].shape == (number, *size) and one["masks"].dtype == torch.bool
        assert one["mask_scores"].shape == (number,)
        assert (one["scores"].diff() <= 0).all()


def test_no_boxes_no_masks() -> None:
    net = build("sam2")
    net.score_floor = 1.1
    one = net.detect(torch.randn(1, 3, 64, 96))[0]
    assert one["masks"].shape == (0, 64, 96) and one["boxes"].shape == (0, 4)


@pytest.mark.parametrize("architecture", ["sam", "sam2"])
def test_masks_are_the_ones_of_transformers_processors(architecture: str) -> None:
    """The same picture and box through the processor and through the segmenter give the same mask."""
    net = small_segmenter(architecture)
    size = (48, 64)  # as large as the network's input on its longer side, so that no resampling differs
    picture = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    box = [[10.0, 8.0, 40.0, 30.0], [0.0, 0.0, 20.0, 47.0]]
    if architecture == "sam":
        image_processor = transformers.SamImageProcessor(
            size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}
        )
        processor = transformers.SamProcessor(image_processor)
        processor.target_size = 64
    else:
        image_processor = transformers.Sam2ImageProcessor(size={"height": 64, "width": 64})
        processor = transformers.Sam2Processor(image_processor, target_size=64)
    inputs = processor(images=picture, input_boxes=[box], return_tensors="pt")
    with torch.no_grad():
        output = net.model(
            pixel_values=inputs["pixel_values"].float(), input_boxes=inputs["input_boxes"].float(),
            multimask_output=False,
        )  # fmt: skip
    sizes = (inputs["original_sizes"], inputs["reshaped_input_sizes"]) if architecture == "sam" else (
        inputs["original_sizes"],
    )  # fmt: skip
    expected = image_processor.post_process_masks(output.pred_masks, *sizes)[0][:, 0]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in IMAGENET)
    canvas = (picture[None] / 255 - mean) / std
    masks, quality = net(canvas, [torch.tensor(box)])[0]
    agreement = (masks == expected).float().mean()
    assert masks.any() and not masks.all()
    assert agreement > 0.99, agreement  # antialiased resizing of the second differs in rounding
    torch.testing.assert_close(quality, output.iou_scores[0, :, 0], atol=0.02, rtol=0.02)


def test_pictures_are_normalised_anew() -> None:
    net = small_segmenter("sam3_tracker")
    canvas_mean, canvas_std = (torch.tensor(v).view(1, 3, 1, 1) for v in IMAGENET)
    picture = torch.rand(1, 3, 56, 56)
    ready, factors, inner = net._fit((picture - canvas_mean) / canvas_std)
    torch.testing.assert_close(ready, (picture - 0.5) / 0.5, atol=1e-5, rtol=1e-5)
    assert factors.tolist() == [1, 1] and inner == (56, 56)


def test_many_boxes_are_decoded_in_parts() -> None:
    net = small_segmenter("sam2")
    boxes = torch.rand(70, 4).sort(dim=1).values[:, [0, 1, 3, 2]] * 60
    together = net(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), [boxes])[0][0]
    alone = net(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), [boxes[69:]])[0][0]
    assert together.shape == (70, 64, 64) and (together[69] == alone[0]).float().mean() > 0.999


def test_extents_of_masks() -> None:
    masks = torch.zeros(2, 10, 12, dtype=torch.bool)
    masks[0, 3:6, 2:9] = True
    boxes = torch.tensor([[0.0, 0, 12, 10], [1, 1, 2, 2]])
    assert mask_extents(masks, boxes).tolist() == [[2, 3, 9, 6], [1, 1, 2, 2]]
    net = build("sam2", refine_boxes=True)
    one = net.detect(torch.randn(1, 3, 64, 96))[0]
    rows, columns = (one["masks"][0].any(dim=d).nonzero()[:, 0] for d in (1, 0))
    expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert one["boxes"][0].tolist() == [float(v) for v in expected]


def test_sam3_by_words_needs_no_segmenter() -> None:
    net = build(None, architecture="sam3", freeze=[])
    assert net.segmenter is None and "masks" in net.detect(torch.randn(1, 3, 64, 96))[0]
    with pytest.raises(ProjectError, match="SAM 3 gives masks itself"):
        GroundedSam.prepare(options("sam2", architecture="sam3"), {}, NAMES)
    with pytest.raises(ProjectError, match="needs a segmenter"):
        GroundedSam.prepare(options(None), {}, NAMES)


def test_only_the_detector_is_trained() -> None:
    net = build("sam2").train()
    assert not net.segmenter.model.training and not any(p.requires_grad for p in net.segmenter.parameters())
    ids = {id(p) for p in net.segmenter.parameters()}
    assert not any(id(p) in ids for group in net.parameter_groups(1e-3, 0.0) for p in group["params"])
    target = {"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([1]), "has_boxes": True}
    sum(net.loss(torch.randn(1, 3, 64, 96), [target]).values()).backward()


def test_two_checkpoints_are_asked_for_and_rebuilding_needs_none() -> None:
    asked = GroundedSam.checkpoints(options("sam2"), "pretrained")
    assert asked["weights"] == ("owner/detector", "pretrained")
    assert asked["segmenter_weights"] == ("owner/segmenter", "pretrained")
    asked = GroundedSam.checkpoints(options("sam2", segmenter_weights="random"), "/a/folder")
    assert asked["segmenter_weights"] == ("owner/segmenter", "random")
    assert GroundedSam.checkpoints(options("sam2"), "/a/folder")["segmenter_weights"][1] == "auto"
    prepared = prepare_network(
        GroundedSam, options("sam2"), weights="random", weights_dir=None, bundled=False, class_names=NAMES
    )
    plain = json.loads(json.dumps(prepared.options))
    assert "segmenter_weights" not in plain
    one, other = (GroundedSam(num_classes=2, image_size=[64, 64], **plain).eval() for _ in range(2))
    other.load_state_dict(one.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(one.detect(images)[0]["masks"], other.detect(images)[0]["masks"])


def test_the_published_sam3_holds_detector_and_tracker() -> None:
    whole = load_config("sam3_video")
    assert part_config(whole, "sam3")["model_type"] == "sam3"
    assert part_config(whole, "sam3_tracker")["model_type"] == "sam3_tracker"
    assert part_config(load_config("sam2"), "sam2")["model_type"] == "sam2"


def test_unknown_segmenters_are_named() -> None:
    with pytest.raises(ProjectError, match="Did you mean 'sam2'"):
        Segmenter(architecture="sam22", config={}, canvas_mean=IMAGENET[0], canvas_std=IMAGENET[1])
