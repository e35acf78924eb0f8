"""Reconstruction by partial diffusion (Wyatt et al. 2022, "AnoDDPM"): noise a little, denoise, see what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import ProjectError, nearest
from src.models.anomaly.output import AnomalyOutput
from src.models.anomaly.reconstruction import Comparison, Reconstructor, top_mean

_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
_PREDICTIONS = ("epsilon", "v_prediction", "sample")


class Diffusion(Reconstructor):
    """A denoising U-Net (diffusers' UNet2DModel) trained on normal pictures by DDPM (Ho et al. 2020, equation 14).

    Testing noises a picture up to the step noise_level of timesteps, denoises it by DDIM (Song et al. 2021, eta = 0) in
    `steps` steps and compares the two as `Comparison` does. Steps beyond noise_level are never met, so training draws
    none of them; noise_level is rounded down to a multiple of `steps`.

    channels: of the U-Net's stages; each but the last halves the sides. groups: of its group norms; divides channels.
    working_size: the picture's shorter side inside the network, in pixels (null: as it comes); what comes out is
    enlarged and compared at input size. crop: side of the random window of it that a training step sees (null: all).
    draws: noise fields whose maps are averaged. They depend on `seed` and the size alone, so that a picture's answer
    does not depend on its batch. The other options are `Comparison`'s.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (32, 32, 64),
        layers_per_block: int = 1,
        groups: int = 8,
        timesteps: int = 1000,
        beta_schedule: str = "linear",
        prediction: str = "v_prediction",
        noise_level: int = 500,
        steps: int = 2,
        draws: int = 1,
        working_size: int | None = 64,
        crop: int | None = 32,
        seed: int = 0,
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
        from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

        super().__init__()
        for key, value, known in (
            ("beta_schedule", beta_schedule, _SCHEDULES),
            ("prediction", prediction, _PREDICTIONS),
        ):
            if value not in known:
                raise ProjectError(f"{key}={value!r} must be one of {', '.join(known)}.{nearest(value, known)}")
        if not 1 <= steps <= noise_level <= timesteps or draws < 1:
            raise ProjectError(
                f"steps={steps}, noise_level={noise_level} and timesteps={timesteps} must not fall from 1 on, and "
                f"draws={draws} must be at least 1."
            )
        if not channels or any(width % groups for width in channels):
            raise ProjectError(f"groups={groups} must divide each of channels={list(channels)}.")
        self.stride = 2 ** (len(channels) - 1)
        for key, value in (("working_size", working_size), ("crop", crop)):
            if value is not None and (value < self.stride or value % self.stride):
                raise ProjectError(f"{key}={value} must be a multiple of {self.stride}, as the channels halve it.")
        self.steps, self.draws, self.seed = steps, draws, seed
        self.prediction, self.working_size, self.crop = prediction, working_size, crop
        self.unet = UNet2DModel(
            block_out_channels=tuple(channels),
            down_block_types=("DownBlock2D",) * len(channels),
            up_block_types=("UpBlock2D",) * len(channels),
            layers_per_block=layers_per_block,
            norm_num_groups=groups,
            add_attention=False,
        )
        betas = DDPMScheduler(num_train_timesteps=timesteps, beta_schedule=beta_schedule).betas
        used = noise_level // steps * steps
        options = {"num_train_timesteps": used, "trained_betas": betas[:used].numpy(), "prediction_type": prediction}
        self.noising = DDPMScheduler(**options)
        self.denoising = DDIMScheduler(**options, timestep_spacing="trailing")
        self.denoising.set_timesteps(steps)
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

    def working(self, images: Tensor) -> Tensor:
        """Pictures B×3×H×W at the size that the network works at: sides are multiples of its stride."""
        height, width = images.shape[-2:]
        scale = 1.0 if self.working_size is None else self.working_size / min(height, width)
        size = tuple(max(1, round(side * scale / self.stride)) * self.stride for side in (height, width))
        return _resize(images, size)

    def loss(self, images: Tensor) -> dict[str, Tensor]:
        """Mean squared error of what the U-Net predicts of noised normal pictures; draws from torch's generator."""
        images = self.working(images)
        if self.crop is not None:
            images = torch.stack([_window(image, self.crop) for image in images])
        noise = torch.randn_like(images)
        steps = torch.randint(0, self.noising.config.num_train_timesteps, (len(images),), device=images.device)
        noised = self.noising.add_noise(images, noise, steps)
        target = {"epsilon": noise, "sample": images}.get(self.prediction)
        if target is None:
            target = self.noising.get_velocity(images, noise, steps)
        return {"denoising": F.mse_loss(self.unet(noised, steps).sample.float(), target)}

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Iterator[Tensor]:
        """One reconstruction B×3×H×W a noise draw, of pictures B×3×H×W."""
        inside = self.working(images)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.draws):
            noise = torch.randn(1, *inside.shape[1:], generator=generator).to(inside).expand_as(inside)
            first = torch.full((len(inside),), int(self.denoising.timesteps[0]), device=inside.device)
            sample = self.denoising.add_noise(inside, noise, first)
            for step in self.denoising.timesteps.tolist():
                predicted = self.unet(sample, step).sample.float()
                sample = self.denoising.step(predicted, step, sample).prev_sample
            yield _resize(sample, tuple(images.shape[-2:]))

    def collect(self, images: Tensor) -> None:
        """Add normal training pictures to the comparison's statistics."""
        for reconstructed in self.reconstruct(images):
            self.comparison.collect(images, reconstructed)

    @torch.no_grad()
    def forward(self, images: Tensor) -> AnomalyOutput:
        """Pictures B×3×H×W from -1 to 1 → scores and maps, as `Comparison` gives them, averaged over the draws."""
        maps = [self.comparison(images, reconstructed).anomaly_map for reconstructed in self.reconstruct(images)]
        mean = torch.stack(maps).mean(0)
        return AnomalyOutput(top_mean(mean, self.comparison.top_share), mean)


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _window(image: Tensor, side: int) -> Tensor:
    """A random window of side×side pixels (no larger than the picture) of a picture C×H×W."""
    height, width = image.shape[-2:]
    rows, columns = min(side, height), min(side, width)
    top, left = (int(torch.randint(0, room + 1, ())) for room in (height - rows, width - columns))
    return image[:, top : top + rows, left : left + columns]
