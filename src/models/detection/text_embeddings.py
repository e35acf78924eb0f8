"""CLIP's embeddings of class names (Radford et al. 2021, arXiv:2103.00020): computed once, kept as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from src.errors import ProjectError
from src.hub_models import build_config, build_model, load_config, plain_config
from src.models.detection.open_vocabulary.prompts import build_prompts, load_tokenizer, words_tokenizer

# The tower of `random` weights: small, because its embeddings mean nothing whatever its size.
RANDOM_TOWER = {"vocab_size": 4096, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                "num_attention_heads": 2, "max_position_embeddings": 32, "projection_dim": 64,
                "bos_token_id": 4094, "eos_token_id": 4095}  # fmt: skip


def tower_config(folder: str | None, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The text tower's full plain configuration, of a CLIP checkpoint's folder or (None) of a small random tower."""
    if folder is None:
        return load_config("clip_text_model", {**RANDOM_TOWER, **(overrides or {})})
    config = load_config(folder)
    if config["model_type"] == "clip":
        whole = build_config(config)
        config = plain_config(whole.text_config) | {"projection_dim": whole.projection_dim}
    if config["model_type"] != "clip_text_model":
        raise ProjectError(f"the text encoder {folder} is a {config['model_type']}: choose a CLIP checkpoint.")
    if overrides:
        raise ProjectError("model.text_config only shapes a tower of random weights; leave it null for a checkpoint.")
    return config


@torch.no_grad()
def embed_texts(
    class_names: Sequence[str],
    *,
    folder: str | None,
    config: Mapping[str, Any],
    template: str = "a photo of a {}",
    seed: int = 0,
) -> list[list[float]]:
    """(C, D) embeddings of length 1, one a class name.

    Args:
        folder: a CLIP checkpoint with its tokenizer; None takes a tower of random weights, drawn from `seed`.
        config: of `tower_config`.
    """
    from transformers import CLIPTextModelWithProjection

    limit = int(config["max_position_embeddings"])
    if folder is not None:
        tokenizer = load_tokenizer(folder)
    else:
        texts = [*class_names, template]
        tokenizer = words_tokenizer("clip", texts, vocab_size=int(config["vocab_size"]), max_tokens=limit)
    chunk = build_prompts("query", class_names, tokenizer, max_tokens=limit, template=template)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, _ = build_model(CLIPTextModelWithProjection, config, folder)
    rows = {name: torch.tensor(chunk[name]) for name in ("input_ids", "attention_mask")}
    embedded = torch.nn.functional.normalize(model.eval()(**rows).text_embeds.float(), dim=-1)
    return embedded.tolist()
