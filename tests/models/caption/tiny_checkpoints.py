"""Whole checkpoints of the real transformers classes, small enough for a test: configuration, weights, processor."""

from __future__ import annotations

from pathlib import Path

import torch

CAPTIONS = ["빨간 공이 왼쪽에 있다.", "파란 상자 두 개가 놓여 있다.", "고양이가 의자 위에 앉아 있다."]
WORDS = ["빨간", "파란", "공이", "상자", "두", "개가", "고양이가", "의자", "위에", "왼쪽에", "앉아", "놓여", "있다",
         ".", "이", "사진을", "한", "문장으로", "설명해", "줘"]  # fmt: skip
BLOCK = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**BLOCK, "image_size": 32, "patch_size": 16}
LLAMA = {**BLOCK, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": False}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LLAVA_CHAT = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ONEVISION_CHAT = QWEN_CHAT.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>\n")
SMOL_CHAT = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}:{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ ' ' if m['role'] == 'assistant' }}{{ c['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def bert_tokenizer(*, begin: bool = True):
    """BertTokenizer that knows the tests' Korean words whole, and BLIP's token that captions begin with."""
    from transformers import BertTokenizer

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {token: index for index, token in enumerate([*specials, *WORDS])}
    tokenizer = BertTokenizer(vocab=vocab, do_lower_case=False, strip_accents=False)
    if begin:
        tokenizer.add_tokens(["[DEC]"], special_tokens=True)
    return tokenizer


def gpt_tokenizer(*extra: str, bos: str | None = "<s>", eos: str = "</s>", begins: bool = False, **options):
    """A fast byte-level BPE tokenizer, as language models have it; `begins` puts its beginning before every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    specials = list(dict.fromkeys(token for token in ["<pad>", bos, eos, "<unk>", *extra] if token))
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([text for caption in CAPTIONS * 8 for text in (caption, f" {caption}")], trainer)
    if begins:
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, core.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=bos,
        eos_token=eos,
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=list(extra),
        **options,
    )


def ids_of(tokenizer) -> dict[str, int | None]:
    """Special ids as a language model's configuration has them."""
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def blip(folder: Path) -> Path:
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    tokenizer = bert_tokenizer()
    text = {
        **BLOCK, **NO_DROPOUT, "encoder_hidden_size": 32, "max_position_embeddings": 32, "projection_dim": 16,
        "vocab_size": len(tokenizer), "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"),
        "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }  # fmt: skip
    config = BlipConfig(text_config=text, vision_config=VISION, projection_dim=16, image_text_hidden_size=16)
    processor = BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    return save(folder, BlipForConditionalGeneration, config, processor)


def _queries(tokenizer, kind: str) -> dict:
    text = {"model_type": "opt", **ids_of(tokenizer), "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 128, "word_embed_proj_dim": 32,
            "dropout": 0.0}  # fmt: skip
    if kind == "t5":
        text = {"model_type": "t5", "vocab_size": len(tokenizer), "d_model": 32, "d_ff": 64, "d_kv": 16,
                "num_layers": 2, "num_heads": 2, "decoder_start_token_id": tokenizer.pad_token_id, "dropout_rate": 0.0,
                "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}  # fmt: skip
    return {
        "text_config": text,
        "vision_config": {**VISION, "initializer_range": 0.02},
        "qformer_config": {**BLOCK, **NO_DROPOUT, "encoder_hidden_size": 32, "vocab_size": 40},
        "num_query_tokens": 4,
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
    }


def blip2(folder: Path, *, language: str = "opt") -> Path:
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessor

    tokenizer = gpt_tokenizer("<image>", begins=language == "opt")
    config = Blip2Config(**_queries(tokenizer, language))
    processor = Blip2Processor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer, num_query_tokens=4)
    return save(folder, Blip2ForConditionalGeneration, config, processor)


def instructblip(folder: Path) -> Path:
    import transformers as t

    tokenizer = gpt_tokenizer("<image>", begins=True)
    config = t.InstructBlipConfig(**_queries(tokenizer, "opt"))
    images = t.BlipImageProcessor(size={"height": 32, "width": 32})
    processor = t.InstructBlipProcessor(images, tokenizer, bert_tokenizer(), num_query_tokens=4)
    return save(folder, t.InstructBlipForConditionalGeneration, config, processor)


def llava(folder: Path) -> Path:
    import transformers as t

    tokenizer = gpt_tokenizer("<image>", begins=True)
    config = t.LlavaConfig(
        text_config={"model_type": "llama", **LLAMA, **ids_of(tokenizer)},
        vision_config={"model_type": "clip_vision_model", **VISION, "projection_dim": 16},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_seq_length=4,
    )
    processor = t.LlavaProcessor(
        t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer, patch_size=16, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=LLAVA_CHAT,
    )  # fmt: skip
    return save(folder, t.LlavaForConditionalGeneration, config, processor)


def llava_onevision(folder: Path) -> Path:
    import transformers as t

    tokenizer = gpt_tokenizer("<image>", "<video>", "<|im_start|>", "<|im_end|>", bos=None, eos="<|im_end|>")
    config = t.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **LLAMA, **ids_of(tokenizer)},
        vision_config={"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[32, 32], [32, 64], [64, 32], [64, 64]],
    )
    processor = t.LlavaOnevisionProcessor(
        t.LlavaOnevisionImageProcessor(
            size={"height": 32, "width": 32}, image_grid_pinpoints=[[32, 32], [32, 64], [64, 32], [64, 64]]
        ),
        tokenizer,
        t.LlavaOnevisionVideoProcessor(size={"height": 32, "width": 32}),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=ONEVISION_CHAT,
        image_token="<image>",
        video_token="<video>",
    )
    return save(folder, t.LlavaOnevisionForConditionalGeneration, config, processor)


def _qwen_tokenizer():
    marks = ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    return gpt_tokenizer(*marks, bos=None, eos="<|im_end|>")


def _qwen_ids(tokenizer) -> dict[str, int]:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
             "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}  # fmt: skip
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}


def _qwen_processor(processor_class, tokenizer, *, patch: int):
    import transformers as t

    sizes = {"shortest_edge": 16 * patch * patch, "longest_edge": 64 * patch * patch}
    images = t.Qwen2VLImageProcessor(patch_size=patch, temporal_patch_size=2, merge_size=2, size=sizes)
    videos = t.Qwen2VLVideoProcessor(patch_size=patch, temporal_patch_size=2, merge_size=2)
    return processor_class(images, tokenizer, videos, chat_template=QWEN_CHAT)


ROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}


def qwen2_vl(folder: Path) -> Path:
    import transformers as t

    tokenizer = _qwen_tokenizer()
    config = t.Qwen2VLConfig(
        text_config={**LLAMA, **ids_of(tokenizer), "rope_parameters": ROPE},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 8, "mlp_ratio": 2},
        **_qwen_ids(tokenizer),
    )
    processor = _qwen_processor(t.Qwen2VLProcessor, tokenizer, patch=8)
    return save(folder, t.Qwen2VLForConditionalGeneration, config, processor)


def qwen2_5_vl(folder: Path) -> Path:
    import transformers as t

    tokenizer = _qwen_tokenizer()
    config = t.Qwen2_5_VLConfig(
        text_config={**LLAMA, **ids_of(tokenizer), "rope_parameters": ROPE},
        vision_config={"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 8,
                       "out_hidden_size": 32, "window_size": 32, "fullatt_block_indexes": [1]},
        **_qwen_ids(tokenizer),
    )  # fmt: skip
    processor = _qwen_processor(t.Qwen2_5_VLProcessor, tokenizer, patch=8)
    return save(folder, t.Qwen2_5_VLForConditionalGeneration, config, processor)


def qwen3_vl(folder: Path) -> Path:
    import transformers as t

    tokenizer = _qwen_tokenizer()
    config = t.Qwen3VLConfig(
        text_config={**LLAMA, **ids_of(tokenizer), "head_dim": 16, "rope_parameters": ROPE},
        vision_config={"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 8,
                       "out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        **_qwen_ids(tokenizer),
    )  # fmt: skip
    processor = _qwen_processor(t.Qwen3VLProcessor, tokenizer, patch=8)
    return save(folder, t.Qwen3VLForConditionalGeneration, config, processor)


def smolvlm(folder: Path) -> Path:
    import transformers as t

    rows = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    marks = ("<|im_start|>", "<image>", "<fake_token_around_image>", "<global-img>", *rows)
    tokenizer = gpt_tokenizer(*marks, bos="<|im_start|>", eos="<end_of_utterance>", begins=True)
    config = t.SmolVLMConfig(
        text_config={"model_type": "llama", **LLAMA, **ids_of(tokenizer)},
        vision_config={**VISION, "patch_size": 8},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
    )
    edge = {"longest_edge": 32}
    processor = t.SmolVLMProcessor(
        t.SmolVLMImageProcessor(size={"longest_edge": 64}, max_image_size=edge, do_image_splitting=True),
        tokenizer,
        t.SmolVLMVideoProcessor(size={"longest_edge": 32}, max_image_size=edge),
        image_seq_len=4,
        chat_template=SMOL_CHAT,
    )
    return save(folder, t.SmolVLMForConditionalGeneration, config, processor)


CHECKPOINTS = {
    "blip": blip,
    "blip2": blip2,
    "blip2_t5": lambda folder: blip2(folder, language="t5"),
    "instructblip": instructblip,
    "llava": llava,
    "llava_onevision": llava_onevision,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "smolvlm": smolvlm,
}


def save(folder: Path, model_class: type, config, processor, *, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model_class(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def vit(folder: Path) -> Path:
    import transformers as t

    torch.manual_seed(1)
    t.ViTModel(t.ViTConfig(**VISION, **NO_DROPOUT)).save_pretrained(folder)
    t.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def kogpt2(folder: Path) -> Path:
    """A GPT-2 as skt/kogpt2-base-v2 is one: no cross-attention, one token for beginning and end."""
    import transformers as t

    tokenizer = gpt_tokenizer(bos="</s>", eos="</s>")
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    quiet = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    return save(folder, t.GPT2LMHeadModel, t.GPT2Config(**sizes, **quiet, **ids_of(tokenizer)), tokenizer)


def kobart(folder: Path) -> Path:
    import transformers as t

    tokenizer = gpt_tokenizer()
    config = t.BartConfig(
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=64, decoder_ffn_dim=64, dropout=0.0,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=64,
        decoder_start_token_id=tokenizer.eos_token_id, **ids_of(tokenizer),
    )  # fmt: skip
    return save(folder, t.BartForConditionalGeneration, config, tokenizer)
