"""A backbone's feature maps as one sequence of tokens, and which of its stages learn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.caption.text_decoder import Attention, FeedForward, sine_positions
from src.models.features import FILTER_BANK, FeatureExtractor


class VisualTokens(nn.Module):
    """Maps → tokens: a projection and a mark a map, sines of row and column, then layers of self-attention.

    Half of the channels tell the column and half the row, in cells of the finest map, so that maps agree on places.
    """

    def __init__(self, *, channels: Sequence[int], width: int, heads: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.project = nn.ModuleList(nn.Linear(count, width) for count in channels)
        self.norm_maps = nn.ModuleList(nn.LayerNorm(width) for _ in channels)
        self.level = nn.Parameter(torch.randn(len(channels), width) * 0.02)
        self.layers = nn.ModuleList(EncoderLayer(width=width, heads=heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """One B×C×h×w a map → (B, sum of h·w, width)."""
        height, width = max(m.shape[-2] for m in maps), max(m.shape[-1] for m in maps)
        parts = []
        for i, features in enumerate(maps):
            x = self.norm_maps[i](self.project[i](features.permute(0, 2, 3, 1)))  # B×h×w×D
            y_places, x_places = (
                (torch.arange(count, device=x.device) + 0.5) * (whole / count) - 0.5
                for count, whole in ((x.shape[1], height), (x.shape[2], width))
            )
            rows, columns = (sine_positions(places, self.width // 2) for places in (y_places, x_places))
            grid = torch.cat(
                [columns[None].expand(len(rows), -1, -1), rows[:, None].expand(-1, len(columns), -1)], dim=-1
            )
            parts.append((x + grid + self.level[i]).flatten(1, 2))
        tokens = self.dropout(torch.cat(parts, dim=1))
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)


class Concepts(nn.Module):
    """Which subwords an image's captions hold, told from single cells of its maps.

    Several instances of a subword say no more than one, as in Fang et al. (2015); their noisy-or is here the logarithm
    of the mean exponential, which does not saturate. It teaches the backbone directly, before the decoder can read it.
    """

    def __init__(self, channels: Sequence[int], size: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(count, size, 1) for count in channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """One B×C×h×w a map → logits (B, size), float32."""
        cells = [head(features).flatten(2).float() for head, features in zip(self.heads, maps, strict=True)]
        return torch.stack([logits.logsumexp(dim=2) - math.log(logits.shape[2]) for logits in cells]).sum(dim=0)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, norms first."""

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.own = Attention(width=width, heads=heads, dropout=dropout)
        self.feed_forward = FeedForward(width=width, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.norms
        normed = first(x)
        x = x + self.dropout(self.own(normed, self.own.read(normed)))
        return x + self.dropout(self.feed_forward(second(x)))


def freeze_stages(extractor: FeatureExtractor, freeze: int | str) -> list[nn.Module]:
    """Stop the first stages from learning; answers their modules, whose batch norms should keep their statistics.

    `freeze` counts timm's feature layers, 0 = none; "all" (an extractor that is not `trainable`) needs nothing here.

    Raises:
        ProjectError: there are not so many stages, or `freeze` is neither a number nor "all".
    """
    if freeze in ("all", 0) or extractor.backbone == FILTER_BANK:
        return []
    names = [info["module"] for info in extractor.model.feature_info.info]
    if isinstance(freeze, bool) or not isinstance(freeze, int) or not 0 < freeze <= len(names):
        raise ProjectError(f"model.freeze={freeze!r}: give all, or a number of stages, 0 to {len(names)} ({names}).")
    stage = names[freeze - 1].replace(".", "_")  # timm's wrappers call "stages.1" "stages_1" or "model.stages.1"
    modules = list(extractor.model.named_modules())
    flat = [f"{name.replace('.', '_').removeprefix('model_')}_" for name, _ in modules]
    last = max(place for place, name in enumerate(flat) if name.startswith(f"{stage}_"))
    frozen = [module for _, module in modules[: last + 1]]
    for module in frozen:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    return [module for module in frozen if isinstance(module, nn.modules.batchnorm._BatchNorm)]
