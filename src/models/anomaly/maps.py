"""Steps that the anomaly networks share: joining layers on one grid, smoothing maps, buffers of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import ProjectError


def join_layers(features: Sequence[Tensor], *, mode: str, pool: bool) -> Tensor:
    """Layers B×Cᵢ×hᵢ×wᵢ on the first one's grid, side by side: B×ΣC×h×w float32.

    `pool` averages each layer over 3×3 first (PatchCore's locally aware patches, zero-padded).
    """
    size = features[0].shape[-2:]
    joined = []
    for feature in features:
        feature = feature.float()
        if pool:
            feature = F.avg_pool2d(feature, 3, 1, 1)
        if feature.shape[-2:] != size:
            feature = F.interpolate(feature, size=size, mode=mode)
        joined.append(feature)
    return torch.cat(joined, dim=1)


def grid_size(image_size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Feature map size (h, w) of an image (H, W) at a stride, as same-padded backbones give it."""
    return math.ceil(image_size[0] / stride), math.ceil(image_size[1] / stride)


class GaussianBlur(nn.Module):
    """Separable Gaussian of B×1×H×W maps, cut at 4 sigma, borders reflected; sigma 0 does nothing."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.radius = int(4 * sigma + 0.5)
        position = torch.arange(-self.radius, self.radius + 1, dtype=torch.float64)
        weights = torch.exp(-(position**2) / (2 * sigma**2)) if sigma > 0 else torch.ones(1, dtype=torch.float64)
        self.register_buffer("weights", (weights / weights.sum()).float(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        if self.radius == 0:
            return maps
        if self.radius >= min(maps.shape[-2:]):
            raise ProjectError(
                f"a map of {maps.shape[-2]}×{maps.shape[-1]} pixels is too small to be smoothed over "
                f"{self.radius} pixels each way: set a larger model image size or a smaller blur_sigma."
            )
        with torch.autocast(maps.device.type, enabled=False):  # half precision would round the map to steps
            padded = F.pad(maps.float(), (self.radius,) * 4, mode="reflect")
            return F.conv2d(F.conv2d(padded, self.weights.view(1, 1, -1, 1)), self.weights.view(1, 1, 1, -1))


class SizedByCheckpoint(nn.Module):
    """Buffers named in `fitted` take their shape from the state dict that is loaded."""

    fitted: tuple[str, ...] = ()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.fitted:
            value = state_dict.get(prefix + name)
            buffer = getattr(self, name)
            if value is not None:  # always a new tensor, so that what was derived from the old one is seen as stale
                setattr(self, name, torch.empty(value.shape, dtype=buffer.dtype, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
