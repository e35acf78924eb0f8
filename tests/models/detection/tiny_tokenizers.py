"""The real tokenizer classes of the checkpoints, from vocabularies of a few words, written to files as they ship."""

import json
from pathlib import Path

BERT_WORDS = ["cat", "fire", "truck", "hot", "##dog", "dog", "t", "v", "-", "shirt", "a", ",", "traffic", "light"]
CLIP_WORDS = ["a", "photo", "of", "cat", "fire", "truck", "dog", "detect", "traffic", "light"]


def bert_tokenizer(folder: Path, **options):
    """BertTokenizer whose special tokens have BERT's own ids, because Grounding DINO's model looks for those."""
    from transformers import BertTokenizer

    fixed = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    words = iter(BERT_WORDS)
    lines = [fixed.get(i) or (next(words, None) if i > 200 else None) or f"[unused{i}]" for i in range(1100)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return BertTokenizer.from_pretrained(folder, **options)


def clip_tokenizer(folder: Path, *, pad_token: str = "!"):
    """CLIPTokenizer (byte-level BPE) that knows some whole words; the end token has the highest id, as in CLIP."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    vocab = ["!", *(letter for letter in letters if letter != "!"), *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in CLIP_WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            parts = [parts[0] + parts[1], *parts[2:]]
            if pair not in merges:
                merges.append(pair)
                vocab.append(parts[0])
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, pad_token=pad_token)
