"""How each open-vocabulary detector wants its words: class names become token ids, and know their own tokens.

A prompt is a list of chunks, each a plain dict, run one after the other:
    classes         indices of the classes that the chunk asks for, in its order
    input_ids       rows of token ids, attention_mask likewise (one row a chunk, or one a class)
    spans           Grounding DINO only: [first, past the last] token of each class in the row
    task_ids        OmDet-Turbo only: the row of the task sentence, task_mask likewise
Plain lists, so that a checkpoint holds them and is rebuilt without a tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.errors import ProjectError

Chunk = dict[str, Any]
DELIMITERS = ".?"  # Grounding DINO's model splits its text at these tokens (and at [CLS] and [SEP])
BERT_SPECIALS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
FORMATS = ("grounding", "query", "task")


def build_prompts(
    style: str,
    class_names: Sequence[str],
    tokenizer: Any,
    *,
    max_tokens: int,
    template: str = "{}",
) -> list[Chunk]:
    """Token ids of English class names in one of the three formats.

    Args:
        style: "grounding" (Grounding DINO: one lower-case text, every phrase ended by a full stop), "query" (OWLv2,
            SAM 3: one padded row a class), "task" (OmDet-Turbo: a sentence that lists the classes, and a row a class).
        class_names: English names; a Korean word goes through `src.lexicon` first.
        tokenizer: the checkpoint's own fast tokenizer, or `words_tokenizer`'s.
        max_tokens: what the text encoder takes at most, special tokens included.
        template: for "query": what a name stands in, such as "a photo of a {}".

    Raises:
        ProjectError: a name that is empty, not English to the tokenizer, or longer than the text encoder takes.
    """
    if not class_names:
        raise ProjectError("an open-vocabulary detector needs at least one class name.")
    if style == "grounding":
        return _grounding(class_names, tokenizer, max_tokens)
    phrases = [_clean(name, lower=False) for name in class_names]
    if style == "query":
        return [{"classes": list(range(len(phrases))), **_rows(phrases, tokenizer, max_tokens, template)}]
    if style == "task":
        return _tasks(phrases, tokenizer, max_tokens)
    raise ValueError(f"unknown prompt style {style!r}; known: {', '.join(FORMATS)}")


def grounding_text(phrases: Sequence[str]) -> str:
    """Grounding DINO's prompt: "a cat. a fire truck." (lower case, each phrase ended by a full stop)."""
    return ". ".join(phrases) + "."


def task_text(phrases: Sequence[str]) -> str:
    """OmDet-Turbo's task sentence: "Detect cat, fire truck."."""
    return f"Detect {', '.join(phrases)}."


def _clean(name: str, *, lower: bool) -> str:
    text = " ".join(str(name).replace("_", " ").split())
    if lower:
        for mark in DELIMITERS:  # a full stop inside a name would end its phrase
            text = text.replace(mark, " ")
        text = " ".join(text.lower().split())
    if not text:
        raise ProjectError(f"class name {name!r} has no word that a detector could be asked for.")
    return text


def _grounding(class_names: Sequence[str], tokenizer: Any, max_tokens: int) -> list[Chunk]:
    phrases = [_clean(name, lower=True) for name in class_names]
    lengths = []
    for name, phrase in zip(class_names, phrases, strict=True):
        ids = tokenizer(phrase, add_special_tokens=False)["input_ids"]
        _check_known(name, ids, tokenizer)
        lengths.append(len(ids) + 1)  # with its full stop
        if lengths[-1] + 2 > max_tokens:
            raise ProjectError(f"class name {name!r} takes {lengths[-1]} tokens, more than {max_tokens} fit.")
    chunks = []
    for classes in _groups(lengths, max_tokens - 2):
        chosen = [phrases[index] for index in classes]
        text = grounding_text(chosen)
        encoded = tokenizer(text, return_offsets_mapping=True)
        spans, start = [], 0
        for phrase in chosen:
            inside = [
                position
                for position, (first, last) in enumerate(encoded["offset_mapping"])
                if first < last and start <= first and last <= start + len(phrase)
            ]
            spans.append([inside[0], inside[-1] + 1])
            start += len(phrase) + 2  # the full stop and the space
        ids = list(encoded["input_ids"])
        chunks.append({"classes": classes, "input_ids": [ids], "attention_mask": [[1] * len(ids)], "spans": spans})
    return chunks


def _tasks(phrases: Sequence[str], tokenizer: Any, max_tokens: int) -> list[Chunk]:
    lengths = []
    for phrase in phrases:
        ids = tokenizer(phrase, add_special_tokens=False)["input_ids"]
        lengths.append(len(ids) + 1)  # with its comma or full stop
    fixed = len(tokenizer("Detect", add_special_tokens=False)["input_ids"]) + 2
    chunks = []
    for classes in _groups(lengths, max_tokens - fixed):
        chosen = [phrases[index] for index in classes]
        task = _rows([task_text(chosen)], tokenizer, max_tokens, "{}")
        chunks.append(
            {
                "classes": classes,
                **_rows(chosen, tokenizer, max_tokens, "{}"),
                "task_ids": task["input_ids"],
                "task_mask": task["attention_mask"],
            }
        )
    return chunks


def _groups(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Consecutive classes, as many as fit into `room` tokens; at least one each."""
    groups: list[list[int]] = [[]]
    used = 0
    for index, length in enumerate(lengths):
        if groups[-1] and used + length > room:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += length
    return groups


def _rows(phrases: Sequence[str], tokenizer: Any, max_tokens: int, template: str) -> dict[str, list[list[int]]]:
    """Padded rows; a name that is too long with the template stands alone."""
    texts = []
    for phrase in phrases:
        _check_known(phrase, tokenizer(phrase, add_special_tokens=False)["input_ids"], tokenizer)
        fitting = [t for t in (template.format(phrase), phrase) if len(tokenizer(t)["input_ids"]) <= max_tokens]
        if not fitting:
            count = len(tokenizer(phrase)["input_ids"])
            raise ProjectError(
                f"{phrase!r} takes {count} tokens, but the text encoder takes {max_tokens}: use a shorter English name."
            )
        texts.append(fitting[0])
    encoded = tokenizer(texts, padding="max_length", max_length=max_tokens)
    return {name: [list(row) for row in encoded[name]] for name in ("input_ids", "attention_mask")}


def _check_known(name: str, ids: Sequence[int], tokenizer: Any) -> None:
    """A name of unknown tokens alone asks for nothing. CLIP's tokenizer knows every byte, so ASCII is asked for too."""
    english = any(c.isascii() and c.isalnum() for c in name)
    if not english or not ids or all(token == tokenizer.unk_token_id for token in ids):
        raise ProjectError(
            f"class name {name!r} is unknown to the detector's tokenizer: open-vocabulary detectors read English. "
            "Give an English name (model.class_names), or one that src.lexicon translates."
        )


def load_tokenizer(folder: str | Path) -> Any:
    """The fast tokenizer of a checkpoint's folder; nothing is fetched.

    Raises:
        ProjectError: the folder lacks its files.
    """
    from transformers import AutoTokenizer

    names = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")
    if not any((Path(folder) / name).is_file() for name in names):
        raise ProjectError(f"the checkpoint {folder} lacks its tokenizer: expected tokenizer.json or {names[1]} in it.")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def words_tokenizer(family: str, texts: Sequence[str], *, vocab_size: int, max_tokens: int) -> Any:
    """A tokenizer of whole words for a network of random weights, to which any ids mean equally little.

    Args:
        family: "bert" (special tokens at BERT's own ids, which Grounding DINO's model looks for) or "clip" (padding 0,
            start and end the two highest ids, because CLIP's text encoder pools at the highest).
        texts: everything that will be tokenised, prompts included.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words = sorted({w for t in texts for w, _ in splitter.pre_tokenize_str(normalizer.normalize_str(t))})
    if family == "bert":
        vocab, names = dict(BERT_SPECIALS), ("[CLS]", "[SEP]", "[PAD]", "[UNK]")
    else:
        vocab = {"!": 0, "<unk>": 1, "<start>": vocab_size - 2, "<end>": vocab_size - 1}
        names = ("<start>", "<end>", "!", "<unk>")
    taken = set(vocab.values())
    free = [index for index in range(2, vocab_size) if index not in taken]
    words = [word for word in words if word not in vocab]
    if max(taken) >= vocab_size or len(words) > len(free):
        raise ProjectError(
            f"model.config: a text encoder of {vocab_size} words is too small here; set its vocab_size to at least "
            f"{max(max(taken) + 1, len(words) + len(taken) + 2)}."
        )
    vocab |= dict(zip(words, free, strict=False))
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=names[3]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{names[0]} $A {names[1]}", special_tokens=[(names[0], vocab[names[0]]), (names[1], vocab[names[1]])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=names[0],
        eos_token=names[1],
        pad_token=names[2],
        unk_token=names[3],
        model_max_length=max_tokens,
    )
