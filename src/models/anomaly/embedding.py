"""One vector an image: a backbone's layers, pooled, side by side, projected if asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import ProjectError, nearest

POOLINGS = ("average", "deviation", "gem", "top")
PROJECTIONS = ("none", "linear", "mlp")
_GEM_FLOOR = 1e-6  # of activations, so that a root of nothing has a gradient


class Embedding(nn.Module):
    """Maps of a backbone's layers → a vector an image.

    Values of one layer and pooling have unit length together, so that no layer outweighs another by its units.

    pooling: one or several of "average"; "deviation" (the standard deviation over the map); "gem" (generalised mean of
    power `gem_power` of the positive part, Radenović et al. 2019, arXiv:1711.02512, equation 3); "top" (mean of the
    largest `top_share` of the values of each channel, at least one). projection: "none", "linear" or "mlp" (one hidden
    layer as wide as its input), to `embedding_size` values, over batch normalisation.

    Attributes: width, the number of pooled values; size, that of the vectors.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        pooling: str | Sequence[str] = ("average",),
        gem_power: float = 3.0,
        top_share: float = 0.02,
        projection: str = "none",
        embedding_size: int = 128,
    ) -> None:
        super().__init__()
        self.pooling = (pooling,) if isinstance(pooling, str) else tuple(pooling)
        for name in self.pooling:
            if name not in POOLINGS:
                raise ProjectError(f"pooling={name!r} is not one of {', '.join(POOLINGS)}.{nearest(name, POOLINGS)}")
        if not self.pooling or len(set(self.pooling)) < len(self.pooling):
            raise ProjectError(f"pooling={list(self.pooling)} must name at least one of {', '.join(POOLINGS)}, once.")
        if not gem_power >= 1 or not 0 < top_share <= 1:
            raise ProjectError(f"gem_power={gem_power} must be at least 1 and top_share={top_share} lie in (0, 1].")
        if projection not in PROJECTIONS:
            raise ProjectError(
                f"projection={projection!r} is not one of {', '.join(PROJECTIONS)}.{nearest(projection, PROJECTIONS)}"
            )
        if embedding_size < 1:
            raise ProjectError(f"embedding_size={embedding_size} must be at least 1.")
        self.gem_power, self.top_share = gem_power, top_share
        self.width = sum(channels) * len(self.pooling)
        self.size = self.width if projection == "none" else embedding_size
        self.head = None if projection == "none" else _Head(self.width, embedding_size, hidden=projection == "mlp")

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps of the layers, B×C×h×w each → vectors B×size, float32, of any length."""
        parts = [self._pooled(layer.float().flatten(2), how) for how in self.pooling for layer in maps]
        pooled = torch.cat([F.normalize(part, dim=1) for part in parts], dim=1)
        return pooled if self.head is None else self.head(pooled)

    def _pooled(self, values: Tensor, how: str) -> Tensor:
        """B×C×P → B×C."""
        if how == "average":
            return values.mean(2)
        if how == "deviation":
            return (values.var(2, unbiased=False) + _GEM_FLOOR**2).sqrt()
        if how == "gem":
            return values.clamp(min=_GEM_FLOOR).pow(self.gem_power).mean(2).pow(1 / self.gem_power)
        return values.topk(max(1, round(self.top_share * values.shape[2])), dim=2).values.mean(2)


class _Head(nn.Module):
    """Batch normalisation (pooled values of all images lie close together), then one or two linear layers."""

    def __init__(self, inputs: int, outputs: int, *, hidden: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(inputs)
        layers = [nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, outputs)]
        self.layers = nn.Sequential(*(layers if hidden else layers[2:]))

    def forward(self, pooled: Tensor) -> Tensor:
        with torch.autocast(pooled.device.type, enabled=False):  # cosines near 1 need more than 8 or 11 bits
            if self.training and len(pooled) == 1:  # the last batch of an epoch: one image has no deviation
                norm = self.norm
                whitened = F.batch_norm(
                    pooled, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
                )
            else:
                whitened = self.norm(pooled)
            return self.layers(whitened)
