"""Small checkpoints of the real classes that baselines use: CLIP and its like, BLIP in English, a translator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

SENTENCES = ["빨간 공이 있다.", "파란 상자가 있다.", "초록 잎이 있다."]
COLOURS = torch.tensor([[220, 30, 30], [30, 30, 220], [30, 200, 30]], dtype=torch.uint8)
BLOCK = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def pictures(size: tuple[int, int] = (32, 32)) -> torch.Tensor:
    """uint8 3×3×H×W: a picture of one colour for each of SENTENCES, with a little noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 30, (len(COLOURS), 3, *size), generator=generator, dtype=torch.uint8)
    return COLOURS[:, :, None, None].expand(-1, -1, *size) + noise


def normalized(images: torch.Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD):
    values = (torch.tensor(list(column)).view(1, 3, 1, 1) for column in (mean, std))
    offset, scale = values
    return (images.float() / 255 - offset) / scale


def clip_tokenizer():
    """CLIPTokenizer of single bytes: it knows every text."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=64)


def save_clip(folder: Path, *, taught: Sequence[str] = ()) -> Path:
    """A CLIP checkpoint; of `taught`, one text a picture of `pictures`, it learns which belongs to which."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tokenizer = clip_tokenizer()
    marks = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**BLOCK, **marks, "pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer),
            "max_position_embeddings": 64}  # fmt: skip
    vision = {**BLOCK, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    if taught:
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        encoded = tokenizer(list(taught), padding=True, return_tensors="pt")
        for _ in range(40):
            optimizer.zero_grad()
            loss = model(**encoded, pixel_values=normalized(pictures()), return_loss=True).loss
            loss.backward()
            optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def save_siglip(folder: Path) -> Path:
    """A SigLIP checkpoint of random weights, with SigLIP 2's kind of tokenizer."""
    from transformers import Siglip2Tokenizer, SiglipConfig, SiglipImageProcessor, SiglipModel

    letters = sorted(set("".join(SENTENCES).replace(" ", "")))
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *letters]
    tokenizer = Siglip2Tokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    torch.manual_seed(0)
    text = {**BLOCK, "vocab_size": len(tokens), "max_position_embeddings": 16, "pad_token_id": 0, "eos_token_id": 1,
            "bos_token_id": 2, "projection_size": 32}  # fmt: skip
    config = SiglipConfig(text_config=text, vision_config={**BLOCK, "image_size": 32, "patch_size": 16})
    SiglipModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def save_english_blip(folder: Path, captions: Sequence[str]) -> Path:
    """A BLIP checkpoint that has learnt one English caption (lower case, words) for each picture of `pictures`."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word for caption in captions for word in caption.split()})
    tokens = {token: i for i, token in enumerate([*specials, *words, "[DEC]"])}
    tokenizer = BertTokenizer(vocab=tokens, do_lower_case=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[DEC]"]})
    text = {**BLOCK, "vocab_size": len(tokenizer), "encoder_hidden_size": 32, "max_position_embeddings": 32,
            "bos_token_id": tokens["[DEC]"], "pad_token_id": 0, "eos_token_id": 3, "sep_token_id": 3,
            "projection_dim": 16, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
    vision = {**BLOCK, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16, image_text_hidden_size=16)
    model = BlipForConditionalGeneration(config)
    ids = [[tokens["[DEC]"], *(tokens[word] for word in caption.split()), 3] for caption in captions]
    width = max(map(len, ids))
    rows = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        seen = model.vision_model(pixel_values=normalized(pictures())).last_hidden_state
        decoded = model.text_decoder(
            input_ids=rows, attention_mask=(rows != 0).long(), encoder_hidden_states=seen, labels=None
        ).logits
        target = rows[:, 1:].masked_fill(rows[:, 1:] == 0, -100)
        torch.nn.functional.cross_entropy(decoded[:, :-1].flatten(0, 1), target.flatten()).backward()
        optimizer.step()
    model.save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def save_translator(folder: Path, pairs: dict[str, str]) -> Path:
    """An M2M100 checkpoint with NLLB's tokenizer that has learnt these English texts' Korean ones."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    letters = sorted(set("".join([*pairs, *pairs.values()])) - {" "})
    symbols = ["<s>", "<pad>", "</s>", "<unk>", "▁", *letters]
    tokenizer = NllbTokenizer(
        vocab={symbol: i for i, symbol in enumerate(symbols)},
        merges=[],
        extra_special_tokens=["eng_Latn", "kor_Hang"],
        src_lang="eng_Latn",
        tgt_lang="kor_Hang",
    )
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64, dropout=0.0,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    model = M2M100ForConditionalGeneration(config)
    batch = tokenizer(list(pairs), text_target=list(pairs.values()), padding=True, return_tensors="pt")
    batch["labels"][batch["labels"] == 1] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plain(options: dict) -> dict:
    """Options as a checkpoint keeps them: JSON's types alone, or this raises."""
    return json.loads(json.dumps(options))
