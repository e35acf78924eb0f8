"""One vector a picture, by any timm backbone or the built-in filter bank."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.features import (
    FILTER_BANK,
    FeatureExtractor,
    LoadReport,
    default_normalization,
    load_backbone_weights,
)


class PooledFeatures(nn.Module):
    """The vector before a backbone's classifier; frozen, in eval mode.

    Of the filter bank, which has no such vector: mean and standard deviation of each of its maps' channels.

    Args:
        backbone: a timm model, or "filter_bank".
        backbone_args: reaches timm.create_model.
        weights: path of a state dict; None leaves random values, to be filled by a checkpoint.

    Attributes: report, the LoadReport or None.
    Raises ProjectError for an unknown backbone, arguments that it refuses, or weights that do not fit.
    """

    def __init__(self, *, backbone: str, backbone_args: Mapping[str, Any] | None, weights: str | None) -> None:
        super().__init__()
        self.report: LoadReport | None = None
        args = dict(backbone_args or {})
        if backbone == FILTER_BANK:
            from src.models.filter_bank import LAYERS

            self.model = FeatureExtractor(backbone=backbone, layers=list(LAYERS), backbone_args=args, weights=weights)
        else:
            full = _on_meta(backbone, args)
            if hasattr(full, "dynamic_img_size"):
                args.setdefault("dynamic_img_size", True)  # vision transformers of any image size
            self.model = timm.create_model(backbone, pretrained=False, **{**args, "num_classes": 0})
            if weights is not None:
                self.report = load_backbone_weights(self.model, full, backbone, Path(weights))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> PooledFeatures:
        """Stays in eval mode: batch norm must not follow the competition's batches."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Normalised images B×3×H×W → B×D float32."""
        if isinstance(self.model, FeatureExtractor):
            maps = [m.flatten(2).float() for m in self.model(images)]
            return torch.cat([part for m in maps for part in (m.mean(2), m.std(2, correction=0))], dim=1)
        return self.model(images).float()


def _on_meta(backbone: str, args: Mapping[str, Any]) -> nn.Module:
    default_normalization(backbone)  # refuses a name that timm does not know
    for key in ("features_only", "pretrained", "in_chans", "checkpoint_path"):
        if key in args:
            raise ProjectError(f"backbone_args.{key} is set by the project; remove it.")
    try:
        with torch.device("meta"):  # names and shapes only
            return timm.create_model(backbone, pretrained=False, **args)
    except TypeError as error:
        raise ProjectError(f"timm's {backbone} refuses backbone_args={dict(args)}: {error}.") from error
