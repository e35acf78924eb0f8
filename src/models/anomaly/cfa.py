"""CFA (Lee et al., 2022, arXiv:2206.04325): features adapted until normal patches lie close to a memory's centers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.anomaly.maps import GaussianBlur, SizedByCheckpoint, join_layers
from src.models.anomaly.neighbors import NeighborIndex, block_rows
from src.models.anomaly.output import AnomalyOutput
from src.models.features import FeatureExtractor

_MARGIN = 0.1  # anomalib's slack of the repulsion term
_LOSS_SCALE = 1000.0  # anomalib's


class CFA(SizedByCheckpoint):
    """Coupled-hypersphere feature adaptation; `initialise` first, then trained by gradients (paper: AdamW, 1e-3).

    gamma_c: the memory has 1/gamma_c as many centers as the map has positions. gamma_d: features are reduced to
    1/gamma_d of their channels. num_nearest_neighbors attract, num_hard_negative_features repel, about spheres of
    `radius` (squared distances, section 3.1).
    """

    kind: ClassVar[str] = "gradient"
    any_size: ClassVar[bool] = True  # patches are compared wherever they lie
    fitted = ("memory_bank",)

    def __init__(
        self,
        *,
        backbone: str = "wide_resnet50_2",
        layers: Sequence[str | int] = ("layer1", "layer2", "layer3"),
        backbone_args: Mapping[str, Any] | None = None,
        weights: str | None = None,
        gamma_c: int = 1,
        gamma_d: int = 1,
        num_nearest_neighbors: int = 3,
        num_hard_negative_features: int = 3,
        radius: float = 1e-5,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.features = FeatureExtractor(backbone=backbone, layers=layers, backbone_args=backbone_args, weights=weights)
        width = sum(self.features.channels)
        if gamma_c < 1 or not 1 <= gamma_d <= width:
            raise ProjectError(
                f"gamma_c={gamma_c} must be at least 1 and gamma_d={gamma_d} from 1 to {width} channels."
            )
        if num_nearest_neighbors < 1 or num_hard_negative_features < 0:
            raise ProjectError(
                f"num_nearest_neighbors={num_nearest_neighbors} must be at least 1 and "
                f"num_hard_negative_features={num_hard_negative_features} at least 0."
            )
        self.gamma_c, self.radius, self.seed = gamma_c, radius, seed
        self.num_nearest_neighbors = num_nearest_neighbors
        self.num_hard_negative_features = num_hard_negative_features
        self.descriptor = CoordinateConv(width, width // gamma_d)
        self.blur = GaussianBlur(blur_sigma)
        self.register_buffer("memory_bank", torch.empty(0, width // gamma_d))  # K×C centers

    def embed(self, images: Tensor) -> Tensor:
        """Adapted features B×C×h×w on the first layer's grid; gradients reach the descriptor only."""
        return self.descriptor(join_layers(self.features(images), mode="bilinear", pool=True))

    @torch.no_grad()
    def initialise(self, batches: Iterable[Tensor]) -> None:
        """Set the memory's centers from one pass over normal images: their mean features at each position."""
        total, count = None, 0
        for images in batches:
            embedding = self.embed(images)
            part = embedding.sum(0, dtype=torch.float64)
            if total is not None and total.shape != part.shape:
                raise ProjectError(
                    f"CFA averages positions, so all images must have one size: maps of {tuple(total.shape[1:])} "
                    f"and {tuple(part.shape[1:])} positions were given."
                )
            total, count = part if total is None else total + part, count + len(images)
        if total is None:
            raise ProjectError("CFA got no normal image to set its memory from: the training set is empty.")
        centers = (total / count).float().flatten(1).T.contiguous()
        clusters = len(centers) // self.gamma_c
        needed = self.num_nearest_neighbors + self.num_hard_negative_features
        if clusters < needed:
            raise ProjectError(
                f"CFA's memory would have {clusters} centers, but num_nearest_neighbors + "
                f"num_hard_negative_features needs {needed}: lower gamma_c or choose larger images."
            )
        self.memory_bank = cluster_means(centers, clusters, seed=self.seed) if self.gamma_c > 1 else centers

    def _nearest(self, embedding: Tensor, count: int) -> Tensor:
        """Squared distances B×P×count of each position's features to its nearest centers, nearest first."""
        if not len(self.memory_bank):
            raise ProjectError(
                "CFA's memory is empty: call initialise with the training batches, or load a checkpoint."
            )
        batch = len(embedding)
        queries = embedding.float().flatten(2).transpose(1, 2).flatten(0, 1)
        half = self.memory_bank.square().sum(1) * -0.5
        with torch.autocast(queries.device.type, enabled=False):
            closest = [
                torch.addmm(half, block, self.memory_bank.T).topk(count, dim=1).values
                for block in queries.split(block_rows(len(self.memory_bank)))  # bounds memory at any batch size
            ]
            squared = queries.square().sum(1, keepdim=True) - 2 * torch.cat(closest)
        return squared.view(batch, -1, count)

    def loss(self, images: Tensor) -> Tensor:
        """Attraction to the nearest centers and repulsion from hard negatives (equations 1 to 3), for normal images."""
        near, far = self.num_nearest_neighbors, self.num_hard_negative_features
        squared = self._nearest(self.embed(images), near + far)
        attraction = F.relu(squared[..., :near] - self.radius**2).mean()
        repulsion = F.relu(self.radius**2 - squared[..., far:] - _MARGIN).mean()
        return (attraction + repulsion) * _LOSS_SCALE

    @torch.no_grad()
    def forward(self, images: Tensor) -> AnomalyOutput:
        """Normalised images B×3×H×W → scores (the map's maximum) and maps, from 0 (section 3.3)."""
        embedding = self.embed(images)
        distances = self._nearest(embedding, self.num_nearest_neighbors).clamp(min=0).sqrt()
        certainty = F.softmin(distances, dim=-1)[..., 0]
        maps = (certainty * distances[..., 0]).view(len(images), 1, *embedding.shape[-2:])
        maps = F.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)
        maps = self.blur(maps)
        return AnomalyOutput(maps.amax(dim=(1, 2, 3)), maps)


class CoordinateConv(nn.Module):
    """1×1 convolution that also sees each position's row and column, from -1 to 1 (Liu et al. 2018, CoordConv)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs + 2, outputs, kernel_size=1)

    def forward(self, maps: Tensor) -> Tensor:
        batch, _, height, width = maps.shape
        rows = torch.linspace(-1, 1, height, device=maps.device).view(1, 1, -1, 1).expand(batch, 1, height, width)
        columns = torch.linspace(-1, 1, width, device=maps.device).view(1, 1, 1, -1).expand(batch, 1, height, width)
        return self.conv(torch.cat([maps, rows, columns], dim=1))


def cluster_means(points: Tensor, clusters: int, *, seed: int, iterations: int = 300) -> Tensor:
    """Lloyd's k-means centers (clusters×C) of points N×C, started at seeded distinct points."""
    start = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:clusters]
    centers = points[start.to(points.device)].clone()
    previous = None
    for _ in range(iterations):
        assigned = NeighborIndex(centers).search(points, 1)[1][:, 0]
        if previous is not None and torch.equal(assigned, previous):
            break
        previous = assigned
        sums = torch.zeros_like(centers).index_add_(0, assigned, points)
        sizes = torch.bincount(assigned, minlength=clusters).unsqueeze(1)
        centers = torch.where(sizes > 0, sums / sizes.clamp(min=1), centers)  # an empty cluster stays where it was
    return centers
