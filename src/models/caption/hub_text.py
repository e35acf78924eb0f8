"""Processors and tokenizers of hub checkpoints as plain texts, kept so that a network is rebuilt without the hub.

A checkpoint's processor (image processor, tokenizers, chat template) is read once, saved by its own `save_pretrained`,
and its files are kept as {relative name: content}. Rebuilding writes them into a temporary folder and reads them there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.errors import ProjectError, nearest

PROBE = "두 사람이 빨간 우산을 쓰고 걷고 있다. A dog, 2 cats!"  # tokenised before and after: nothing may be lost
TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
ENDINGS = (".json", ".txt", ".jinja")


def processor_texts(folder: str | Path, special_tokens: Mapping[str, str] | None = None) -> dict[str, str]:
    """The files of a checkpoint's processor; where it has none, of its image processor and tokenizer.

    special_tokens: names of transformers ("pad_token") → tokens, for checkpoints whose files do not say them.

    Raises:
        ProjectError: the folder has no tokenizer, or one that cannot be kept as text.
    """
    return _texts(_read(folder), special_tokens)


def tokenizer_texts(folder: str | Path, special_tokens: Mapping[str, str] | None = None) -> dict[str, str]:
    """The files of a checkpoint's tokenizer alone; raises as `processor_texts`."""
    return _texts(_read_tokenizer(folder), special_tokens)


def load_processor(files: Mapping[str, str]) -> Any:
    """The processor that `processor_texts` kept.

    Raises:
        ProjectError: the texts are none, or transformers does not read them.
    """
    return _from_texts(files, _read)


def load_tokenizer(files: Mapping[str, str]) -> Any:
    """The tokenizer among the texts; raises as `load_processor`."""
    return _from_texts(files, _read_tokenizer)


def image_settings(folder: str | Path | None) -> dict[str, Any]:
    """What a checkpoint's image processor says: a plain dict, empty where the folder has none."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = Path(folder) / name if folder else None
        if path is not None and path.is_file():
            raw = json.loads(path.read_text(encoding="utf-8"))
            raw = raw.get("image_processor", raw)
            if "image_mean" in raw or "do_normalize" in raw or "size" in raw:
                return dict(raw)
    return {}


def _read(folder: str | Path) -> Any:
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        first = (str(error).splitlines() or [""])[0][:300]
        raise ProjectError(
            f"{folder} has no processor that transformers reads: {type(error).__name__}: {first}. Copy the whole "
            "repository: tokenizer and preprocessor files belong to the checkpoint."
        ) from error


def _read_tokenizer(folder: str | Path) -> Any:
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        first = (str(error).splitlines() or [""])[0][:300]
        raise ProjectError(
            f"{folder} has no tokenizer that transformers reads: {type(error).__name__}: {first}. Copy the whole "
            "repository: its tokenizer files belong to the checkpoint."
        ) from error
    return _as_stored(found, Path(folder))


def _as_stored(tokenizer: Any, folder: Path) -> Any:
    """The tokenizer, or the one of its tokenizer.json where it disagrees with that.

    Without a class named in tokenizer_config.json transformers takes the usual one of the model type, which cuts words
    its own way: KoGPT2 is a GPT-2 whose tokenizer is not GPT-2's.
    """
    stored = folder / "tokenizer.json"
    if not stored.is_file():
        return tokenizer
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer.from_file(str(stored))
    if core.encode(PROBE, add_special_tokens=False).ids == tokenizer(PROBE, add_special_tokens=False)["input_ids"]:
        return tokenizer
    said = folder / "tokenizer_config.json"
    names = json.loads(said.read_text(encoding="utf-8")) if said.is_file() else {}
    vocabulary = core.get_vocab()
    special = {name: getattr(tokenizer, name) or names.get(name) for name in TOKEN_NAMES}
    known = {name: str(token) for name, token in special.items() if token is not None and str(token) in vocabulary}
    return PreTrainedTokenizerFast(tokenizer_file=str(stored), **known)


def _texts(loaded: Any, special_tokens: Mapping[str, str] | None) -> dict[str, str]:
    tokenizer = getattr(loaded, "tokenizer", loaded)
    if not callable(getattr(tokenizer, "convert_tokens_to_ids", None)):
        raise ProjectError(f"{type(loaded).__name__} has no tokenizer: a captioner's checkpoint needs its files.")
    _set_special(tokenizer, special_tokens or {})
    with tempfile.TemporaryDirectory() as temporary:
        loaded.save_pretrained(temporary)
        files: dict[str, str] = {}
        for path in sorted(Path(temporary).rglob("*")):
            if path.is_file() and path.suffix in ENDINGS:
                files[path.relative_to(temporary).as_posix()] = path.read_text(encoding="utf-8")
    again = _from_texts(files, _read if loaded is not tokenizer else _read_tokenizer)
    again = getattr(again, "tokenizer", again)
    if again(PROBE)["input_ids"] != tokenizer(PROBE)["input_ids"]:
        raise ProjectError(
            f"the tokenizer ({type(tokenizer).__name__}) cannot be kept as text: read again it gives other tokens. A "
            "checkpoint must have a tokenizer.json, or one that transformers can convert to it (a sentencepiece "
            "model needs the package sentencepiece)."
        )
    return files


def _set_special(tokenizer: Any, tokens: Mapping[str, str]) -> None:
    for name, token in tokens.items():
        if name not in TOKEN_NAMES:
            known = ", ".join(TOKEN_NAMES)
            raise ProjectError(f"model.special_tokens.{name}: not one of {known}.{nearest(name, TOKEN_NAMES)}")
        if token not in tokenizer.get_vocab():
            raise ProjectError(f"model.special_tokens.{name}={token!r}: the tokenizer has no such token.")
        setattr(tokenizer, name, token)


def _from_texts(files: Mapping[str, str], read: Any) -> Any:
    if not files:
        raise ProjectError("the network's options hold no processor files: `prepare` reads them from the checkpoint.")
    with tempfile.TemporaryDirectory() as temporary:
        for name, text in files.items():
            path = Path(temporary) / name
            if not path.resolve().is_relative_to(Path(temporary).resolve()):
                raise ProjectError(f"model.files: {name!r} leaves its folder.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return read(temporary)
