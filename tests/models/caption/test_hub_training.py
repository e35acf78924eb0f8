"""What a hub captioner trains, saves and exports: frozen parts, adapters, merged weights; and what it refuses."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers

from src.captions.decoding import Decoding
from src.errors import ProjectError
from src.hub_models import prepare_network
from src.models.caption import convert_llava
from src.models.caption.blip_with_bert import BlipWithBert
from src.models.caption.export import export_checkpoint
from src.models.caption.image_text import ImageTextCaptioner
from src.models.caption.vision_encoder_decoder import VisionEncoderDecoderCaptioner
from tests.models.caption import hub_networks
from tests.models.caption.hub_networks import REFERENCES, checkpoint, pictures, texts, train
from tests.models.caption.tiny_checkpoints import CAPTIONS, bert_tokenizer, gpt_tokenizer, save

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0}
BEAM = Decoding(candidates=2, beams=2, max_tokens=10)
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("blip2_t5", "instructblip", "vit_kobart")]
ADAPTED = ["blip", "llava", "qwen2_vl", "vit_kogpt2", *SLOW]
transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def build(root):
    return partial(hub_networks.build, root)


def logits(network, images) -> torch.Tensor:
    inputs = network.training_inputs(images, [0, 1], CAPTIONS[:2])
    inputs.pop("labels")
    with torch.no_grad():
        return network.eval().forward_logits(inputs)


# -- adapters -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_learn_are_saved_alone_and_merge(name, build, tmp_path) -> None:
    network, options = build(name, lora=LORA, freeze=["vision"])
    images = pictures(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    losses = train(network, images, REFERENCES, steps=5, lr=0.02)
    assert losses[-1] < losses[0]
    state = network.trainable_state()
    still = [key for key in before if key not in state]
    assert all(torch.equal(network.state_dict()[key], before[key]) for key in still)
    assert any("lora_A" in key for key in state) and not any("vision" in key for key in state)
    assert sum(v.numel() for v in state.values()) < 0.6 * sum(p.numel() for p in network.parameters())

    folders = {argument: said["path"] for argument, said in network.frozen_source.items()}
    again = type(network)(**options, **folders)
    if name == "vit_kogpt2":  # its cross-attention is new: part of what is trained, so it comes back as well
        assert any("crossattention" in key for key in state)
    again.load_trainable_state({key: value.clone() for key, value in state.items()})
    answer = network.generate(images, BEAM)
    assert again.generate(images, BEAM) == answer

    wanted = logits(network, images)
    assert again.merge_lora() == len(network.adapted) > 0 and again.frozen_source is None
    assert not any("lora" in key for key in again.state_dict())
    torch.testing.assert_close(logits(again, images), wanted, atol=1e-4, rtol=1e-4)
    plain = type(network)(**{**options, "lora": None})
    plain.load_state_dict(again.state_dict())
    assert texts(plain.generate(images, BEAM)) == texts(answer)


def test_adapters_go_into_attention_of_the_language_model(build) -> None:
    network, _ = build("llava", lora=LORA)
    assert {name.rpartition(".")[2] for name in network.adapted} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert all("language_model" in name for name in network.adapted)
    trained = {name.partition(".lora")[0] for name in network.trainable_state() if "language_model" in name}
    assert trained == {f"model.{name}" for name in network.adapted}
    assert any("multi_modal_projector" in name for name in network.trainable_state())
    assert any("vision_tower" in name for name in network.trainable_state())  # not frozen, not adapted: it trains
    seeing, _ = build("llava", lora={**LORA, "vision": True, "targets": ["q_proj", "fc1"]})
    assert any("vision_tower" in name and name.endswith("fc1") for name in seeing.adapted)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rnk": 4}, "rnk.*rank"),
        ({"rank": 0}, "whole number"),
        ({"targets": ["q_prj"]}, "q_prj.*q_proj"),
        ({"dropout": 1.5}, "below 1"),
    ],
)
def test_wrong_adapters_are_refused(lora, message, build) -> None:
    with pytest.raises(ProjectError, match=message):
        build("llava", lora=lora)
    with pytest.raises(ProjectError, match="no layer"):
        build("llava", lora=LORA, freeze=["language"])


# -- frozen parts -------------------------------------------------------------------------------------------------
def test_frozen_parts_do_not_move_and_are_not_saved(build) -> None:
    network, options = build("blip2", freeze=["vision", "language"])
    images = pictures(network)
    train(network, images, REFERENCES, steps=2)
    state = network.trainable_state()
    assert state and all("qformer" in key or "query" in key or "projection" in key for key in state)
    assert not network.model.vision_model.training and network.model.qformer.training
    again = ImageTextCaptioner(**options, weights=network.frozen_source["weights"]["path"])
    with pytest.raises(ProjectError, match="names differ"):
        again.load_trainable_state(dict(list(state.items())[1:]))
    again.load_trainable_state(state)
    assert again.generate(images, BEAM) == network.generate(images, BEAM)
    whole, _ = build("blip2")
    assert whole.frozen_source is None  # everything trains: everything is saved
    with pytest.raises(ProjectError, match="qfromer.*qformer"):
        build("blip2", freeze=["qfromer"])


def test_checkpoint_is_named_with_its_hash(build, root) -> None:
    from src.hub_models import resolve_checkpoint

    network, options = build("blip", freeze=["vision"])
    said = network.frozen_source["weights"]
    found = resolve_checkpoint("owner/tiny", said["path"], weights_dir=None, bundled=False)
    assert said == {"checkpoint": "owner/tiny", "path": found.path, "sha256": found.sha256}
    assert options["source"] == network.frozen_source


def test_recomputed_activations_give_the_same_gradients(build) -> None:
    gradients = []
    for recompute in (False, True):
        network, _ = build("qwen2_vl", gradient_checkpointing=recompute, freeze=["vision"], lora=LORA)
        network.train()
        network.loss(pictures(network), REFERENCES)["loss_caption"].backward()
        gradients.append({n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 4
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


# -- export -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["blip", "llava", "vit_kogpt2"])
def test_exported_folder_is_a_plain_transformers_checkpoint(name, build, tmp_path) -> None:
    network, options = build(name, lora=LORA, freeze=["vision"])
    images = pictures(network)
    train(network, images, REFERENCES, steps=3, lr=0.02)
    target = f"{type(network).__module__}.{type(network).__name__}"
    options.pop("image_size")
    stored = {
        "hyper_parameters": {"network": {"_target_": target, "image_size": list(network.image_size), **options}},
        "state_dict": {f"network.{key}": value for key, value in network.trainable_state().items()},
        "frozen_source": network.frozen_source,
    }
    run = tmp_path / "run" / "fold_0"
    run.mkdir(parents=True)
    torch.save(stored, run / "best.ckpt")
    folder = export_checkpoint(run / "best.ckpt", tmp_path / "out")
    model_class = type(network.model)
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    if name != "vit_kogpt2":
        transformers.AutoProcessor.from_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(folder)
    wanted = logits(network, images)
    network.model = model
    torch.testing.assert_close(logits(network, images), wanted, atol=1e-4, rtol=1e-4)
    with pytest.raises(ProjectError, match="not empty"):
        export_checkpoint(run / "best.ckpt", tmp_path / "out")
    stored["frozen_source"] = {key: {**said, "sha256": "0" * 64} for key, said in stored["frozen_source"].items()}
    torch.save(stored, run / "best.ckpt")
    with pytest.raises(ProjectError, match="not the checkpoint that the run was trained from"):
        export_checkpoint(run / "best.ckpt", tmp_path / "other")


def test_whole_encoder_decoder_checkpoint_is_read(build, tmp_path) -> None:
    network, _ = build("vit_kobart")
    images = pictures(network)
    network.image_std = [0.3, 0.4, 0.5]
    folder = network.export(tmp_path / "whole")
    prepared = prepare_network(
        VisionEncoderDecoderCaptioner, {"checkpoint": "owner/whole"}, weights=str(folder), weights_dir=None,
        bundled=False, class_names=[],
    )  # fmt: skip
    whole = VisionEncoderDecoderCaptioner(image_size=network.image_size, **prepared.options, **prepared.initial)
    assert whole.generate(images, BEAM) == network.generate(images, BEAM)
    assert whole.image_std == [0.3, 0.4, 0.5] and whole.report.missing == ()
    with pytest.raises(ProjectError, match="vit_kogpt2"):
        prepare_network(
            ImageTextCaptioner, {"checkpoint": "owner/whole"}, weights=str(folder), weights_dir=None, bundled=False,
            class_names=[],
        )  # fmt: skip


# -- checkpoints as they are found in the wild ----------------------------------------------------------------------
def test_halves_keep_what_their_checkpoints_know(build, root) -> None:
    network, _ = build("vit_kobart")
    bart = transformers.BartForConditionalGeneration.from_pretrained(checkpoint(root, "kobart"))
    own = network.model.decoder
    assert torch.equal(own.get_input_embeddings().weight, bart.get_input_embeddings().weight)
    for name, value in bart.get_decoder().state_dict().items():  # its cross-attention among them
        assert torch.equal(own.get_decoder().state_dict()[name], value), name
    gpt, _ = build("vit_kogpt2")
    assert all("crossattention" in name or "ln_cross_attn" in name for name in gpt.report.missing)
    with torch.no_grad():
        text = torch.tensor([[gpt.start, 40, 41]])
        alone = transformers.GPT2LMHeadModel.from_pretrained(checkpoint(root, "kogpt2")).eval()(text).logits
        assert torch.equal(gpt.model.decoder.lm_head.weight, gpt.model.decoder.transformer.wte.weight)
        for block in gpt.model.decoder.transformer.h:  # deaf to the picture, it speaks as before
            block.crossattention.c_proj.weight.zero_()
        images = pictures(gpt)[:1]
        heard = gpt.eval().forward_logits({"encoder_outputs": (gpt._see(images),), "decoder_input_ids": text})
    torch.testing.assert_close(heard, alone, atol=1e-5, rtol=1e-5)


def test_tokenizer_that_is_not_its_models_usual_one(tmp_path, build, root) -> None:
    """KoGPT2 is a GPT-2 whose files name no tokenizer class, with a tokenizer.json of another kind."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<s>", "</s>", "<pad>", "<unk>"], show_progress=False)
    core.train_from_iterator(CAPTIONS * 4, trainer)
    config = transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=32, vocab_size=core.get_vocab_size())
    folder = save(tmp_path / "kogpt2", transformers.GPT2LMHeadModel, config, gpt_tokenizer())
    for file in folder.glob("*token*"):
        file.unlink()
    core.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    options = {"encoder": "owner/vit", "decoder": "owner/kogpt2", "encoder_weights": str(checkpoint(root, "vit")),
               "decoder_weights": str(folder), "special_tokens": special}  # fmt: skip

    def prepare(options):
        return prepare_network(
            VisionEncoderDecoderCaptioner, options, weights="auto", weights_dir=None, bundled=False, class_names=[]
        )

    prepared = prepare(options)
    network = VisionEncoderDecoderCaptioner(image_size=(32, 32), **prepared.options, **prepared.initial)
    assert network.answer_tokens(CAPTIONS[0]) == core.encode(CAPTIONS[0]).ids
    assert network.decode(network.answer_tokens(CAPTIONS[0])) == CAPTIONS[0]
    assert (network.start, network.end, network.pad) == (1, 1, 2)
    with pytest.raises(ProjectError, match="pad_tokn.*pad_token"):
        prepare({**options, "special_tokens": {"pad_tokn": "<pad>"}})
    with pytest.raises(ProjectError, match="no such token"):
        prepare({**options, "special_tokens": {"pad_token": "<nothing>"}})


def test_blip2_of_before_image_tokens(tmp_path, build, root) -> None:
    """mBLIP's files name neither the image token nor the number of queries."""
    old = tmp_path / "old"
    model = transformers.Blip2ForConditionalGeneration.from_pretrained(checkpoint(root, "blip2"))
    model.config.image_token_index = None
    model.save_pretrained(old)
    transformers.BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(old)
    gpt_tokenizer(begins=True).save_pretrained(old)
    config = json.loads((old / "config.json").read_text())
    assert config.get("image_token_index") is None
    network, options = build("blip2", weights=old)
    images = pictures(network)
    assert network.model.config.image_token_index == network.tokenizer.convert_tokens_to_ids("<image>")
    assert (network.asked["input_ids"] == network.model.config.image_token_index).sum() == 4
    losses = train(network, images, REFERENCES, steps=3)
    assert losses[-1] < losses[0]
    again = ImageTextCaptioner(**options)
    again.load_state_dict(network.state_dict())
    assert again.generate(images, BEAM) == network.generate(images, BEAM)


def test_original_llava_and_others_are_refused_with_a_way_out(tmp_path, build, root) -> None:
    folder = tmp_path / "kollava"
    network, _ = build("llava")
    network.model.save_pretrained(folder)
    said = {"model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": "openai/clip"}
    (folder / "config.json").write_text(json.dumps(said))
    with pytest.raises(ProjectError, match="convert_llava"):
        build("llava", weights=folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ProjectError, match="'bert' is no image-text-to-text"):
        build("llava", weights=folder)


def test_original_llava_is_converted(tmp_path, build, root) -> None:
    """The tiny LLaVA in the original code's layout, as KoLLaVA is published, comes back as it was."""
    tiny = transformers.LlavaForConditionalGeneration.from_pretrained(checkpoint(root, "llava"))
    old, tower = tmp_path / "old", tmp_path / "tower"
    names = {"multi_modal_projector.linear_1.": "mm_projector.0.", "multi_modal_projector.linear_2.": "mm_projector.2.",
             "model.language_model.": "model."}  # fmt: skip
    state = {}
    for key, value in tiny.state_dict().items():
        for new, original in names.items():
            key = key.replace(new, original)
        if not key.startswith("model.vision_tower."):
            state[key] = value
    tokenizer = gpt_tokenizer("<|im_start|>", "<|im_end|>", begins=True)
    image = len(tokenizer)  # the original has no token for pictures, but a number of its own
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        state[key] = torch.cat([state[key], state[key][-4:]])[:image]
    old.mkdir()
    torch.save(state, old / "pytorch_model.bin")
    text = tiny.config.text_config.to_dict()
    kept = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "rms_norm_eps", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings")  # fmt: skip
    said = {"model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": "openai/clip",
            "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -1, "mm_vision_select_feature": "patch",
            "vocab_size": image, "rope_theta": 10000.0, **{key: text[key] for key in kept}}  # fmt: skip
    (old / "config.json").write_text(json.dumps(said))
    tokenizer.save_pretrained(old)
    clip = transformers.CLIPVisionModel(tiny.config.vision_config)
    clip.load_state_dict(
        {key.removeprefix("model.vision_tower."): value for key, value in tiny.state_dict().items() if "tower" in key},
        strict=True,
    )
    clip.save_pretrained(tower)
    assert convert_llava.main([f"from={old}", f"tower={tower}", f"out={tmp_path / 'new'}"]) == 0
    network, _ = build("llava", weights=tmp_path / "new")
    assert network.rendered.startswith("<|im_start|>user\n<image>\n") and network.report.missing == ()
    assert network.tokenizer.eos_token == "<|im_end|>" and network.model.config.image_token_id == image
    images = pictures(network)
    ids = torch.tensor([[1, 9, *[image] * 4, 60, 61, 62]] * 2)
    theirs = ids.clone()
    theirs[ids == image] = tiny.config.image_token_id
    with torch.no_grad():
        wanted = tiny.eval()(input_ids=theirs, pixel_values=images).logits
        found = network.eval().model(input_ids=ids, pixel_values=images).logits
    width = min(wanted.shape[-1], found.shape[-1]) - 4
    torch.testing.assert_close(found[..., :width], wanted[..., :width], atol=1e-5, rtol=1e-5)
    assert network.generate(images, BEAM)
    assert convert_llava.main([f"from={old}", f"tower={tower}", f"out={tmp_path / 'new'}"]) == 1  # not empty
    assert convert_llava.main([f"form={old}"]) == 1


def test_captions_that_the_tokenizer_does_not_know(build) -> None:
    network, _ = build("blip")
    with pytest.raises(ProjectError, match="does not know 100% .*koblip"):
        network.loss(pictures(network), [["A dog"], ["Two cats"]])


def test_blip_takes_the_words_and_layers_of_a_bert(tmp_path, build, root) -> None:
    """BLIP of English words, which knows none of the captions, learns them with a BERT that does."""
    known = bert_tokenizer(begin=False)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(**shape, vocab_size=len(known), max_position_embeddings=48, pad_token_id=0)
    bert = save(tmp_path / "bert", transformers.BertForMaskedLM, config, known)
    blip = checkpoint(root, "blip")
    options = {"checkpoint": "owner/blip", "bert": "owner/bert", "bert_weights": str(bert)}
    prepared = prepare_network(
        BlipWithBert, options, weights=str(blip), weights_dir=None, bundled=False, class_names=[]
    )
    kept = {"image_size": [32, 32], **json.loads(json.dumps(prepared.options))}
    network = BlipWithBert(**kept, **prepared.initial)
    assert set(network.model.state_dict()) == set(build("blip")[0].model.state_dict())
    theirs = transformers.BertForMaskedLM.from_pretrained(bert).state_dict()
    own = network.model.text_decoder.state_dict()
    layer = "bert.encoder.layer.1.attention.self.query.weight"
    assert torch.equal(own[layer], theirs[layer])
    words = "bert.embeddings.word_embeddings.weight"
    assert network.start[0] == len(own[words]) - 1 and network.start[0] not in range(len(theirs[words]))
    assert torch.equal(own[words][: len(theirs[words])], theirs[words])
    assert torch.equal(own[words][network.start[0]], theirs[words][known.cls_token_id])
    eyes = transformers.BlipForConditionalGeneration.from_pretrained(blip).state_dict()
    seen = "text_decoder.bert.encoder.layer.0.crossattention.self.key.weight"
    for name in (seen, "vision_model.encoder.layers.0.mlp.fc1.weight"):
        assert torch.equal(network.model.state_dict()[name], eyes[name])
    images = pictures(network)
    losses = train(network, images, REFERENCES, steps=4)
    assert losses[-1] < losses[0]
    again = BlipWithBert(**kept)
    again.load_state_dict(network.state_dict())
    assert again.generate(images, BEAM) == network.generate(images, BEAM)
    wide = transformers.BertConfig(**{**shape, "hidden_size": 64}, vocab_size=len(known))
    other = save(tmp_path / "wide", transformers.BertForMaskedLM, wide, known)
    with pytest.raises(ProjectError, match="hidden_size 32"):
        prepare_network(
            BlipWithBert, {**options, "bert_weights": str(other)}, weights=str(blip), weights_dir=None, bundled=False,
            class_names=[],
        )  # fmt: skip


# -- options that do not fit ----------------------------------------------------------------------------------------
def test_canvas_of_another_size(build) -> None:
    network, options = build("llava")
    with pytest.raises(ProjectError, match="model.image_size=32"):
        ImageTextCaptioner(**{**options, "image_size": [48, 48]})
    for name in ("blip", "blip2", "vit_kogpt2"):  # these interpolate their positions
        small, options = build(name)
        wide = type(small)(**{**options, "image_size": [48, 64]})
        assert wide.generate(pictures(wide), BEAM)


def test_options_that_cannot_be_had(build) -> None:
    with pytest.raises(ProjectError, match="sdpa, eager, flash"):
        build("blip", attention="flash")
    with pytest.raises(ProjectError, match="flash"):
        build("qwen2_vl", attention="flash_attention_2")
    eager, _ = build("qwen2_vl", attention="eager")
    assert eager.model.config._attn_implementation == "eager"
    if not torch.cuda.is_available():
        with pytest.raises(ProjectError, match="needs a CUDA device"):
            build("llava", quantization="4bit", lora=LORA)
    with pytest.raises(ProjectError, match="do not train"):
        build("llava", quantization="8bit")
    with pytest.raises(ProjectError, match="4bits.*4bit"):
        build("llava", quantization="4bits", lora=LORA)


def test_random_weights_need_a_tokenizer(build) -> None:
    options = {"checkpoint": "owner/absent"}
    with pytest.raises(ProjectError, match="no tokenizer"):
        prepare_network(ImageTextCaptioner, options, weights="random", weights_dir=None, bundled=True, class_names=[])
    _, kept = build("blip")
    given = {"checkpoint": "owner/absent", "files": kept["files"], "config": kept["config"]}
    prepared = prepare_network(
        ImageTextCaptioner, given, weights="random", weights_dir=None, bundled=True, class_names=[]
    )
    assert ImageTextCaptioner(image_size=(32, 32), **prepared.options, **prepared.initial).report is None


def test_fetched_checkpoint_has_both_tokenizers(tmp_path, build, root, monkeypatch) -> None:
    from src import hub_models

    monkeypatch.setattr(hub_models, "_find", lambda *_: ("cache", checkpoint(root, "instructblip"), "the cache"))
    folder = hub_models.fetch_checkpoint("owner/instruct", tmp_path / "weights")
    network, _ = build("instructblip", weights=folder)
    assert network.processor.qformer_tokenizer("상자")["input_ids"]
