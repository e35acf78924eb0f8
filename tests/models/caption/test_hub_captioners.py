"""Captioners from transformers' own classes and processors, tiny and random: they learn, are rebuilt, and write."""

from functools import partial

import pytest
import torch
import transformers

from src.captions.decoding import Decoding
from tests.models.caption import hub_networks
from tests.models.caption.hub_networks import REFERENCES, pictures, texts, train
from tests.models.caption.tiny_checkpoints import CAPTIONS, CHECKPOINTS

GREEDY = Decoding(method="greedy", candidates=1, max_tokens=12)
BEAM = Decoding(method="beam", candidates=3, beams=3, max_tokens=12)
FAMILIES = [*CHECKPOINTS, "vit_kogpt2", "vit_kobart"]
DIFFERENT = ["blip", "blip2", "instructblip", "llava", "qwen2_vl", "smolvlm", "vit_kogpt2"]  # no two ask alike
DIFFERENT += [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES if name not in DIFFERENT]
transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return partial(hub_networks.build, tmp_path_factory.mktemp("checkpoints"))


# -- every family -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FAMILIES)
def test_learns_and_is_rebuilt_from_plain_options(name, build) -> None:
    network, options = build(name)
    assert network.report is not None and network.report.loaded > 20
    images = pictures(network)
    losses = train(network, images, REFERENCES, steps=6)
    assert losses[-1] < losses[0] - 0.5
    again = type(network)(**options)  # no folder, no hub
    again.load_state_dict(network.state_dict())
    answer = network.generate(images, BEAM)
    assert all(1 <= len(group) <= 3 and len({c.text for c in group}) == len(group) for group in answer)
    assert again.generate(images, BEAM) == answer
    assert network.training  # generating leaves the mode as it was


@pytest.mark.parametrize("name", DIFFERENT)
def test_scores_are_the_mean_log_probability_of_what_was_written(name, build, monkeypatch) -> None:
    """Held against the training loss: decoding with a cache and learning with labels must be one network."""
    network, _ = build(name)
    images = pictures(network)
    train(network, images, REFERENCES, steps=4)
    network.eval()
    monkeypatch.setattr(network, "decode", lambda tokens: " ".join(str(token) for token in tokens))
    monkeypatch.setattr(network, "answer_tokens", lambda text: [int(token) for token in text.split()])
    for decoding in (GREEDY, BEAM):
        for index, group in enumerate(network.generate(images, decoding)):
            for text, score in group:
                loss = network.loss(images[index : index + 1], [[text]])["loss_caption"].item()
                assert score == pytest.approx(-loss, abs=2e-4), decoding.method


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_picture_is_described_alike_in_any_batch(name, build) -> None:
    network, _ = build(name)
    images = pictures(network, number=3)
    train(network, images, [[text] for text in CAPTIONS], steps=3)
    nucleus = Decoding(method="nucleus", candidates=2, max_tokens=8, top_p=0.95)
    contrastive = Decoding(method="contrastive", candidates=1, max_tokens=8, contrastive_k=3)
    for decoding in (GREEDY, BEAM, nucleus, contrastive):
        together = network.generate(images, decoding, seeds=[5, 6, 7])
        alone = network.generate(images[1:2], decoding, seeds=[6])
        assert texts(together)[1] == texts(alone)[0], decoding.method
        assert together[1][0].score == pytest.approx(alone[0][0].score, abs=1e-4)
    other = texts(network.generate(images, nucleus, seeds=[8, 9, 10]))
    assert other != texts(network.generate(images, nucleus, seeds=[5, 6, 7]))


@pytest.mark.parametrize("name", DIFFERENT)
def test_only_the_answer_and_its_end_are_learnt(name, build) -> None:
    network, _ = build(name)
    images = pictures(network)
    rows, said = [0, 1, 1], [CAPTIONS[0], CAPTIONS[1], CAPTIONS[2]]
    inputs = network.training_inputs(images, rows, said)
    labels = inputs["labels"]
    for row, text in zip(labels, said, strict=True):
        learnt = row[row != -100].tolist()
        assert learnt[-1] in (network.ends if hasattr(network, "ends") else [network.end])
        assert network.decode(learnt[:-1]) == text
    ids = inputs["decoder_input_ids"] if "decoder_input_ids" in inputs else inputs["input_ids"]
    assert ids.shape == labels.shape
    with torch.no_grad():
        network.eval()
        assert network.loss(images, REFERENCES)["loss_caption"].item() == pytest.approx(
            torch.nn.functional.cross_entropy(
                network.forward_logits({k: v for k, v in inputs.items() if k != "labels"})[labels != -100],
                labels[labels != -100],
            ).item(),
            abs=1e-4,
        )


@pytest.mark.parametrize("name", ["blip", "blip2", "llava", "llava_onevision", "qwen2_vl", "qwen3_vl", "smolvlm"])
def test_inputs_are_those_of_the_checkpoints_own_processor(name, build) -> None:
    """Our pictures are floats that the task normalised; a processor is meant for bytes."""
    network, options = build(name)
    height, width = network.image_size
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=random)
    usual = network.normalization(options)
    mean, std = (torch.tensor(usual[key])[:, None, None] for key in ("mean", "std"))
    ours = network.prompt((pixels / 255 - mean) / std).inputs
    pictures = [transformers.image_transforms.to_pil_image(one.numpy()) for one in pixels]
    if name.startswith("blip"):
        theirs = network.processor(images=pictures, text=[network.prompt_text or ""] * 2, return_tensors="pt")
        if name == "blip":
            with torch.no_grad():
                seen = network.model.vision_model(pixel_values=theirs["pixel_values"]).last_hidden_state
            torch.testing.assert_close(ours["encoder_hidden_states"], seen, atol=1e-4, rtol=1e-4)
            return
    else:
        content = [{"type": "image"}, {"type": "text", "text": network.prompt_text}]
        theirs = network.processor.apply_chat_template(
            [[{"role": "user", "content": [{**content[0], "image": one}, content[1]]}] for one in pictures],
            add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
            processor_kwargs={"padding": True},
        )  # fmt: skip
    assert set(ours) - {"interpolate_pos_encoding"} == set(theirs)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, atol=1e-5, rtol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


def test_two_pictures_come_back_word_for_word(build) -> None:
    network, _ = build("blip")
    images = pictures(network)
    train(network, images, [[CAPTIONS[1]], [CAPTIONS[2]]], steps=40, lr=0.01)
    for method in ("greedy", "beam", "contrastive"):
        answer = network.generate(images, Decoding(method=method, candidates=1, contrastive_alpha=0.2))
        assert texts(answer) == [[CAPTIONS[1]], [CAPTIONS[2]]]


def test_beam_search_is_this_projects_own(build) -> None:
    """transformers' beams under our rules find what the project's own search finds."""
    from src.models.caption.beam_search import beam_search
    from src.models.caption.generation import PreparedStepper

    network, _ = build("qwen2_vl")
    images = pictures(network)
    train(network, images, REFERENCES, steps=25)
    network.eval()
    found = []
    prompt = network.prompt(images)

    def search(model, input_ids, **inputs):
        for name in ("logits_processor", "stopping_criteria", "generation_config"):
            inputs.pop(name)
        stepper = PreparedStepper(model, input_ids, inputs, ends=prompt.ends, banned=prompt.banned)
        found.extend(beam_search(stepper, BEAM))
        return input_ids

    with torch.inference_mode():
        network.model.generate(**prompt.inputs, max_new_tokens=20, custom_generate=search)
    own = [network.decode(group[0].tokens) for group in found]
    theirs = network.generate(images, BEAM)
    assert [group[0].text for group in theirs] == own
    assert [group[0].score for group in theirs] == pytest.approx([group[0].score for group in found], abs=1e-4)


# -- rules of decoding --------------------------------------------------------------------------------------------
def test_limits_see_the_caption_and_not_the_instruction(build) -> None:
    network, _ = build("qwen2_vl", prompt=CAPTIONS[0])
    images = pictures(network)
    train(network, images, [[CAPTIONS[0]], [CAPTIONS[0]]], steps=15, lr=0.02)
    answer = network.generate(images, Decoding(method="greedy", candidates=1, no_repeat_ngram=2, max_tokens=30))
    assert texts(answer)[0] == [CAPTIONS[0]]  # words of the prompt may be written


@pytest.mark.parametrize("method", ["greedy", "beam", "nucleus", "contrastive"])
def test_lengths_and_repetition_are_kept(method, build) -> None:
    network, _ = build("blip")
    images = pictures(network)
    options = {"method": method, "candidates": 1, "beams": 2}
    short = network.prompt(images)
    for least, most in ((0, 3), (5, 6)):
        decoding = Decoding(**options, min_tokens=least, max_tokens=most, no_repeat_ngram=1)
        for group in network.generate(images, decoding):
            tokens = network.answer_tokens(group[0].text)
            assert least <= len(tokens) <= most and len(set(tokens)) == len(tokens)
            assert not set(tokens) & set(short.banned)


def test_prefix_of_blip_begins_the_text_and_is_not_in_the_caption(build) -> None:
    network, _ = build("blip", prompt="이 사진을")
    images = pictures(network)
    inputs = network.training_inputs(images, [0], [CAPTIONS[0]])
    assert network.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])[:3] == ["[DEC]", "이", "사진을"]
    assert inputs["labels"][0, :2].tolist() == [-100, -100]
    train(network, images, [[CAPTIONS[0]], [CAPTIONS[1]]], steps=40, lr=0.01)
    assert texts(network.generate(images, GREEDY)) == [[CAPTIONS[0]], [CAPTIONS[1]]]


def test_images_without_captions_and_empty_batches(build) -> None:
    network, _ = build("blip")
    images = pictures(network)
    nothing = network.loss(images, [[], []])["loss_caption"]
    nothing.backward()
    assert nothing.item() == 0.0 and network.generate(images[:0], GREEDY) == []
    some = network.loss(images, [[], [CAPTIONS[0]]])["loss_caption"]
    assert some.item() == pytest.approx(network.loss(images[1:], [[CAPTIONS[0]]])["loss_caption"].item(), abs=1e-5)


@pytest.mark.parametrize("name", ["blip", "vit_kogpt2", "vit_kobart"])
def test_captions_longer_than_the_decoder_are_cut(name, build) -> None:
    network, _ = build(name)
    images = pictures(network)
    long = " ".join(CAPTIONS * 20)
    loss = network.loss(images, [[long], [CAPTIONS[0]]])["loss_caption"]
    assert torch.isfinite(loss)
    decoding = Decoding(method="greedy", candidates=1, max_tokens=400, min_tokens=300)
    for group in network.generate(images, decoding):
        assert len(group) == 1
