"""How well a caption fits a picture, by an image-text model: for re-ranking candidates, and for CLIPScore
(`src.metrics.caption.clip_score`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.hub_models import resolve_checkpoint
from src.models.caption.image_text_encoder import CLIP_MEAN, CLIP_STD, ImageTextEncoder, encoder_options
from src.weights import ResolvedWeights


class ClipScorer(nn.Module):
    """Cosine similarities of pictures and texts.

    Args:
        config, files: what `prepare_scorer` gave: the network's plain configuration, its tokenizer's files.
        image_mean, image_std: the pictures' normalisation, RGB, unit range; likewise.
        weights: the checkpoint's folder; None leaves random values, to be filled by a state dict.

    Attributes: report, the LoadReport of the checkpoint or None.
    """

    def __init__(
        self,
        *,
        config: Mapping[str, Any],
        files: Mapping[str, str],
        image_mean: Sequence[float] = CLIP_MEAN,
        image_std: Sequence[float] = CLIP_STD,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.encoder = ImageTextEncoder(config=config, files=files, weights=weights)
        self.report = self.encoder.report
        for name, values in (("mean", image_mean), ("std", image_std)):
            self.register_buffer(name, torch.tensor(list(values)).view(1, 3, 1, 1), persistent=False)

    @torch.no_grad()
    def scores(self, images: Tensor, texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """Cosine similarity, from -1 to 1, of each picture with each of its texts.

        Args:
            images: uint8 B×3×H×W RGB on any device, of any size: a canvas is squashed to the network's own size.
            texts: one list a picture, of any lengths; a text that is longer than the network reads is cut.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected uint8 B×3×H×W, got {images.dtype} {tuple(images.shape)}")
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} pictures, but {len(texts)} lists of texts")
        different = list(dict.fromkeys(text for group in texts for text in group))
        if not different:
            return [[] for _ in texts]
        device = self.encoder.device
        pictures = self.encoder.embed_images(self._prepared(images.to(device)))
        vectors = self.encoder.embed_texts(different)
        rows = {text: index for index, text in enumerate(different)}
        answers = []
        for picture, group in zip(pictures, texts, strict=True):
            chosen = vectors[torch.tensor([rows[text] for text in group], dtype=torch.int64, device=device)]
            answers.append((chosen * picture).sum(dim=1).tolist())
        return answers

    def _prepared(self, images: Tensor) -> Tensor:
        values = images.float()
        if tuple(images.shape[-2:]) != self.encoder.image_size:
            values = functional.interpolate(
                values, self.encoder.image_size, mode="bicubic", antialias=True, align_corners=False
            ).clamp_(0, 255)
        return (values / 255 - self.mean) / self.std


def prepare_scorer(
    checkpoint: str,
    weights: str = "auto",
    weights_dir: Path | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    warn: Callable[[str], Any] = print,
) -> tuple[dict[str, Any], dict[str, Any], ResolvedWeights]:
    """What a ClipScorer is built from: `ClipScorer(**options, **initial)`; rebuilt by the options and a state dict.

    Args:
        checkpoint: the repository on the hub, such as Bingsu/clip-vit-base-patch32-ko.
        weights: auto | pretrained | random | a checkpoint's folder.
        weights_dir: folder that is looked into before the cache and the hub.
        config: keys that replace the checkpoint's.

    Raises:
        WeightsNotFound: the checkpoint is not here and the hub is not reachable; the message names the ways out.
        ProjectError: another kind of network, or files that cannot be read.
    """
    resolved = resolve_checkpoint(checkpoint, weights, weights_dir=weights_dir, bundled=False, warn=warn)
    return encoder_options(resolved.path, config), {"weights": resolved.path}, resolved
