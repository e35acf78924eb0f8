"""Convolutional autoencoder with SSIM + L1 loss (Bergmann et al. 2019, arXiv:1807.02011), plain or inpainting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.anomaly.output import AnomalyOutput
from src.models.anomaly.reconstruction import Comparison, Reconstructor
from src.models.anomaly.ssim import SSIM


class Autoencoder(Reconstructor):
    """Rebuilds normal pictures through a bottleneck; what it cannot rebuild is anomalous. Any image size.

    channels: of the stages, each of which halves the sides; latent_channels: of the code, which keeps its places.
    Loss: ssim_weight·(1 - SSIM) + l1_weight·|x - y|, averaged over pixels and colours.
    So that copying is not learnt: noise is the deviation of Gaussian noise on the input in training (pictures are from
    -1 to 1); hide is the share of square cells of `cell` pixels that are greyed out in training.
    inpaint: in testing too every cell is rebuilt while it is hidden, in four passes of every second row and column,
    from its surroundings alone (Zavrtanik et al. 2021, "Reconstruction by inpainting for visual anomaly detection").
    The other options are `Comparison`'s.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (16, 32, 64, 128),
        latent_channels: int = 32,
        ssim_weight: float = 1.0,
        l1_weight: float = 1.0,
        noise: float = 0.0,
        hide: float = 0.25,
        cell: int = 16,
        inpaint: bool = True,
        pixel_weight: float = 1.0,
        feature_weight: float = 1.0,
        backbone: str = "filter_bank",
        layers: Sequence[str | int] = ("coarse", "fine"),
        backbone_args: Mapping[str, Any] | None = None,
        weights: str | None = None,
        blur_sigma: float = 8.0,
        top_share: float = 0.1,
        relative: bool = True,
    ) -> None:
        super().__init__()
        if min(ssim_weight, l1_weight) < 0 or ssim_weight + l1_weight == 0:
            raise ProjectError(
                f"ssim_weight={ssim_weight} and l1_weight={l1_weight} must not be negative, and one must be above 0."
            )
        if noise < 0 or not 0 <= hide < 1 or cell < 1:
            raise ProjectError(f"noise={noise} must be at least 0, hide={hide} in [0, 1) and cell={cell} at least 1.")
        if inpaint and not hide:
            raise ProjectError("inpaint=true rebuilds hidden cells, which hide=0 never trains: set one or the other.")
        self.ssim_weight, self.l1_weight = ssim_weight, l1_weight
        self.noise, self.hide, self.cell, self.inpaint = noise, hide, cell, inpaint
        self.encoder = Encoder(channels, latent_channels)
        self.decoder = Decoder(channels, latent_channels)
        self.ssim = SSIM()
        self.comparison = Comparison(
            pixel_weight=pixel_weight,
            feature_weight=feature_weight,
            backbone=backbone,
            layers=layers,
            backbone_args=backbone_args,
            weights=weights,
            blur_sigma=blur_sigma,
            top_share=top_share,
            relative=relative,
        )

    def loss(self, images: Tensor) -> dict[str, Tensor]:
        """Terms of the loss on normal pictures B×3×H×W from -1 to 1, weighted."""
        seen = images + self.noise * torch.randn_like(images) if self.noise else images
        if self.hide:
            rows, columns = _cells(images, self.cell)
            drawn = torch.rand(len(images), 1, rows, columns, device=images.device) < self.hide
            seen = seen * (1 - _enlarge(drawn, self.cell, images))
        rebuilt = self._rebuild(seen)
        terms = {}
        if self.ssim_weight:
            terms["ssim"] = self.ssim_weight * (1 - self.ssim(images, rebuilt).mean())
        if self.l1_weight:
            terms["l1"] = self.l1_weight * (images - rebuilt).abs().mean()
        return terms

    def _rebuild(self, images: Tensor) -> Tensor:
        padded, (height, width) = self.encoder.pad(images)
        return self.decoder(self.encoder(padded))[..., :height, :width]

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Reconstructions B×3×H×W of pictures of the same shape, a function of each picture alone."""
        if not self.inpaint:
            return self._rebuild(images)
        rows, columns = _cells(images, self.cell)
        row = torch.arange(rows, device=images.device).view(-1, 1) % 2
        column = torch.arange(columns, device=images.device) % 2
        result = torch.zeros_like(images)
        for part in range(4):
            hidden = _enlarge((row * 2 + column == part)[None, None], self.cell, images)
            result += hidden * self._rebuild(images * (1 - hidden))
        return result

    def collect(self, images: Tensor) -> None:
        """Add normal training pictures to the comparison's statistics."""
        self.comparison.collect(images, self.reconstruct(images))

    def forward(self, images: Tensor) -> AnomalyOutput:
        """Pictures B×3×H×W from -1 to 1 → scores and maps, as `Comparison` gives them."""
        return self.comparison(images, self.reconstruct(images))


class Encoder(nn.Module):
    """Strided convolutions B×3×H×W → codes B×outputs×H/s×W/s, s = 2^stages."""

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        if not channels or min(*channels, outputs) < 1:
            raise ProjectError(f"channels={list(channels)} and the code's {outputs} must be positive numbers.")
        self.stride = 2 ** len(channels)
        layers: list[nn.Module] = []
        for inputs, width in zip([3, *channels], channels, strict=False):
            layers += [nn.Conv2d(inputs, width, 4, stride=2, padding=1), *_activation(width)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], outputs, 1))

    def pad(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images whose sides are multiples of the stride, borders repeated, and the size they had."""
        height, width = images.shape[-2:]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        return (F.pad(images, padding, mode="replicate") if any(padding) else images), (height, width)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Decoder(nn.Module):
    """Codes B×inputs×h×w → pictures B×3×h·s×w·s, the encoder mirrored; values are not bounded."""

    def __init__(self, channels: Sequence[int], inputs: int) -> None:
        super().__init__()
        widths = [*reversed(channels)]
        layers: list[nn.Module] = [nn.Conv2d(inputs, widths[0], 3, padding=1), *_activation(widths[0])]
        for wide, narrow in zip(widths, widths[1:], strict=False):
            layers += [nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1), *_activation(narrow)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, stride=2, padding=1))

    def forward(self, codes: Tensor) -> Tensor:
        return self.layers(codes)


def _activation(width: int) -> list[nn.Module]:
    # group statistics are of one picture: no answer depends on the batch
    groups = next(count for count in (8, 4, 2, 1) if width % count == 0)
    return [nn.GroupNorm(groups, width), nn.SiLU()]


def _cells(images: Tensor, cell: int) -> tuple[int, int]:
    return -(-images.shape[-2] // cell), -(-images.shape[-1] // cell)


def _enlarge(cells: Tensor, cell: int, images: Tensor) -> Tensor:
    """Marks of cells B×1×h×w as 0 and 1 for each pixel of `images`."""
    wide = cells.to(images.dtype).repeat_interleave(cell, dim=2).repeat_interleave(cell, dim=3)
    return wide[..., : images.shape[-2], : images.shape[-1]]
