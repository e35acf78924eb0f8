"""Toy pictures for reconstructing networks: smooth stripes and shades, a planted square, a short training."""

import numpy as np
import torch
from torch import Tensor, nn


def plain(count: int, *, seed: int) -> Tensor:
    """Pictures count×3×64×80 from -1 to 1: a stripe pattern of varying phase under varying light, slightly noisy."""
    generator = torch.Generator().manual_seed(seed)
    phase, light, slope = torch.rand(3, count, 1, 1, 1, generator=generator)
    rows, columns = torch.arange(64.0).view(1, 1, -1, 1), torch.arange(80.0).view(1, 1, 1, -1)
    picture = 0.1 * torch.sin(columns / 2.5 + 6.28 * phase) + 0.2 * (light - 0.5) + 0.2 * (slope - 0.5) * rows / 64
    return picture.expand(-1, 3, -1, -1) + 0.02 * torch.randn(count, 3, 64, 80, generator=generator)


def with_square(images: Tensor, *, top: int, left: int, side: int) -> Tensor:
    """The same pictures with a bright square."""
    images = images.clone()
    images[..., top : top + side, left : left + side] = 0.95
    return images


def fit(network: nn.Module, images: Tensor, *, steps: int, lr: float = 1e-3) -> list[float]:
    """Train on the whole set at each step, then learn its statistics; the losses. The network is left in eval mode."""
    torch.manual_seed(0)
    network.train()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum(network.loss(images).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    network.eval()
    network.collect(images)
    network.finish()
    return losses


def centroid(plane: np.ndarray) -> np.ndarray:
    """Row and column of the centre of what stands above half of the map's greatest value."""
    plane = np.clip(plane - plane.max() / 2, 0, None)
    rows, columns = np.indices(plane.shape)
    return np.array([(rows * plane).sum(), (columns * plane).sum()]) / plane.sum()
