"""Whole checkpoints of the real transformers classes, small enough for a test: configuration, weights, processor."""

from __future__ import annotations

from pathlib import Path

import torch

CAPTIONS = ["빨간 공이 왼쪽에 있다.", "파란 상자 두 개가 놓여 있다.", "고양이가 의자 위에 앉아 있다."]
WORDS = ["빨간", "파란", "공이", "상자", "두", "개가", "고양이가", "의자", "위에", "왼쪽에", "앉아", "놓여", "있다", ".",
         "이", "사진을", "한", "문장으로", "설명해", "줘", "USER", "ASSISTANT", ":", "user", "assistant", "User",
         "Assistant", "system"]  # fmt: skip


def bert_tokenizer():
    """BertTokenizer with whole Korean words and the single letters of everything else that the tests write."""
    from transformers import BertTokenizer

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {token: index for index, token in enumerate([*specials, *WORDS, "[DEC]"])}
    tokenizer = BertTokenizer(vocab=vocab, do_lower_case=False, strip_accents=False)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[DEC]"]})
    return tokenizer


def gpt_tokenizer(*extra: str, bos: str | None = "<s>", template: str | None = None):
    """A fast tokenizer as language models have it: whole words with their space before them, byte-level letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    specials = [token for token in ["<pad>", bos, "</s>", "<unk>", *extra] if token]
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    core.train_from_iterator([f" {text}" for text in CAPTIONS * 8] + CAPTIONS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        additional_special_tokens=list(extra), **({"chat_template": template} if template else {}),
    )  # fmt: skip
    return tokenizer


def save_blip(folder: Path, *, seed: int = 0) -> Path:
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    tokenizer = bert_tokenizer()
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "encoder_hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32,
            "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"), "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.sep_token_id, "sep_token_id": tokenizer.sep_token_id, "projection_dim": 16,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 16}  # fmt: skip
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16, image_text_hidden_size=16)
    processor = BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    return save(folder, BlipForConditionalGeneration, config, processor, seed=seed)


def save(folder: Path, model_class: type, config, processor, *, seed: int) -> Path:
    torch.manual_seed(seed)
    model_class(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
