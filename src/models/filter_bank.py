"""A fixed bank of classical filters as a feature extractor: nothing is learned, nothing is downloaded.

For machines without pretrained weights. Ideas: oriented even and odd Gaussian derivatives at several scales (Leung and
Malik 2001, "Representing and recognizing the visual appearance of materials"), of which only the strongest orientation
is kept, so that a rotated part looks the same (MR8: Varma and Zisserman 2005, "A statistical approach to texture
classification from single images"); rectification and pooling (Malik and Perona 1990; the first order of Bruna and
Mallat 2013, "Invariant scattering convolution networks"); centre against surround in brightness and colour (Itti,
Koch and Niebur 1998). Light: filters of zero mean on log brightness do not see exposure nor slow shading, and division
by the picture's own contrast removes most of gamma.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEFAULT_MEAN = (0.5, 0.5, 0.5)
DEFAULT_STD = (0.5, 0.5, 0.5)
LAYERS = ("fine", "coarse")
STRIDES = {"fine": 4, "coarse": 8}
SCALES = 4  # octaves
REACH = 10  # pixels of the second octave, each way along a line
ORIENTATIONS = 8
DARK = 0.06  # added before the logarithm: about the black level of a camera picture
FLOOR = 0.02  # of rectified responses before their logarithm, in units of the picture's contrast


class FilterBank(nn.Module):
    """Multi-scale texture, line, brightness and colour maps at strides 4 ("fine") and 8 ("coarse").

    Args:
        layers: a selection of LAYERS; the outputs come in this order.

    Raises:
        ValueError: an unknown layer.
    """

    def __init__(self, *, layers: Sequence[str] = LAYERS) -> None:
        super().__init__()
        unknown = [layer for layer in layers if layer not in LAYERS]
        if unknown or not layers:
            raise ValueError(f"filter_bank has the layers {list(LAYERS)}, not {unknown or list(layers)}")
        self.layers = tuple(layers)
        self.strides = [STRIDES[layer] for layer in self.layers]
        self.channels = [CHANNELS[layer] for layer in self.layers]
        even, odd = _derivatives(ORIENTATIONS, size=11, across=1.2, along=3.0)
        self.register_buffer("oriented", torch.cat([even, odd]))

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of images.

        Args:
            images: (B, 3, H, W) float, unit range normalised by DEFAULT_MEAN and DEFAULT_STD; H and W at least 64.

        Returns:
            One (B, C, ceil(H / stride), ceil(W / stride)) tensor a layer, of order 1.
        """
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate")
        colour = (images * 0.5 + 0.5).clamp(0, 1)
        log = torch.log(colour.mean(1, keepdim=True) + DARK)
        ground = _blur(F.avg_pool2d(log, 8), 3.0)
        contrast = (F.avg_pool2d(log, 2) - F.interpolate(ground, scale_factor=4, mode="bilinear")).square()
        contrast = contrast.mean((1, 2, 3), keepdim=True).sqrt() + 0.02
        log = (log - log.mean((2, 3), keepdim=True)) / contrast
        octaves = self._octaves(log)
        maps = {}
        for layer in self.layers:
            stride = STRIDES[layer]
            texture = [_resize(octave, stride) for octave in (octaves[:3] if layer == "fine" else octaves)]
            maps[layer] = torch.cat([*texture, *_brightness(log, stride), _chroma(colour, stride)], 1)
        return [maps[layer] for layer in self.layers]

    def _octaves(self, log: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each octave, responses to be averaged and responses whose peaks count, at the octave's own stride."""
        octaves, level = [], log
        for scale in range(SCALES):
            # the first octave is evaluated on every second pixel: a quarter of the work
            response = F.conv2d(
                F.pad(level, (5, 5, 5, 5), mode="reflect"), self.oriented, stride=2 if scale == 0 else 1
            )
            even, odd = response.split(ORIENTATIONS, 1)
            energy = even.square() + odd.square()
            spot = level - _blur(level, 1.0)
            spot = F.avg_pool2d(spot, 2) if scale == 0 else spot
            peaks = [
                even.amax(1, keepdim=True),
                -even.amin(1, keepdim=True),
                odd.abs().amax(1, keepdim=True),
                spot,
                -spot,
            ]
            if scale == 1:
                peaks += _long_lines(even) + _long_lines(-even)
            octaves.append((energy, torch.cat(peaks, 1), 2 if scale == 0 else 2**scale))
            if scale + 1 < SCALES:
                level = F.avg_pool2d(_blur(level, 0.8), 2)
        return octaves


def _long_lines(ridges: Tensor) -> list[Tensor]:
    """Ridges that go on for 17 and for 27 pixels of this octave: [(B, 1, H, W)] * 2.

    The least of the responses along a line (Azzopardi and Petkov 2013, "Trainable COSFIRE filters"): a grass blade or
    an edge of a stone answers strongly but soon ends; a scratch goes on. Neighbouring orientations and pixels may stand
    in along the way, so that curved lines pass.
    """
    loose = torch.maximum(ridges, torch.maximum(ridges.roll(1, 1), ridges.roll(-1, 1)))
    loose = F.max_pool2d(loose, 3, 1, 1)
    height, width = ridges.shape[-2:]
    loose = F.pad(loose, (REACH, REACH, REACH, REACH), mode="replicate")
    short, long = [], []
    for index in range(ORIENTATIONS):
        angle = math.pi * index / ORIENTATIONS
        least = ridges[:, index]
        for step in (5, 10):
            for signed in (step, -step):
                down, across = (
                    REACH + round(signed * math.cos(angle)),
                    REACH - round(signed * math.sin(angle)),
                )
                least = torch.minimum(least, loose[:, index, down : down + height, across : across + width])
            (short if step == 5 else long).append(least)
    return [torch.stack(lines, 1).amax(1, keepdim=True) for lines in (short, long)]


def _resize(octave: tuple[Tensor, Tensor, int], stride: int) -> Tensor:
    """Pool an octave to `stride`, then take logarithms: (B, C, h, w)."""
    energy, peaks, own = octave
    if own > stride:
        up = own // stride
        energy = F.interpolate(energy, scale_factor=up, mode="bilinear")
        peaks = F.interpolate(peaks, scale_factor=up, mode="bilinear")
    factor = max(1, stride // own)
    mean = F.avg_pool2d(energy, factor)
    total = mean.mean(1, keepdim=True)
    quiet = -F.max_pool2d(-energy.mean(1, keepdim=True), factor)
    parts = [
        0.5 * torch.log(total + FLOOR**2),
        0.5 * torch.log((mean.amax(1, keepdim=True) + FLOOR**2) / (total + FLOOR**2)),
        0.5 * torch.log(quiet + FLOOR**2),
        torch.log(F.max_pool2d(peaks, factor).clamp_min(0) + FLOOR),
    ]
    return torch.cat(parts, 1)


def _brightness(log: Tensor, stride: int) -> list[Tensor]:
    """Centre minus surround at several widths, and the cell's darkest and lightest pixel against the surround."""
    cell = F.avg_pool2d(log, stride)
    unit = 8 // stride
    widths = [_blur(cell, width * unit) for width in (0.7, 1.5, 3.0)]
    wide = _blur(widths[-1], 3.0 * unit)
    low, high = -F.max_pool2d(-log, stride), F.max_pool2d(log, stride)
    return [cell - widths[1], cell - wide, widths[0] - widths[2], widths[1] - wide, low - wide, high - wide]


def _chroma(colour: Tensor, stride: int) -> Tensor:
    """Two opponent channels against the picture's own median tint."""
    log = torch.log(F.avg_pool2d(colour, stride) + DARK)
    chroma = torch.cat([log[:, :1] - log[:, 1:2], log[:, 2:] - log[:, 1:2]], 1)
    median = chroma.flatten(2).median(2).values[..., None, None]
    return 20 * _blur(chroma - median, 0.6 * 8 / stride)


def _derivatives(count: int, *, size: int, across: float, along: float) -> tuple[Tensor, Tensor]:
    """Second (even) and first (odd) derivatives of a long Gaussian, (count, 1, size, size): zero mean, unit L1."""
    radius = size // 2
    line = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    evens, odds = [], []
    for index in range(count):
        angle = math.pi * index / count
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        gauss = torch.exp(-(u**2) / (2 * across**2) - v**2 / (2 * along**2))
        even = (1 - u**2 / across**2) * gauss
        even = even - gauss * (even.sum() / gauss.sum())
        odd = u * gauss
        evens.append(even / even.abs().sum())
        odds.append(odd / odd.abs().sum())
    return torch.stack(evens)[:, None].float(), torch.stack(odds)[:, None].float()


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian, edges repeated."""
    radius = max(1, math.ceil(2.5 * sigma))
    line = torch.arange(-radius, radius + 1, dtype=torch.float32, device=x.device)
    kernel = torch.exp(-(line**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(x.dtype)
    channels = x.shape[1]
    x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


CHANNELS = {"fine": 3 * 8 + 4 + 8, "coarse": 4 * 8 + 4 + 8}
