"""Detic-style training: tags teach classes that have no boxes, classes are replaced by their texts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from src.errors import ProjectError
from src.hub_models import build_model, load_config, prepare_network
from src.models.detection.detic import DeticDetector
from src.models.detection.text_embeddings import embed_texts, tower_config
from tests.models.detection.tiny_networks import CLIP_TEXT, CLIP_VISION
from tests.models.detection.tiny_tokenizers import clip_tokenizer

NAMES = ["red square", "green square", "blue square"]
OPTIONS = {
    "backbone": "test_resnet",
    "strides": [8, 16],
    "width": 32,
    "depth": 1,
    "text_encoder": "owner/clip",
    "text_weights": None,
    "template": "a photo of a {}",
    "embedding_width": 64,
    "tag_weight": 1.0,
}


def build(*, names=NAMES, seed=0, **changes) -> DeticDetector:
    prepared = prepare_network(
        DeticDetector, {**OPTIONS, **changes}, weights="random", weights_dir=None, bundled=False, class_names=names
    )
    torch.manual_seed(seed)
    return DeticDetector(num_classes=len(names), image_size=(64, 64), **prepared.options, **prepared.initial)


def sample(rng: np.random.Generator, colour: int, *, boxes: bool = True) -> tuple[torch.Tensor, dict]:
    """A bright square of one colour on noise."""
    image = torch.from_numpy(rng.normal(0, 0.1, (3, 64, 64)).astype(np.float32))
    side = int(rng.integers(20, 34))
    x, y = (int(value) for value in rng.integers(0, 64 - side, 2))
    image[colour, y : y + side, x : x + side] += 2
    box = torch.tensor([[x, y, x + side, y + side]], dtype=torch.float32)
    return image, {
        "boxes": box if boxes else torch.zeros(0, 4),
        "labels": torch.tensor([colour] if boxes else [], dtype=torch.int64),
        "tags": torch.tensor([colour]),
        "has_boxes": boxes,
    }


def score_of(net: DeticDetector, images: torch.Tensor, label: int) -> float:
    net.eval()
    found = net.detect(images)
    net.train()
    return float(np.mean([max([0.0, *one["scores"][one["labels"] == label].tolist()]) for one in found]))


def test_tags_alone_teach_a_class() -> None:
    """Blue squares are never boxed: their boxes come from the other colours, their class from tags."""
    rng = np.random.default_rng(0)
    net = build()
    blue = torch.stack([sample(rng, 2)[0] for _ in range(4)])
    optimizer = torch.optim.AdamW(net.parameter_groups(lr=2e-3, weight_decay=1e-4))
    net.train()
    tag_losses = []
    for step in range(26):
        batch = [sample(rng, int(rng.integers(2))) for _ in range(4)] + [sample(rng, 2, boxes=False) for _ in range(2)]
        losses = net.loss(torch.stack([image for image, _ in batch]), [target for _, target in batch])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        tag_losses.append(float(losses["loss_tag"].detach()))
        if step == 12:
            before = score_of(net, blue, 2)
    assert np.mean(tag_losses[-3:]) < 0.5 * np.mean(tag_losses[:3])
    after = score_of(net, blue, 2)
    assert after > before and after > max(score_of(net, blue, 0), score_of(net, blue, 1))


@pytest.mark.parametrize("tag_loss", ["max-size", "max-score"])
def test_which_proposal_answers_for_a_tag(tag_loss: str) -> None:
    net = build(tag_loss=tag_loss)
    logits = torch.zeros(3, 3, requires_grad=True)
    with torch.no_grad():
        logits[1, 0] = 2.0
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 5, 5], [0, 0, 30, 30]])
    net._tag_loss(logits, boxes, torch.tensor([0, 2])).backward()
    rows = logits.grad.abs().sum(dim=1).nonzero()[:, 0].tolist()
    assert rows == ([2] if tag_loss == "max-size" else [0, 1])
    if tag_loss == "max-size":
        # both tags are wanted of it, class 1 is not, twice; neither tag speaks against the other
        assert logits.grad[2, 0] < 0 and logits.grad[2, 2] < 0 and logits.grad[2, 1] > 0
        assert logits.grad[2, 0] == -0.5 and logits.grad[2, 1] == 1.0


def test_an_image_without_boxes_and_tags_teaches_nothing() -> None:
    net = build()
    image, target = sample(np.random.default_rng(0), 1, boxes=False)
    target["tags"] = torch.zeros(0, dtype=torch.int64)
    losses = net.loss(image[None], [target])
    assert all(float(value.detach()) == 0 for value in losses.values())
    sum(losses.values()).backward()


def test_the_vocabulary_is_replaced_after_training() -> None:
    net = build().eval()
    images = torch.randn(2, 3, 64, 64)
    before = net.detect(images)
    embedded = torch.tensor(embed_texts([*NAMES, "umbrella"], folder=None, config=net.text_config))
    net.set_vocabulary(["umbrella", *NAMES], embedded[[3, 0, 1, 2]])
    assert net.num_classes == 4 and net.class_names[0] == "umbrella"
    after = net.detect(images)
    for one, other in zip(before, after, strict=True):
        old = one["scores"][one["labels"] == 1]
        new = other["scores"][other["labels"] == 2]
        if len(one["scores"]) < net.max_detections and len(other["scores"]) < net.max_detections:
            torch.testing.assert_close(old, new)
    assert net.class_embeddings.norm(dim=1).tolist() == pytest.approx([1.0] * 4)
    with pytest.raises(ProjectError, match=r"embeddings of shape \(2, 64\)"):
        net.set_vocabulary(["a", "b"], embedded)


def test_answers_keep_the_contract() -> None:
    net = build().eval()
    net.score_floor = 0.0
    for one in net.detect(torch.randn(2, 3, 64, 64)):
        boxes = one["boxes"]
        assert 0 < len(boxes) <= 100 and (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all() and (boxes <= 64).all()
        assert (one["scores"].diff() <= 0).all() and one["scores"].max() <= 1 and one["labels"].dtype == torch.int64
    net.score_floor = 1.1
    assert net.detect(torch.randn(1, 3, 64, 64))[0]["boxes"].shape == (0, 4)


def test_rebuilds_from_plain_options_and_a_state_dict() -> None:
    prepared = prepare_network(
        DeticDetector, OPTIONS, weights="random", weights_dir=None, bundled=False, class_names=NAMES
    )
    assert set(prepared.initial) == {"weights", "embeddings"} and len(prepared.initial["embeddings"]) == 3
    plain = json.loads(json.dumps(prepared.options))
    one = build().eval()
    other = DeticDetector(num_classes=3, image_size=[64, 64], **plain).eval()
    other.load_state_dict(one.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(one.class_embeddings, other.class_embeddings)
    assert torch.equal(one.detect(images)[0]["scores"], other.detect(images)[0]["scores"])


def test_embeddings_are_clips_own(tmp_path: Path) -> None:
    """Of a checkpoint's folder: the tower's weights and tokenizer, the template around the name, length 1."""
    from transformers import CLIPModel

    tokenizer = clip_tokenizer(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = load_config("clip", {"text_config": CLIP_TEXT, "vision_config": CLIP_VISION, "projection_dim": 16})
    model, _ = build_model(CLIPModel, config, None)
    model.eval().save_pretrained(tmp_path)
    own = tower_config(str(tmp_path))
    assert own["model_type"] == "clip_text_model" and own["projection_dim"] == 16
    found = torch.tensor(embed_texts(["cat", "fire truck"], folder=str(tmp_path), config=own))
    rows = tokenizer(["a photo of a cat", "a photo of a fire truck"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.get_text_features(**rows).pooler_output
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=-1), atol=1e-5, rtol=1e-4)


def test_every_parameter_is_in_one_group() -> None:
    net = build()
    ids = [id(p) for group in net.parameter_groups(1e-3, 0.1) for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in net.parameters() if p.requires_grad)


def test_mistakes_are_named() -> None:
    with pytest.raises(ProjectError, match="Did you mean 'max-size'"):
        build(tag_loss="max_size")
    with pytest.raises(ProjectError, match="was not prepared"):
        DeticDetector(num_classes=1, image_size=(64, 64), class_names=["cat"])
