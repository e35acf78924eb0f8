"""The compact captioner: it learns captions by heart, and what it writes depends on the picture alone."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from src.captions.decoding import Decoding
from src.errors import ProjectError
from src.models.caption.encoder_decoder import EncoderDecoder
from src.models.caption.subwords import train_subwords
from src.models.caption.text_decoder import DecoderStepper

CAPTIONS = [
    ["빨간 원 두 개가 왼쪽에 있다."],
    ["파란 사각형 하나가 오른쪽에 있습니다."],
    ["초록색 별 세 개, 노란 원 한 개."],
    ['간판에 "환영합니다!"라고 적혀 있어요.'],
    ["강아지 두 마리가 풀밭 위를 달린다."],
    ["우산을 쓴 사람이 비 오는 거리를 걷는다."],
    ["빈 접시."],
    ["하늘에 연이 높이 떠 있고 아이가 그것을 바라본다."],
]
TINY = {"channels": (8, 16, 16, 16), "layers": (1, 1, 1, 1), "stem_width": 8}
TOKENIZER = train_subwords([text for group in CAPTIONS for text in group], vocab_size=150)
GREEDY = Decoding(method="greedy", candidates=1)


def tiny(**options: Any) -> EncoderDecoder:
    torch.manual_seed(0)
    defaults = {"backbone": "resnet18", "backbone_args": TINY, "width": 32, "dropout": 0.0, "label_smoothing": 0.0}
    return EncoderDecoder(image_size=(64, 64), tokenizer_json=TOKENIZER, **{**defaults, **options})


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (64, 64)) -> Tensor:
    """Coarse random patterns, each a picture of its own."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 8, 8, generator=draw)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")


@pytest.fixture(scope="module")
def learnt() -> tuple[EncoderDecoder, Tensor]:
    """A network that has learnt eight pictures' captions."""
    torch.set_num_threads(1)
    model, images = tiny(width=64).train(), pictures(8)
    optimizer = torch.optim.AdamW(model.parameter_groups(3e-3, 0.01))
    for _ in range(60):
        loss = sum(model.loss(images, CAPTIONS).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, images


def test_eight_captions_come_back_exactly(learnt: tuple[EncoderDecoder, Tensor]) -> None:
    model, images = learnt
    for method in ("greedy", "beam", "contrastive"):
        decoding = Decoding(method=method, contrastive_alpha=0.1)
        assert [found[0].text for found in model.generate(images, decoding)] == [group[0] for group in CAPTIONS]
    assert model.training  # as it was


@pytest.mark.parametrize("method", ["greedy", "beam", "nucleus", "contrastive"])
def test_saved_and_rebuilt_it_writes_the_same_alone_or_in_a_batch(
    learnt: tuple[EncoderDecoder, Tensor], method: str
) -> None:
    model, images = learnt
    again = tiny(width=64)
    again.load_state_dict(model.state_dict())
    images = images + 0.7 * pictures(8, seed=1)  # no longer learnt by heart: candidates differ
    decoding = Decoding(method=method, max_tokens=15)
    seeds = list(range(8))
    first = model.generate(images, decoding, seeds=seeds)
    for image in range(8):
        alone = again.generate(images[image : image + 1], decoding, seeds=seeds[image : image + 1])[0]
        assert [one.text for one in alone] == [one.text for one in first[image]]
        assert [one.score for one in alone] == pytest.approx([one.score for one in first[image]], abs=1e-4)
    for group in first:
        texts = [one.text for one in group]
        assert 1 <= len(texts) <= 5
        assert len(set(texts)) == len(texts)
        assert all(one.score <= 0 for one in group)
        assert not any("<" in text for text in texts)
    if method in ("beam", "nucleus"):
        assert max(len(group) for group in first) > 1


def test_scores_are_those_of_the_loss(learnt: tuple[EncoderDecoder, Tensor]) -> None:
    model, images = learnt
    model.eval()
    noisy = images + pictures(8, seed=2)
    for image in range(8):
        for candidate in model.generate(noisy[image : image + 1], Decoding(candidates=2, beams=2))[0]:
            ids = model.codec.encode(candidate.text, 99)
            with torch.no_grad():
                loss = model.loss(noisy[image : image + 1], [[candidate.text]])["loss_caption"]
            if model.codec.decode(ids) == candidate.text and len(ids) < model.max_tokens:
                assert candidate.score >= -float(loss) - 1e-4  # the likeliest spelling in subwords, or better
    model.train()


def test_each_image_counts_alike() -> None:
    model = tiny().eval()
    images = pictures(2)
    one, many = CAPTIONS[0], [text for group in CAPTIONS[1:5] for text in group]
    with torch.no_grad():
        first = model.loss(images[:1], [one])["loss_caption"]
        second = model.loss(images[1:], [many])["loss_caption"]
        both = model.loss(images, [one, many])["loss_caption"]
        none = model.loss(images.repeat(2, 1, 1, 1), [one, [], many, []])["loss_caption"]
        swapped = model.loss(images[[0, 0, 1, 1]], [one, [], [], many])["loss_caption"]
    assert float(both) == pytest.approx(float(first + second) / 2, rel=1e-4)
    assert float(swapped) == pytest.approx(float(both), rel=1e-4)
    assert float(none) != pytest.approx(float(both), rel=1e-4)  # `many` belongs to another picture there


def test_equal_and_unequal_numbers_of_captions_take_the_same_path_to_the_loss() -> None:
    model = tiny().eval()
    groups = [[*CAPTIONS[0], *CAPTIONS[1]], [*CAPTIONS[2], *CAPTIONS[3]]]
    images = pictures(2)
    with torch.no_grad():
        whole = model.loss(images, groups)["loss_caption"]
        padded = model.loss(torch.cat([images, images[:1]]), [*groups, []])["loss_caption"]
    assert float(whole) == pytest.approx(float(padded), rel=1e-5)


def test_no_caption_is_no_loss_and_long_ones_are_cut() -> None:
    model = tiny(max_tokens=3).train()
    losses = model.loss(pictures(2), [[], []])
    sum(losses.values()).backward()
    assert sum(float(loss.detach()) for loss in losses.values()) == 0.0
    rows, _ = model._tokens([[CAPTIONS[7][0]], [CAPTIONS[6][0]]], torch.device("cpu"))
    short = model.codec.encode(CAPTIONS[6][0], 99)
    assert len(short) <= 3 < len(model.codec.encode(CAPTIONS[7][0], 99))
    cut = [model.codec.bos, *model.codec.encode(CAPTIONS[7][0], 3)]  # it does not end there
    assert [token for token in rows[0].tolist() if token != model.codec.pad] == cut
    assert rows[1].tolist() == [model.codec.bos, *short, model.codec.eos]


def test_a_step_with_kept_keys_equals_reading_the_whole_caption() -> None:
    model = tiny(depth=3, heads=2).eval()
    visual = model.encode(pictures(3))
    tokens = torch.randint(4, model.codec.size, (6, 7), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = model.codec.bos
    hidden, _ = model.decoder(tokens, model.decoder.look(visual))  # two captions an image
    stepper = DecoderStepper(model.decoder, visual, begin=model.codec.bos, end=model.codec.eos, banned=())
    step = stepper.begin()
    torch.testing.assert_close(step.hidden, hidden[::2, 0], rtol=1e-4, atol=1e-5)
    step = stepper.advance(tokens[:, 1], torch.arange(3).repeat_interleave(2))
    for place in range(2, 5):
        torch.testing.assert_close(step.hidden, hidden[:, place - 1], rtol=1e-4, atol=1e-5)
        step = stepper.advance(tokens[:, place], torch.arange(6))
    step = stepper.advance(tokens[[3, 2, 5, 5], 5], torch.tensor([3, 2, 5, 5]))  # the first image is dropped
    torch.testing.assert_close(step.hidden, hidden[[3, 2, 5, 5], 5], rtol=1e-4, atol=1e-5)
    step = stepper.advance(tokens[[5, 5], 6], torch.tensor([2, 3]))  # the second too
    torch.testing.assert_close(step.hidden, hidden[[5, 5], 6], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "args", "options"),
    [
        ("mobilenetv4_conv_small_050", {}, {"strides": [16, 32], "visual_depth": 1}),
        ("resnet18", TINY, {"strides": [8], "word_dropout": 0.3}),
        ("test_vit", {}, {"strides": [16], "concept_weight": 0.5}),
    ],
)
def test_any_backbone_of_any_size_teaches_every_parameter(backbone: str, args: dict, options: dict) -> None:
    model = tiny(backbone=backbone, backbone_args=args, dropout=0.1, **options).train()
    size = (160, 160) if backbone == "test_vit" else (72, 104)
    sum(model.loss(pictures(2, size=size), [CAPTIONS[0] * 2, CAPTIONS[1]]).values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert len(model.generate(pictures(2, size=size), Decoding(max_tokens=5))) == 2


def test_concepts_are_told_from_any_single_cell() -> None:
    """What one cell shows, the image is said to hold; the loss asks for the share of captions that say it."""
    model = tiny(concept_weight=2.0, strides=[16, 32]).eval()
    maps = [torch.zeros(1, count, side, side) for count, side in zip(model.backbone.channels, (4, 2), strict=True)]
    with torch.no_grad():
        for head in model.concepts.heads:
            head.weight.zero_()
            head.bias.zero_()
        assert model.concepts(maps).abs().max() < 1e-6
        model.concepts.heads[0].weight[7, 0] = 10.0
        maps[0][0, 0, 3, 2] = 2.0
        logits = model.concepts(maps)[0]
        assert logits[7] > 15  # e^20 / 16 cells
        assert logits[8].abs() < 1e-6
    codec = model.codec
    tokens = torch.tensor([[codec.bos, 7, codec.eos], [codec.bos, 9, codec.eos]])
    with torch.no_grad():
        both = model._concept_loss(maps, tokens, torch.tensor([0, 0]))
        first = model._concept_loss(maps, tokens[:1], torch.tensor([0]))
    flat = math.log(2) * (codec.size - 1)  # every other subword is at even odds
    assert float(first) == pytest.approx(2.0 * flat, rel=1e-4)
    assert float(both) == pytest.approx(2.0 * (flat + 0.5 * float(logits[7])), rel=1e-4)  # the first in half of them


def test_places_are_told_apart() -> None:
    model = tiny().eval()
    flat = [torch.ones(1, count, 4, 4) for count in model.backbone.channels]
    tokens = model.visual(flat)[0]
    assert torch.pdist(tokens).min() > 0.1


@pytest.mark.parametrize(
    ("backbone", "args", "freeze", "learning"),
    [
        ("resnet18", TINY, 3, ("model.layer3", "model.layer4")),
        ("resnet18", TINY, 1, ("model.layer",)),
        ("convnext_atto", {}, 2, ("model.stages_2", "model.stages_3")),
        ("test_vit", {}, 4, ("model.model.blocks.4", "model.model.blocks.5")),
        ("resnet18", TINY, "all", ()),
    ],
)
def test_frozen_stages_stay_as_they_are(backbone: str, args: dict, freeze: int | str, learning: tuple) -> None:
    strides = [16] if backbone == "test_vit" else [32]
    model = tiny(backbone=backbone, backbone_args=args, freeze=freeze, strides=strides).train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameter_groups(1e-2, 0.1))
    images = pictures(2, size=(160, 160)) if backbone == "test_vit" else pictures(2)
    sum(model.loss(images, CAPTIONS[:2]).values()).backward()
    optimizer.step()
    changed = [name for name, value in model.backbone.state_dict().items() if not torch.equal(value, before[name])]
    assert bool(changed) == bool(learning)
    assert all(name.startswith(learning) for name in changed)
    ids = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert not any(id(p) in ids for p in model.parameters() if not p.requires_grad)


def test_pretrained_parts_learn_slower() -> None:
    model = tiny(backbone_lr=0.1)
    assert {group["lr"] for group in model.parameter_groups(1.0, 0.1)} == {1.0}
    model.pretrained.fill_(1.0)
    groups = model.parameter_groups(1.0, 0.1)
    slow = {id(p) for group in groups if group["lr"] == 0.1 for p in group["params"]}
    assert slow == {id(p) for p in model.backbone.parameters()}
    assert all(p.ndim > 1 for group in groups if group["weight_decay"] for p in group["params"])


def test_mistakes_are_named() -> None:
    with pytest.raises(ProjectError, match="strides.*2, 4, 8, 16, 32"):
        tiny(strides=[12])
    with pytest.raises(ProjectError, match="multiple of 4"):
        tiny(width=30)
    with pytest.raises(ProjectError, match="freeze"):
        tiny(freeze=9)
    with pytest.raises(ProjectError, match="max_tokens"):
        tiny(max_tokens=0)
    with pytest.raises(ProjectError, match="unknown backbone"):
        tiny(backbone="resnet19")
