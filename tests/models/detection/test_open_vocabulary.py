"""Open-vocabulary detectors through the real transformers classes: prompts, answers, losses, rebuilding."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from src.errors import ProjectError
from src.hub_models import prepare_network
from src.models.detection.open_vocabulary import OpenVocabularyDetector, build_prompts, default_preprocess
from src.models.detection.open_vocabulary.families import FAMILIES, class_scores
from src.models.detection.open_vocabulary.set_loss import match, set_loss
from tests.models.detection.tiny_networks import CONFIGS
from tests.models.detection.tiny_tokenizers import bert_tokenizer, clip_tokenizer

NAMES = ["cat", "fire truck", "dog"]
SIZE = (64, 96)
TRAINED = ["grounding-dino", "mm-grounding-dino", "owlv2", "owlvit", "omdet-turbo"]


def build(architecture: str, *, names=NAMES, size=SIZE, seed=0, **changes) -> OpenVocabularyDetector:
    config = {**CONFIGS[architecture], **changes.pop("config", {})}
    options = {"architecture": architecture, "checkpoint": "owner/tiny", "config": config}
    prepared = prepare_network(
        OpenVocabularyDetector, options, weights="random", weights_dir=None, bundled=False, class_names=names
    )
    torch.manual_seed(seed)
    built = {**prepared.options, **changes}
    return OpenVocabularyDetector(num_classes=len(names), image_size=size, **built, **prepared.initial).eval()


def pictures(number=2, size=SIZE, seed=1) -> torch.Tensor:
    return torch.randn(number, 3, *size, generator=torch.Generator().manual_seed(seed))


def targets() -> list[dict]:
    empty = torch.zeros(0, dtype=torch.int64)
    return [
        {"boxes": torch.tensor([[4.0, 4, 40, 40], [50, 10, 90, 60]]), "labels": torch.tensor([1, 2]),
         "tags": torch.tensor([1, 2]), "has_boxes": True},
        {"boxes": torch.zeros(0, 4), "labels": empty, "tags": empty, "has_boxes": True},
    ]  # fmt: skip


# -- prompts ------------------------------------------------------------------------------------------------------
def test_grounding_prompt_is_lower_case_phrases_with_full_stops(tmp_path: Path) -> None:
    tokenizer = bert_tokenizer(tmp_path)
    chunks = build_prompts("grounding", ["Cat", "fire_truck", "hotdog", "T-Shirt"], tokenizer, max_tokens=64)
    assert len(chunks) == 1 and chunks[0]["classes"] == [0, 1, 2, 3]
    tokens = tokenizer.convert_ids_to_tokens(chunks[0]["input_ids"][0])
    expected = "[CLS] cat . fire truck . hot ##dog . t - shirt . [SEP]"
    assert tokens == expected.split()
    cased = bert_tokenizer(tmp_path / "cased", do_lower_case=False)  # the prompt is lower-case by itself
    assert build_prompts("grounding", ["Cat"], cased, max_tokens=64)[0]["input_ids"] == [[101, 201, 1012, 102]]
    spans = [tokens[first:past] for first, past in chunks[0]["spans"]]
    assert spans == [["cat"], ["fire", "truck"], ["hot", "##dog"], ["t", "-", "shirt"]]


def test_grounding_prompt_and_spans_are_the_ones_of_transformers(tmp_path: Path) -> None:
    from transformers.models.grounding_dino.modeling_grounding_dino import build_label_maps
    from transformers.models.grounding_dino.processing_grounding_dino import _merge_candidate_labels_text

    tokenizer = bert_tokenizer(tmp_path)
    names = ["hotdog", "Fire truck", "cat", "traffic light"]
    chunk = build_prompts("grounding", names, tokenizer, max_tokens=64)[0]
    assert chunk["input_ids"][0] == tokenizer(_merge_candidate_labels_text(names))["input_ids"]
    maps = build_label_maps(torch.zeros(1, 1, 64), torch.tensor(chunk["input_ids"]))[0]
    own = [[int(first <= i < past) for i in range(64)] for first, past in chunk["spans"]]
    assert maps.tolist() == own  # the loss of the model numbers the classes by these


def test_full_stop_inside_a_name_does_not_end_its_phrase(tmp_path: Path) -> None:
    tokenizer = bert_tokenizer(tmp_path)
    chunk = build_prompts("grounding", ["T.V.", "cat?"], tokenizer, max_tokens=64)[0]
    assert tokenizer.convert_ids_to_tokens(chunk["input_ids"][0]) == ["[CLS]", "t", "v", ".", "cat", ".", "[SEP]"]


def test_more_classes_than_fit_become_chunks_in_order(tmp_path: Path) -> None:
    tokenizer = bert_tokenizer(tmp_path)
    names = ["cat", "fire truck", "hotdog", "dog"]
    chunks = build_prompts("grounding", names, tokenizer, max_tokens=8)
    assert [chunk["classes"] for chunk in chunks] == [[0, 1], [2, 3]]
    assert all(len(chunk["input_ids"][0]) <= 8 for chunk in chunks)
    with pytest.raises(ProjectError, match="takes 7 tokens"):
        build_prompts("grounding", ["fire truck traffic light t v"], tokenizer, max_tokens=8)


def test_owl_prompt_is_a_template_padded_to_16_tokens(tmp_path: Path) -> None:
    tokenizer = clip_tokenizer(tmp_path)
    template = FAMILIES["owlv2"].template
    chunk = build_prompts("query", ["cat", "fire truck"], tokenizer, max_tokens=16, template=template)[0]
    assert [len(row) for row in chunk["input_ids"]] == [16, 16]
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    words = tokenizer.convert_tokens_to_ids(["a</w>", "photo</w>", "of</w>", "a</w>", "fire</w>", "truck</w>"])
    assert chunk["input_ids"][1] == [start, *words, end] + [0] * 8
    assert chunk["attention_mask"][1] == [1] * 8 + [0] * 8
    processor = transformers.Owlv2Processor(transformers.Owlv2ImageProcessor(), tokenizer)
    texts = [["a photo of a cat", "a photo of a fire truck"]]
    assert processor(text=texts, max_length=16, return_tensors="pt").input_ids.tolist() == chunk["input_ids"]
    tight = build_prompts("query", ["fire truck"], tokenizer, max_tokens=5, template=template)[0]
    assert tight["input_ids"][0][1:3] == words[-2:]  # a name that is too long with the template stands alone
    with pytest.raises(ProjectError, match="shorter English name"):
        build_prompts("query", ["fire truck traffic light"], tokenizer, max_tokens=5, template=template)


def test_omdet_prompt_is_the_processors(tmp_path: Path) -> None:
    tokenizer = clip_tokenizer(tmp_path, pad_token="<|endoftext|>")
    chunks = build_prompts("task", ["cat", "fire truck"], tokenizer, max_tokens=77)
    assert tokenizer.decode([i for i in chunks[0]["task_ids"][0] if i < tokenizer.bos_token_id]).split() == [
        "detect", "cat", ",", "fire", "truck", ".",
    ]  # fmt: skip
    processor = transformers.OmDetTurboProcessor(transformers.DetrImageProcessor(), tokenizer)
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    given = processor(images=image, text=[["cat", "fire truck"]], return_tensors="pt")
    assert given["classes_input_ids"].tolist() == chunks[0]["input_ids"]
    assert given["tasks_input_ids"].tolist() == chunks[0]["task_ids"]
    assert given["tasks_attention_mask"].tolist() == chunks[0]["task_mask"]
    short = build_prompts("task", ["cat", "fire truck", "dog"], tokenizer, max_tokens=9)
    assert [chunk["classes"] for chunk in short] == [[0, 1], [2]]


@pytest.mark.parametrize("name", ["강아지", "  ", "..", "큰 개"])
def test_names_that_no_detector_can_read_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="class name"):
        build_prompts("grounding", ["cat", name], bert_tokenizer(tmp_path / "bert"), max_tokens=64)
    if name != "..":
        with pytest.raises(ProjectError, match="class name"):
            build_prompts("query", ["cat", name], clip_tokenizer(tmp_path / "clip"), max_tokens=16)


# -- answers ------------------------------------------------------------------------------------------------------
def test_class_scores_are_of_the_tokens_of_the_whole_phrase() -> None:
    logits = torch.full((1, 2, 8), -5.0)
    logits[0, 0, 4] = 3.0  # the second word of "fire truck"
    logits[0, 1, 2] = 9.0  # a full stop: of no class
    scores = class_scores(logits, [[1, 2], [3, 5], [6, 7]])
    assert scores[0, 0].argmax() == 1 and scores[0, 0, 1] == torch.tensor(3.0).sigmoid()
    assert scores[0, 1].max() < 0.01


@pytest.mark.parametrize("architecture", ["grounding-dino", "mm-grounding-dino"])
def test_grounding_answers_are_the_processors(architecture: str, tmp_path: Path, monkeypatch) -> None:
    tokenizer = bert_tokenizer(tmp_path)
    names = ["hotdog", "fire truck", "cat"]
    prompts = build_prompts("grounding", names, tokenizer, max_tokens=48)
    net = build(architecture, names=names, prompts=prompts, score_floor=0.25, nms_iou=1.0)
    forward, seen = net.model.forward, []

    def one_phrase_a_query(**kwargs):
        output = forward(**kwargs)
        wanted = torch.arange(12) % 3
        logits = torch.full_like(output.logits, -6.0)
        for query, label in enumerate(wanted.tolist()):
            first, past = prompts[0]["spans"][label]
            logits[:, query, first:past] = torch.linspace(-3, 2, 12)[query]
        output.logits = logits
        seen.append(output)
        return output

    monkeypatch.setattr(net.model, "forward", one_phrase_a_query)
    found = net.detect(pictures())
    processor = transformers.GroundingDinoProcessor(transformers.GroundingDinoImageProcessor(), tokenizer)
    output = seen[0]
    given = processor.post_process_grounded_object_detection(
        output, output.input_ids, threshold=0.25, text_threshold=0.25, target_sizes=[SIZE, SIZE]
    )
    for one, other in zip(found, given, strict=True):
        order = other["scores"].argsort(descending=True, stable=True)
        boxes = other["boxes"][order].clamp(min=0)
        boxes = torch.minimum(boxes, torch.tensor([96.0, 64, 96, 64]))
        area = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
        assert len(one["scores"]) == int(area.sum()) > 0
        torch.testing.assert_close(one["scores"], other["scores"][order][area])
        torch.testing.assert_close(one["boxes"], boxes[area])
        texts = [other["text_labels"][i] for i, good in zip(order.tolist(), area.tolist(), strict=True) if good]
        assert [names[label] for label in one["labels"].tolist()] == texts


@pytest.mark.parametrize("architecture", ["owlv2", "owlvit"])
def test_owl_answers_are_the_processors(architecture: str) -> None:
    net = build(architecture, size=(64, 64), score_floor=0.3, nms_iou=1.0)
    images, chunk = pictures(size=(64, 64)), net._chunk(0)
    with torch.no_grad():
        for layer in (net.model.class_head.logit_scale, net.model.class_head.logit_shift):
            layer.weight.mul_(0.05)  # random ones saturate, and equal scores of 1 say nothing of the class
        output = net.model(
            input_ids=chunk["input_ids"].repeat(2, 1), attention_mask=chunk["attention_mask"].repeat(2, 1),
            pixel_values=images,
        )  # fmt: skip
    image_processor = transformers.Owlv2ImageProcessor if architecture == "owlv2" else transformers.OwlViTImageProcessor
    given = image_processor().post_process_object_detection(output, threshold=0.3, target_sizes=[(64, 64)] * 2)
    same_answers(net.detect(images), given, (64, 64))


def test_omdet_answers_are_the_processors() -> None:
    from transformers.models.omdet_turbo.processing_omdet_turbo import OmDetTurboProcessor

    net = build("omdet-turbo", size=(64, 64), score_floor=0.3, nms_iou=0.5)
    images, chunk = pictures(size=(64, 64)), net._chunk(0)
    with torch.no_grad():
        output = net.model(
            pixel_values=images,
            classes_input_ids=chunk["input_ids"].repeat(2, 1),
            classes_attention_mask=chunk["attention_mask"].repeat(2, 1),
            tasks_input_ids=chunk["task_ids"].repeat(2, 1),
            tasks_attention_mask=chunk["task_mask"].repeat(2, 1),
            classes_structure=torch.tensor([3, 3]),
        )
    given = OmDetTurboProcessor.post_process_grounded_object_detection(
        None, output, threshold=0.3, nms_threshold=0.5, target_sizes=[(64, 64)] * 2
    )
    same_answers(net.detect(images), given, (64, 64))


def test_sam3_answers_are_the_processors() -> None:
    net = build("sam3", size=(56, 56), score_floor=0.0, nms_iou=1.0, names=["fire truck"])
    images, chunk = pictures(size=(56, 56)), net._chunk(0)
    with torch.no_grad():
        output = net.model(
            pixel_values=images, input_ids=chunk["input_ids"].repeat(2, 1),
            attention_mask=chunk["attention_mask"].repeat(2, 1),
        )  # fmt: skip
    given = transformers.Sam3ImageProcessor().post_process_instance_segmentation(
        output, threshold=0.0, target_sizes=[(56, 56)] * 2
    )
    found = net.detect(images)
    labelled = [{**one, "labels": torch.zeros(len(one["scores"]), dtype=torch.int64)} for one in given]
    same_answers(found, labelled, (56, 56))
    for one, other in zip(found, given, strict=True):
        masks = other["masks"][other["scores"].argsort(descending=True)].bool()
        if len(masks) == len(one["masks"]):
            assert torch.equal(one["masks"], masks)
    assert any(len(one["masks"]) == len(other["masks"]) for one, other in zip(found, given, strict=True))


def same_answers(found: list[dict], given: list[dict], size: tuple[int, int]) -> None:
    limit = torch.tensor([size[1], size[0], size[1], size[0]], dtype=torch.float32)
    assert any(len(one["scores"]) for one in found)
    for one, other in zip(found, given, strict=True):
        order = other["scores"].argsort(descending=True, stable=True)
        boxes = torch.minimum(other["boxes"][order].clamp(min=0), limit)
        good = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
        torch.testing.assert_close(one["scores"], other["scores"][order][good])
        torch.testing.assert_close(one["boxes"], boxes[good], atol=1e-4, rtol=1e-4)
        assert one["labels"].tolist() == other["labels"][order][good].tolist()


@pytest.mark.parametrize("architecture", CONFIGS)
def test_answers_keep_the_contract(architecture: str) -> None:
    net = build(architecture, score_floor=0.0, max_detections=5)
    for one in net.detect(pictures()):
        boxes = one["boxes"]
        assert boxes.shape == (len(one["scores"]), 4) and 0 < len(boxes) <= 5 and one["labels"].dtype == torch.int64
        assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
        assert (boxes[:, 2] <= 96).all() and (boxes[:, 3] <= 64).all()
        assert (one["scores"].diff() <= 0).all() and (one["labels"] < 3).all()
        assert ("masks" in one) == (architecture == "sam3")
        if "masks" in one:
            assert one["masks"].shape == (len(boxes), 64, 96) and one["masks"].dtype == torch.bool
    none = build(architecture, score_floor=1.1).detect(pictures())[0]
    assert none["boxes"].shape == (0, 4) and none["labels"].dtype == torch.int64


@pytest.mark.parametrize("architecture", ["grounding-dino", "omdet-turbo"])
def test_chunks_are_run_one_after_the_other(architecture: str) -> None:
    """A network asked for one class a chunk gives the classes of every chunk their own labels."""
    net = build(architecture, score_floor=0.0, nms_iou=1.0, max_detections=1000)
    alone = [build(architecture, names=[name], score_floor=0.0, nms_iou=1.0, max_detections=1000) for name in NAMES]
    for one in alone:
        one.load_state_dict(net.state_dict())
    prompts = []
    for label, one in enumerate(alone):
        chunk = {name: value.tolist() for name, value in one._chunk(0).items() if isinstance(value, torch.Tensor)}
        prompts.append({**chunk, "spans": one._spans[0], "classes": [label]})
    net.set_vocabulary(NAMES, prompts)
    found = net.detect(pictures(1))[0]
    for label, one in enumerate(alone):
        mine = found["scores"][found["labels"] == label]
        torch.testing.assert_close(mine, one.detect(pictures(1))[0]["scores"])


# -- training -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("architecture", TRAINED)
def test_training_lowers_the_loss_and_leaves_frozen_parts(architecture: str) -> None:
    net = build(architecture, freeze=["text"])
    with torch.inference_mode():
        net.detect(pictures())  # as a check before training does; what it caches must not break a backward pass
    frozen = [p.clone() for module in net._modules_of(["text"]) for p in module.parameters()]
    optimizer = torch.optim.AdamW(net.parameter_groups(lr=3e-3, weight_decay=0.0))
    net.train()
    values = []
    for _ in range(8):
        torch.manual_seed(5)  # the same dropped paths every time
        losses = net.loss(pictures(), targets())
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert min(values[-3:]) < values[0] and all(torch.isfinite(value) for value in losses.values())
    now = [p for module in net._modules_of(["text"]) for p in module.parameters()]
    assert frozen and all(torch.equal(a, b) for a, b in zip(frozen, now, strict=True))
    assert not any(module.training for module in net._modules_of(["text"]))


def test_grounding_loss_is_the_models_own() -> None:
    net = build("grounding-dino").train(False)
    chunk = net._chunk(0)
    labels = [
        {"class_labels": torch.tensor([1, 2]),
         "boxes": torch.tensor([[22 / 96, 22 / 64, 36 / 96, 36 / 64], [70 / 96, 35 / 64, 40 / 96, 50 / 64]])},
        {"class_labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)},
    ]  # fmt: skip
    with torch.no_grad():
        ids, mask = (chunk[name].expand(2, -1) for name in ("input_ids", "attention_mask"))
        expected = net.model(pixel_values=pictures(), input_ids=ids, attention_mask=mask, labels=labels).loss
        torch.testing.assert_close(net.loss(pictures(), targets())["loss_grounding"], expected)


@pytest.mark.parametrize("architecture", ["grounding-dino", "owlv2"])
def test_images_without_known_boxes_are_left_out(architecture: str) -> None:
    net = build(architecture)
    both = targets()
    alone = net.loss(pictures()[:1], both[:1])
    both[1]["has_boxes"] = False
    for name, value in net.loss(pictures(), both).items():
        torch.testing.assert_close(value, alone[name])
    both[0]["has_boxes"] = False
    nothing = sum(net.loss(pictures(), both).values())
    nothing.backward()
    assert float(nothing.detach()) == 0


def test_a_class_of_the_second_chunk_is_numbered_within_it(monkeypatch) -> None:
    net = build("grounding-dino", config={"max_text_len": 8})
    assert net._chunks == 2 and net._chunk(1)["classes"].tolist() == [2]
    seen = []

    def remember(model, images, chunk, labels, boxes):
        seen.append([label.tolist() for label in labels])
        return {"loss": torch.zeros(())}

    monkeypatch.setattr(type(net.family), "loss", lambda self, *args: remember(*args))
    net.loss(pictures(), targets())
    assert seen == [[[1], []], [[0], []]]


def test_set_loss_matches_the_cheapest_pairing() -> None:
    truth = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.7, 0.7, 0.3, 0.3]])
    boxes = torch.tensor([[0.7, 0.7, 0.3, 0.3], [0.5, 0.5, 0.9, 0.9], [0.2, 0.2, 0.2, 0.2]])
    logits = torch.full((3, 2), -8.0)
    logits[0, 1] = logits[2, 0] = 8.0
    rows, columns = match(logits, boxes, torch.tensor([0, 1]), truth)
    assert dict(zip(rows.tolist(), columns.tolist(), strict=True)) == {0: 1, 2: 0}
    good = set_loss(logits[None], boxes[None], [torch.tensor([0, 1])], [truth])
    assert sum(good.values()) < 0.01
    wrong = set_loss(logits[None], boxes[None], [torch.tensor([1, 0])], [truth])
    assert sum(wrong.values()) > 1
    none = set_loss(logits[None], boxes[None], [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, 4)])
    assert none["loss_box"] == 0 and none["loss_class"] > 1


def test_sam3_says_that_it_is_not_trained() -> None:
    with pytest.raises(ProjectError, match="without training"):
        build("sam3", freeze=[]).loss(pictures(), targets())


# -- rebuilding and mistakes --------------------------------------------------------------------------------------
@pytest.mark.parametrize("architecture", CONFIGS)
def test_rebuilds_from_plain_options_and_a_state_dict(architecture: str) -> None:
    options = {"architecture": architecture, "checkpoint": "owner/tiny", "config": CONFIGS[architecture]}
    prepared = prepare_network(
        OpenVocabularyDetector, options, weights="random", weights_dir=None, bundled=False, class_names=NAMES
    )
    plain = json.loads(json.dumps(prepared.options))
    nets = [OpenVocabularyDetector(num_classes=3, image_size=SIZE, score_floor=0.0, **plain).eval() for _ in range(2)]
    before = nets[1].detect(pictures())[0]["scores"]
    nets[1].load_state_dict(nets[0].state_dict())
    one, other = (net.detect(pictures())[0] for net in nets)
    assert torch.equal(one["boxes"], other["boxes"]) and torch.equal(one["labels"], other["labels"])
    assert not torch.equal(before, other["scores"])


def test_a_checkpoint_folder_gives_weights_and_tokenizer(tmp_path: Path) -> None:
    folder = tmp_path / "owner_tiny"
    bert_tokenizer(folder).save_pretrained(folder)
    source = build("grounding-dino")
    source.model.save_pretrained(folder)
    options = {"architecture": "grounding-dino", "checkpoint": "owner/tiny", "config": {}}
    prepared = prepare_network(
        OpenVocabularyDetector, options, weights="auto", weights_dir=tmp_path, bundled=False, class_names=NAMES
    )
    assert prepared.resolved["weights"].kind == "file" and prepared.initial["weights"] == str(folder)
    assert prepared.options["prompts"][0]["input_ids"] == [[101, 201, 1012, 202, 203, 1012, 206, 1012, 102]]
    net = OpenVocabularyDetector(num_classes=3, image_size=SIZE, **prepared.options, **prepared.initial)
    assert net.report.loaded == len(net.model.state_dict()) and not net.report.missing
    for name, value in source.model.state_dict().items():
        assert torch.equal(net.model.state_dict()[name], value), name
    wrong = {**options, "architecture": "owlv2"}
    with pytest.raises(ProjectError, match="is a grounding-dino"):
        prepare_network(
            OpenVocabularyDetector, wrong, weights="auto", weights_dir=tmp_path, bundled=False, class_names=NAMES
        )
    for file in ("tokenizer.json", "vocab.txt"):
        (folder / file).unlink(missing_ok=True)
    with pytest.raises(ProjectError, match="lacks its tokenizer"):
        prepare_network(
            OpenVocabularyDetector, options, weights="auto", weights_dir=tmp_path, bundled=False, class_names=NAMES
        )


def test_never_starts_from_random_values_unasked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = {"architecture": "owlv2", "checkpoint": "owner/none", "config": {}}
    with pytest.raises(ProjectError, match="no checkpoint of owner/none"):
        prepare_network(
            OpenVocabularyDetector, options, weights="auto", weights_dir=tmp_path, bundled=True, class_names=NAMES
        )


def test_mistakes_are_named() -> None:
    with pytest.raises(ProjectError, match="Did you mean 'text'"):
        build("owlv2", freeze=["texts"])
    with pytest.raises(ProjectError, match="was not prepared"):
        OpenVocabularyDetector(num_classes=1, image_size=SIZE, class_names=["cat"])
    with pytest.raises(ProjectError, match="Did you mean 'owlv2'"):
        default_preprocess("owlv3")
    with pytest.raises(ProjectError, match="has a prompt format of its own"):
        options = {"architecture": "omdet-turbo", "config": CONFIGS["omdet-turbo"], "template": "a {}"}
        OpenVocabularyDetector.prepare(options, {}, NAMES)
    with pytest.raises(ProjectError, match="class names"):
        build("owlv2").set_vocabulary(["cat"], [{"classes": [0, 1], "input_ids": [[1], [1]]}])


@pytest.mark.parametrize("architecture", FAMILIES)
def test_default_preprocess_is_the_processors(architecture: str) -> None:
    classes = {"owlv2": "Owlv2ImageProcessor", "owlvit": "OwlViTImageProcessor", "omdet-turbo": "DetrImageProcessor",
               "sam3": "Sam3ImageProcessor"}  # fmt: skip
    processor = getattr(transformers, classes.get(architecture, "GroundingDinoImageProcessor"))
    mine = default_preprocess(architecture)
    assert list(mine["mean"]) == pytest.approx(list(processor.image_mean))
    assert list(mine["std"]) == pytest.approx(list(processor.image_std))
    if architecture in ("owlv2", "owlvit", "sam3"):
        assert mine["image_size"] == processor.size["height"]


def test_parameter_groups_hold_every_trainable_parameter_once() -> None:
    net = build("owlv2", freeze=["backbone"])
    groups = net.parameter_groups(lr=1.0, weight_decay=0.1)
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in net.parameters() if p.requires_grad)
    text = {id(p) for module in net._modules_of(["text"]) for p in module.parameters()}
    assert all(group["lr"] == (0.1 if id(p) in text else 1.0) for group in groups for p in group["params"])
    assert all(isinstance(p, nn.Parameter) and (p.ndim > 1) == (group["weight_decay"] > 0)
               for group in groups for p in group["params"])  # fmt: skip
