"""Variational autoencoder with a spatial code (Kingma and Welling 2014, arXiv:1312.6114)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import ProjectError
from src.models.anomaly.autoencoder import Decoder, Encoder
from src.models.anomaly.output import AnomalyOutput
from src.models.anomaly.reconstruction import Comparison, Reconstructor

_LOG_VARIANCE = (-10.0, 10.0)  # of the posterior: beyond them exp() gains nothing and training can diverge
_LEAST_VARIANCE = 1e-6  # of the pixels, where it is estimated


class VAE(Reconstructor):
    """Encodes normal pictures as Gaussians close to N(0, 1) and rebuilds them from draws; any image size.

    Loss, in nats a pixel value: the Gaussian negative log-likelihood of the picture up to its constant,
    (x - y)²/(2v) + log(v)/2, plus beta·KL(q(z|x) ‖ N(0, 1)) summed over the code and divided by the number of pixel
    values (appendix B has the closed form). variance: v; null takes the best one for each batch, its mean squared error
    (Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders").

    Score and map: the reconstruction of the code's mean, compared as `Comparison` does, plus kl_weight times the KL map
    (KL of each place of the code, summed over its channels), standardised and smoothed like the others; weights are
    relative to each other. channels: of the stages, each of which halves the sides; latent_channels: of the code.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (16, 32, 64, 128, 128),
        latent_channels: int = 8,
        beta: float = 1.0,
        variance: float | None = None,
        kl_weight: float = 0.0,
        pixel_weight: float = 0.25,
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
        if beta < 0 or (variance is not None and variance <= 0):
            raise ProjectError(f"beta={beta} must be at least 0, and variance={variance} above 0 or null.")
        self.beta, self.variance = beta, variance
        self.encoder = Encoder(channels, 2 * latent_channels)
        self.decoder = Decoder(channels, latent_channels)
        self.comparison = Comparison(
            pixel_weight=pixel_weight,
            feature_weight=feature_weight,
            own_weight=kl_weight,
            backbone=backbone,
            layers=layers,
            backbone_args=backbone_args,
            weights=weights,
            blur_sigma=blur_sigma,
            top_share=top_share,
            relative=relative,
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code, each B×C×h×w."""
        padded, _ = self.encoder.pad(images)
        mean, log_variance = self.encoder(padded).float().chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)

    def decode(self, codes: Tensor, size: Sequence[int]) -> Tensor:
        """Pictures B×3×H×W of `size` (H, W) that codes stand for."""
        return self.decoder(codes)[..., : size[0], : size[1]]

    def loss(self, images: Tensor) -> dict[str, Tensor]:
        """Both terms of the loss on normal pictures B×3×H×W from -1 to 1; draws from torch's generator."""
        mean, log_variance = self.encode(images)
        codes = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        squared = (images - self.decode(codes, images.shape[-2:])).square().mean()
        if self.variance is None:
            likelihood = 0.5 * squared.clamp_min(_LEAST_VARIANCE).log() + 0.5
        else:
            likelihood = squared / (2 * self.variance) + 0.5 * torch.tensor(self.variance).log().to(squared)
        kl = kl_map(mean, log_variance).sum(dim=(1, 2, 3)).mean() / images[0].numel()
        return {"likelihood": likelihood, "kl": self.beta * kl}

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions B×3×H×W of the codes' means, and the KL map B×1×H×W."""
        mean, log_variance = self.encode(images)
        height, width = images.shape[-2:]
        wide = F.interpolate(
            kl_map(mean, log_variance), scale_factor=self.encoder.stride, mode="bilinear", align_corners=False
        )
        return self.decode(mean, (height, width)), wide[..., :height, :width]

    def collect(self, images: Tensor) -> None:
        """Add normal training pictures to the comparison's statistics."""
        self.comparison.collect(images, *self.reconstruct(images))

    def forward(self, images: Tensor) -> AnomalyOutput:
        """Pictures B×3×H×W from -1 to 1 → scores and maps; nothing is drawn."""
        return self.comparison(images, *self.reconstruct(images))


def kl_map(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) ‖ N(0, 1)) in nats, summed over channels: B×C×h×w → B×1×h×w."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1, keepdim=True)
