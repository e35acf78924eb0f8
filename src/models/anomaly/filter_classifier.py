"""A classifier on the built-in filter bank: fixed filters, pooled and standardised, and a linear layer that learns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.filter_bank import CHANNELS, LAYERS, STRIDES, FilterBank

WINDOW = 40  # pixels: about the side of a window whose log-odds a map shows


class FilterClassifier(nn.Module):
    """Mean, deviation, maximum and minimum of each filter's response over the picture → logits.

    For machines without pretrained weights. The extremes matter as much as the averages: a defect is a small place, and
    one that is too quiet tells as much as one that is too loud.
    """

    def __init__(self, *, n_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.bank = FilterBank(layers=LAYERS)
        width = 4 * sum(CHANNELS[layer] for layer in LAYERS)
        self.norm = RunningStandardization(width)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(width, n_classes)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def get_classifier(self) -> nn.Module:
        """The layer that learns, by the name that timm's models have for it."""
        return self.fc

    def forward(self, images: Tensor) -> Tensor:
        """Images B×3×H×W, normalised by the filter bank's own mean and deviation → logits (B, C)."""
        return self.head(torch.cat([_pool(response) for response in self.bank(images)], 1))

    def head(self, pooled: Tensor) -> Tensor:
        """Pooled responses (N, 4·filters) → logits (N, C)."""
        return self.fc(self.drop(self.norm(pooled)))

    def with_locations(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C) of pictures, and (B, C, h, w) of windows about WINDOW pixels wide, judged as a picture is."""
        responses = self.bank(images)
        logits = self.head(torch.cat([_pool(response) for response in responses], 1))
        coarsest = max(STRIDES.values())
        windows = []
        for layer, response in zip(LAYERS, responses, strict=True):
            size = WINDOW // STRIDES[layer] | 1
            windows.append(_pool_windows(response.float(), size, coarsest // STRIDES[layer]))
        height = min(window.shape[-2] for window in windows)
        width = min(window.shape[-1] for window in windows)
        pooled = torch.cat([window[..., :height, :width] for window in windows], 1)
        flat = self.head(pooled.permute(0, 2, 3, 1).flatten(0, 2))
        return logits, flat.view(len(images), height, width, -1).permute(0, 3, 1, 2)


class RunningStandardization(nn.Module):
    """Features minus their mean, divided by their deviation, over all that training has shown so far.

    Unlike a batch norm it answers the same whatever else is in a batch, of one picture too.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) → (N, D) float32; in training mode the batch is counted in first."""
        features = features.float()
        if self.training:
            self._count(features.detach())
        return (features - self.mean) / (self.variance + 1e-4).sqrt()

    @torch.no_grad()
    def _count(self, features: Tensor) -> None:
        """Join two sets' moments (Chan, Golub and LeVeque 1979, "Updating formulae")."""
        before, new = self.count, float(len(features))
        total = before + new
        mean, variance = features.mean(0), features.var(0, correction=0)
        shift = mean - self.mean
        self.variance.copy_((self.variance * before + variance * new + shift.square() * before * new / total) / total)
        self.mean.add_(shift * new / total)
        self.count.copy_(total)


def _pool(response: Tensor) -> Tensor:
    """(B, C, h, w) → (B, 4·C) float32."""
    flat = response.float().flatten(2)
    return torch.cat([flat.mean(2), flat.std(2, correction=0), flat.amax(2), flat.amin(2)], 1)


def _pool_windows(response: Tensor, size: int, stride: int) -> Tensor:
    """The same over windows of `size`×`size` cells, cut at the picture's edge: (B, 4·C, h, w)."""
    pad = size // 2

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, size, stride, pad, count_include_pad=False)

    average = mean(response)
    deviation = (mean(response.square()) - average.square()).clamp_min(0).sqrt()
    highest = F.max_pool2d(response, size, stride, pad)
    lowest = -F.max_pool2d(-response, size, stride, pad)
    return torch.cat([average, deviation, highest, lowest], 1)
