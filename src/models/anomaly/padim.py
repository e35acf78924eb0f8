"""PaDiM (Defard et al., 2020, arXiv:2011.08785): a Gaussian of normal features at every position of the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import ProjectError
from src.models.anomaly.coreset import Progress
from src.models.anomaly.maps import GaussianBlur, SizedByCheckpoint, grid_size, join_layers
from src.models.anomaly.neighbors import full_precision
from src.models.anomaly.output import AnomalyOutput
from src.models.features import FeatureExtractor

_CHUNK_BYTES = 64 << 20  # of float64 covariances, while they are inverted
_JITTER = 1e-5  # anomalib's, on top of the paper's regularisation


class PaDiM(SizedByCheckpoint):
    """Mahalanobis distance to the normal images' Gaussian at the same position; suits aligned parts.

    Fitted by `collect` (all normal images, of one size) and `finish`; statistics stream, no features are kept.
    n_features: channels drawn at random by `seed` out of all the layers' (all if there are fewer);
    feature_indices names them instead. regularization: added to the covariance's diagonal (section III-C).
    """

    kind: ClassVar[str] = "memory"
    fitted = ("mean", "whitening", "feature_index")

    def __init__(
        self,
        *,
        backbone: str = "resnet18",
        layers: Sequence[str | int] = ("layer1", "layer2", "layer3"),
        backbone_args: Mapping[str, Any] | None = None,
        weights: str | None = None,
        n_features: int = 100,
        feature_indices: Sequence[int] | None = None,
        regularization: float = 0.01,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.features = FeatureExtractor(backbone=backbone, layers=layers, backbone_args=backbone_args, weights=weights)
        width = sum(self.features.channels)
        if feature_indices is not None:
            chosen = torch.tensor(list(feature_indices), dtype=torch.int64)
            if not len(chosen) or len(chosen.unique()) != len(chosen) or not 0 <= chosen.min() <= chosen.max() < width:
                raise ProjectError(f"feature_indices must be different numbers from 0 to {width - 1}, at least one.")
        else:
            if n_features < 1:
                raise ProjectError(f"n_features={n_features} must be at least 1 (the layers have {width} channels).")
            chosen = torch.randperm(width, generator=torch.Generator().manual_seed(seed))[:n_features]
        self.regularization = regularization
        self.blur = GaussianBlur(blur_sigma)
        self.register_buffer("feature_index", chosen)
        self.register_buffer("grid", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("mean", torch.empty(0, len(chosen)))  # P×C, P positions
        self.register_buffer("whitening", torch.empty(0, len(chosen), len(chosen)))  # P×C×C: inverse Cholesky factors
        self._count = 0
        self._scatter: Tensor | None = None  # P×C×C: sum of outer products about the mean

    def embed(self, images: Tensor) -> Tensor:
        """Chosen features B×C×h×w on the first layer's grid."""
        joined = join_layers(self.features(images), mode="nearest", pool=False)
        return joined.index_select(1, self.feature_index)

    def memory_estimate(self, n_images: int, image_size: tuple[int, int]) -> int:
        """Bytes that fitting and the fitted model take, besides the backbone; the number of images does not matter."""
        height, width = grid_size(image_size, self.features.strides[0])
        channels = len(self.feature_index)
        return height * width * channels * (channels * 4 + 12) + 3 * _CHUNK_BYTES

    @torch.no_grad()
    def collect(self, images: Tensor) -> None:
        """Add normal images B×3×H×W (normalised) to the statistics.

        Batches merge by the pairwise update of Chan et al. (1979), which keeps float32 sums accurate.
        """
        embedding = self.embed(images)
        batch, channels, height, width = embedding.shape
        if self._scatter is None:
            self._count = 0
            self.grid.copy_(torch.tensor([height, width]))
            self.mean = torch.zeros(height * width, channels, dtype=torch.float64, device=embedding.device)
            self._scatter = torch.zeros(height * width, channels, channels, device=embedding.device)
        self._check_grid(height, width, images)
        samples = embedding.permute(2, 3, 0, 1).reshape(height * width, batch, channels)
        batch_mean = samples.mean(1, dtype=torch.float64)
        shift = batch_mean - self.mean
        total = self._count + batch
        # The merge's rank-one term is one more row of deviations.
        merge = (shift * (self._count * batch / total) ** 0.5).float().unsqueeze(1)
        rows = torch.cat([samples - batch_mean.float().unsqueeze(1), merge], dim=1)
        with full_precision(rows.device):
            self._scatter.baddbmm_(rows.transpose(1, 2), rows)
        self.mean += shift * (batch / total)
        self._count = total

    @torch.no_grad()
    def finish(self, progress: Progress | None = None) -> None:
        """Turn the statistics into whitening matrices, in place; progress(done, total) counts positions."""
        if self._scatter is None or self._count < 2:
            raise ProjectError(f"PaDiM needs at least 2 normal images for a covariance, but collected {self._count}.")
        positions, channels, _ = self._scatter.shape
        step = max(1, _CHUNK_BYTES // (8 * channels**2))
        identity = torch.eye(channels, dtype=torch.float64, device=self._scatter.device)
        for start in range(0, positions, step):
            part = slice(start, start + step)
            covariance = self._scatter[part].double() / (self._count - 1)
            covariance += (self.regularization + _JITTER) * identity
            factor, failed = torch.linalg.cholesky_ex(covariance)
            if bool(failed.any()):
                raise ProjectError(
                    "PaDiM's covariance cannot be inverted: the features hold NaN or infinite values, or "
                    f"regularization={self.regularization} is too small."
                )
            inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
            self._scatter[part] = inverse.float()
            if progress:
                progress(min(start + step, positions), positions)
        self.whitening, self.mean = self._scatter, self.mean.float()
        self._scatter = None

    def forward(self, images: Tensor) -> AnomalyOutput:
        """Normalised images B×3×H×W → scores (the map's maximum) and maps in standard deviations, from 0."""
        if not len(self.whitening):
            raise ProjectError("PaDiM is not fitted: it has no statistics. Train it, or load a checkpoint.")
        with torch.no_grad():
            embedding = self.embed(images)
            batch, channels, height, width = embedding.shape
            self._check_grid(height, width, images)
            deviation = embedding.permute(2, 3, 0, 1).reshape(-1, batch, channels) - self.mean.unsqueeze(1)
            with full_precision(images.device):
                white = torch.bmm(deviation, self.whitening.transpose(1, 2))
            distances = torch.linalg.vector_norm(white, dim=2).T.reshape(batch, 1, height, width)
            maps = F.interpolate(distances, size=images.shape[-2:], mode="bilinear", align_corners=False)
            maps = self.blur(maps)
            return AnomalyOutput(maps.amax(dim=(1, 2, 3)), maps)

    def _check_grid(self, height: int, width: int, images: Tensor) -> None:
        if self.grid.tolist() != [height, width]:
            raise ProjectError(
                f"PaDiM compares positions, so all images must have the size it was fitted on: a map of "
                f"{self.grid[0]}×{self.grid[1]} positions was expected, but images of {images.shape[-2]}×"
                f"{images.shape[-1]} pixels give {height}×{width}."
            )
