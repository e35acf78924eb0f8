"""Pictures and texts as vectors of one space: CLIP, its Korean relatives, SigLIP, rebuilt from plain options."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.errors import ProjectError
from src.hub_models import build_model, load_config
from src.models.caption.hub_text import image_settings, load_tokenizer, tokenizer_texts

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Family:
    """A kind of network: its class in transformers, usual normalisation, and how its texts were padded in training.

    whole_rows: texts fill their whole row, unmasked, as SigLIP's text tower was trained (it pools at the last place).
    """

    model_class: str
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    whole_rows: bool = False


FAMILIES = {
    "clip": Family("CLIPModel"),
    "metaclip_2": Family("MetaClip2Model"),
    "siglip": Family("SiglipModel", HALF, HALF, whole_rows=True),
    "vision-text-dual-encoder": Family("VisionTextDualEncoderModel"),
}
# The towers of `random` weights: small, because what they say means nothing whatever their size.
RANDOM_TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
RANDOM_POSITIONS = 256  # bytes of a text


class ImageTextEncoder(nn.Module):
    """The two towers of an image-text model and its tokenizer.

    Args:
        config: the full plain configuration, from `encoder_options`.
        files: the tokenizer's files as texts, likewise.
        weights: the checkpoint's folder; None leaves random values, to be filled by a state dict.

    Attributes: image_size, (height, width) that the picture tower was trained on; max_tokens of a text; report.
    Raises ProjectError for options that were not prepared and a checkpoint that does not fit.
    """

    def __init__(
        self, *, config: Mapping[str, Any] | None, files: Mapping[str, str] | None, weights: str | None = None
    ) -> None:
        super().__init__()
        if not config or not files:
            raise ProjectError("an image-text model was not prepared: `prepare` fills its config and files first.")
        import transformers

        self.family = family_of(config)
        self.model, self.report = build_model(getattr(transformers, self.family.model_class), config, weights)
        self.tokenizer = load_tokenizer(files)
        vision = self.model.config.vision_config
        side = vision.image_size
        self.image_size = (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))
        places = int(self.model.config.text_config.max_position_embeddings)
        if self.model.config.text_config.model_type in ("roberta", "xlm-roberta", "camembert"):
            places -= int(self.model.config.text_config.pad_token_id) + 1  # their positions begin behind the padding
        self.max_tokens = min(places, int(self.tokenizer.model_max_length))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> ImageTextEncoder:
        """Stays in eval mode: nothing here is trained."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Normalised images B×3×H×W → B×D float32, rows of length 1. Position embeddings follow another image size."""
        other = {} if tuple(images.shape[-2:]) == self.image_size else {"interpolate_pos_encoding": True}
        return _unit(self.model.get_image_features(pixel_values=images.to(self.model.dtype), **other))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """(N, D) float32, rows of length 1; a text is cut after `max_tokens`."""
        # texts of like length together, so that little is padding; the order is restored at the end
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        parts = [
            self._embed([texts[i] for i in order[at : at + batch_size]]) for at in range(0, len(order), batch_size)
        ]
        if not parts:
            raise ValueError("no texts to embed")
        places = torch.tensor(order, device=self.device).argsort()
        return torch.cat(parts)[places]

    def _embed(self, texts: list[str]) -> Tensor:
        whole = self.family.whole_rows
        encoded = self.tokenizer(
            texts,
            padding="max_length" if whole else True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        wanted = ("input_ids",) if whole else ("input_ids", "attention_mask")
        inputs = {name: encoded[name].to(self.device) for name in wanted}
        return _unit(self.model.get_text_features(**inputs))


def _unit(features: Any) -> Tensor:
    # transformers 5 answers with an output object whose pooler_output is projected, earlier ones with the tensor
    return functional.normalize(getattr(features, "pooler_output", features).float(), dim=-1)


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a plain configuration.

    Raises:
        ProjectError: another kind of network.
    """
    model_type = str(config.get("model_type", ""))
    if model_type not in FAMILIES:
        naflex = " Of SigLIP 2 take a checkpoint of one picture size, without naflex." * (model_type == "siglip2")
        raise ProjectError(
            f"{model_type!r} is no image-text model that is used here: {', '.join(FAMILIES)} are, such as "
            f"Bingsu/clip-vit-base-patch32-ko and google/siglip2-base-patch16-224.{naflex}"
        )
    return FAMILIES[model_type]


def encoder_options(folder: str | None, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Plain options of an ImageTextEncoder, and the pictures' normalisation: {config, files, image_mean, image_std}.

    Args:
        folder: the checkpoint's folder; None is a small network of random weights, whose tokenizer reads bytes.
        overrides: keys that replace the checkpoint's.
    """
    overrides = dict(overrides or {})
    if folder is not None:
        config = load_config(folder, overrides)
        files, said = tokenizer_texts(folder), image_settings(folder)
    else:
        files, vocabulary = _byte_tokenizer()
        config, said = _random_config(overrides, vocabulary), {}
    family = family_of(config)
    return {
        "config": config,
        "files": files,
        "image_mean": [float(value) for value in said.get("image_mean") or family.mean],
        "image_std": [float(value) for value in said.get("image_std") or family.std],
    }


def _random_config(overrides: dict[str, Any], vocabulary: Mapping[str, int]) -> dict[str, Any]:
    marks = {"bos_token_id": vocabulary["<|startoftext|>"], "eos_token_id": vocabulary["<|endoftext|>"]}
    text = {**RANDOM_TOWER, **marks, "pad_token_id": marks["eos_token_id"], "vocab_size": len(vocabulary)}
    text |= {"max_position_embeddings": RANDOM_POSITIONS, **(overrides.pop("text_config", None) or {})}
    vision = {**RANDOM_TOWER, "image_size": 224, "patch_size": 32, **(overrides.pop("vision_config", None) or {})}
    model_type = str(overrides.pop("model_type", "clip"))
    if model_type == "clip":
        overrides.setdefault("projection_dim", 64)
    return load_config(model_type, {"text_config": text, "vision_config": vision, **overrides})


def _byte_tokenizer() -> tuple[dict[str, str], dict[str, int]]:
    """The files and the vocabulary of a CLIP tokenizer that joins nothing: every byte is a token."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    with tempfile.TemporaryDirectory() as folder:
        CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=RANDOM_POSITIONS).save_pretrained(Path(folder))
        return tokenizer_texts(folder), vocabulary
