"""Structural similarity of two pictures (Wang et al. 2004, "Image quality assessment: from error visibility...")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import ProjectError

_K1, _K2 = 0.01, 0.03  # the paper's constants


class SSIM(nn.Module):
    """Local SSIM under a Gaussian window, of equation 13 of the paper (alpha = beta = gamma = 1).

    sigma: of the window in pixels, which is cut at 3.5 sigma (11×11 pixels at the paper's 1.5). data_range: distance
    from the least to the greatest possible value: 2 for pictures in [-1, 1]. Variances are of the population (divided
    by the window's sum), as the paper's. Outside the picture lies its mirror image.
    """

    def __init__(self, *, sigma: float = 1.5, data_range: float = 2.0) -> None:
        super().__init__()
        if sigma <= 0 or data_range <= 0:
            raise ProjectError(f"SSIM: sigma={sigma} and data_range={data_range} must both be above 0.")
        self.radius = int(3.5 * sigma + 0.5)
        position = torch.arange(-self.radius, self.radius + 1, dtype=torch.float64)
        window = torch.exp(-(position**2) / (2 * sigma**2))
        self.register_buffer("window", (window / window.sum()).float(), persistent=False)
        self.c1, self.c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """SSIM map of pictures B×C×H×W: the same shape, from -1 to 1, 1 where the surroundings are equal.

        Raises:
            ProjectError: pictures smaller than the window's reach.
        """
        if self.radius >= min(first.shape[-2:]):
            raise ProjectError(
                f"SSIM looks {self.radius} pixels each way, but the picture is {first.shape[-2]}×{first.shape[-1]}: "
                "set a larger model image size."
            )
        with torch.autocast(first.device.type, enabled=False):  # variances are differences of near-equal numbers
            first, second = first.float(), second.float()
            stacked = torch.cat([first, second, first * first, second * second, first * second], dim=1)
            mean_1, mean_2, square_1, square_2, product = self._average(stacked).chunk(5, dim=1)
            variance = square_1 - mean_1**2 + square_2 - mean_2**2
            covariance = product - mean_1 * mean_2
            structure = (2 * covariance + self.c2) / (variance + self.c2)
            return (2 * mean_1 * mean_2 + self.c1) / (mean_1**2 + mean_2**2 + self.c1) * structure

    def _average(self, values: Tensor) -> Tensor:
        channels = values.shape[1]
        values = F.pad(values, (self.radius,) * 4, mode="reflect")
        kernel = self.window.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
        values = F.conv2d(values, kernel, groups=channels)
        return F.conv2d(values, kernel.transpose(2, 3), groups=channels)
