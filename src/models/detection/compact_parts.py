"""Neck and head of the compact detector: a light top-down pyramid and a head shared by its levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm_act(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(inplace=True),
    )


class Pyramid(nn.Module):
    """Feature pyramid (Lin et al. 2017, FPN) from a backbone's maps to the wanted strides.

    Every map takes part in the top-down path, also those coarser than the wanted strides. A wanted stride that the
    backbone lacks is made from its neighbour: by a strided convolution above the coarsest map, by enlarging below
    (as Li et al. 2022, ViTDet, do for plain transformers).
    """

    def __init__(
        self, *, channels: Sequence[int], map_strides: Sequence[int], strides: Sequence[int], width: int
    ) -> None:
        super().__init__()
        self.map_strides, self.strides = list(map_strides), list(strides)
        self.levels = sorted({*map_strides, *strides})
        self.lateral = nn.ModuleList(conv_norm_act(count, width, kernel=1) for count in channels)
        coarser = [stride for stride in self.levels if stride > max(map_strides)]
        self.down = nn.ModuleList(conv_norm_act(width, width, stride=2) for _ in coarser)
        self.merge = nn.ModuleList(conv_norm_act(width, width) for _ in self.levels)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Maps B×C×h×w in the order of `map_strides`, image size (h, w) → one B×width×h×w a wanted stride."""
        level = {s: conv(m) for s, conv, m in zip(self.map_strides, self.lateral, maps, strict=True)}
        last = level[max(level)]
        for stride, conv in zip([s for s in self.levels if s > max(self.map_strides)], self.down, strict=True):
            last = level[stride] = conv(last)
        outputs, above = {}, None
        for stride, merge in zip(reversed(self.levels), self.merge, strict=True):
            here = level.get(stride)
            if above is not None:
                to = here.shape[-2:] if here is not None else [math.ceil(side / stride) for side in size]
                above = F.interpolate(above, size=tuple(to), mode="nearest")
                here = above if here is None else here + above
            outputs[stride] = above = merge(here)
        return [outputs[stride] for stride in self.strides]


class Head(nn.Module):
    """Two towers, one for classes and one for boxes, whose convolutions all levels share.

    Each level has batch norms of its own (Lyu et al. 2022, RTMDet, section 3.2: the statistics differ by level), and
    a factor of its own on the distances (Tian et al. 2019, FCOS).
    """

    def __init__(self, *, width: int, depth: int, levels: int, num_classes: int, prior: float) -> None:
        super().__init__()
        towers = {name: [nn.Conv2d(width, width, 3, 1, 1, bias=False) for _ in range(depth)] for name in ("cls", "box")}
        self.convs = nn.ModuleDict({name: nn.ModuleList(convs) for name, convs in towers.items()})
        self.norms = nn.ModuleDict(
            {
                name: nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(width) for _ in convs) for _ in range(levels))
                for name, convs in towers.items()
            }
        )
        self.cls_out = nn.Conv2d(width, num_classes, 1)
        self.box_out = nn.Conv2d(width, 4, 1)
        self.scales = nn.Parameter(torch.ones(levels))
        nn.init.normal_(self.cls_out.weight, std=0.01)
        nn.init.normal_(self.box_out.weight, std=0.01)
        nn.init.constant_(self.cls_out.bias, -math.log((1 - prior) / prior))
        nn.init.constant_(self.box_out.bias, math.log(2.0))  # boxes start four strides wide

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """One map B×width×h×w a level → logits B×C×h×w and log distances (left, top, right, bottom) in strides."""
        logits, distances = [], []
        for i, features in enumerate(levels):
            logits.append(self.cls_out(self._tower("cls", i, features)))
            distances.append(self.box_out(self._tower("box", i, features)) * self.scales[i])
        return logits, distances

    def _tower(self, name: str, level: int, features: Tensor) -> Tensor:
        for conv, norm in zip(self.convs[name], self.norms[name][level], strict=True):
            features = F.silu(norm(conv(features)))
        return features
