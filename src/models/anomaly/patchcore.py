"""PatchCore (Roth et al., CVPR 2022, arXiv:2106.08265): distance to a coreset of normal patch features."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import ProjectError
from src.models.anomaly.coreset import Progress, farthest_points, project, projected_dimension
from src.models.anomaly.maps import GaussianBlur, SizedByCheckpoint, grid_size, join_layers
from src.models.anomaly.neighbors import NeighborIndex
from src.models.anomaly.output import AnomalyOutput
from src.models.anomaly.patches import PatchStore
from src.models.features import FeatureExtractor

_logger = logging.getLogger(__name__)
_WORKSPACE = 384 << 20  # blocks of the selection and of the search
_DTYPES = {"float32": torch.float32, "float16": torch.float16}


class PatchCore(SizedByCheckpoint):
    """A memory of normal patches, fitted by `collect` (all normal images) and `finish`; no gradients.

    coreset_ratio: share of the patches kept in the memory bank, in (0, 1]; coreset_size, if set, is their number.
    num_neighbors: bank patches around the nearest one that re-weight the image score (section 3.3); 1 = no weight.
    standardize: divide each feature channel by its standard deviation over the normal patches.
    blur_sigma: pixels of Gaussian smoothing of the map. max_memory_gb: bound on what fitting may take; beyond it a
    uniformly random sample of the patches is kept. storage: "float32" or "float16" (half the memory) while fitting.
    """

    kind: ClassVar[str] = "memory"
    any_size: ClassVar[bool] = True  # patches are compared wherever they lie
    fitted = ("memory_bank",)

    def __init__(
        self,
        *,
        backbone: str = "wide_resnet50_2",
        layers: Sequence[str | int] = ("layer2", "layer3"),
        backbone_args: Mapping[str, Any] | None = None,
        weights: str | None = None,
        coreset_ratio: float = 0.1,
        coreset_size: int | None = None,
        num_neighbors: int = 9,
        standardize: bool = False,
        blur_sigma: float = 4.0,
        max_memory_gb: float = 4.0,
        storage: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < coreset_ratio <= 1:
            raise ProjectError(f"coreset_ratio={coreset_ratio} must lie in (0, 1]; for a number set coreset_size.")
        if coreset_size is not None and coreset_size < 1:
            raise ProjectError(f"coreset_size={coreset_size} must be at least 1 (or null: coreset_ratio decides).")
        if num_neighbors < 1:
            raise ProjectError(f"num_neighbors={num_neighbors} must be at least 1.")
        if storage not in _DTYPES:
            raise ProjectError(f"storage={storage!r} must be one of {sorted(_DTYPES)}.")
        self.features = FeatureExtractor(backbone=backbone, layers=layers, backbone_args=backbone_args, weights=weights)
        self.width = sum(self.features.channels)
        self.coreset_ratio, self.coreset_size = coreset_ratio, coreset_size
        self.num_neighbors, self.standardize = num_neighbors, standardize
        self.max_memory_gb, self.storage, self.seed = max_memory_gb, storage, seed
        if self.max_memory_gb * 1e9 < self._fixed_bytes() + 1000 * self._bytes_per_patch():
            raise ProjectError(
                f"max_memory_gb={max_memory_gb} leaves no room for 1000 patches of {self.width} channels: "
                f"set at least {(self._fixed_bytes() + 1000 * self._bytes_per_patch()) / 1e9:.2f}."
            )
        self.blur = GaussianBlur(blur_sigma)
        self.register_buffer("memory_bank", torch.empty(0, self.width))
        self.register_buffer("channel_scale", torch.ones(self.width))
        self._store: PatchStore | None = None
        self._index: tuple[Tensor, NeighborIndex] | None = None  # of which memory bank

    def embed(self, images: Tensor) -> Tensor:
        """Patch features B×D×h×w on the first layer's grid."""
        return join_layers(self.features(images), mode="bilinear", pool=True)

    def _bytes_per_patch(self) -> float:
        """Peak of `finish` for each stored patch: the store, its projection or float copy, distances, the bank."""
        stored = self.width * _DTYPES[self.storage].itemsize
        projected = min(self.width, projected_dimension(10_000_000))
        copied = 4 * projected if projected < self.width or self.storage != "float32" else 0
        return stored + copied + 16 + (0 if self.coreset_size else self.coreset_ratio) * self.width * 8

    def _fixed_bytes(self) -> float:
        return _WORKSPACE + (self.coreset_size or 0) * self.width * 8

    def max_patches(self) -> int:
        """Most patches that are kept for fitting within max_memory_gb."""
        return int((self.max_memory_gb * 1e9 - self._fixed_bytes()) / self._bytes_per_patch())

    def memory_estimate(self, n_images: int, image_size: tuple[int, int]) -> int:
        """Bytes that fitting on n_images of (height, width) takes at its peak, besides the backbone itself."""
        height, width = grid_size(image_size, self.features.strides[0])
        patches = min(n_images * height * width, self.max_patches())
        return int(self._fixed_bytes() + patches * self._bytes_per_patch())

    def reserve(self, n_images: int, image_size: tuple[int, int]) -> None:
        """Optional, before `collect`: room for the patches of n_images of (height, width), so that none is copied."""
        height, width = grid_size(image_size, self.features.strides[0])
        self._open_store().reserve(n_images * height * width)

    def _open_store(self) -> PatchStore:
        if self._store is None:
            dtype, device = _DTYPES[self.storage], self.memory_bank.device
            self._store = PatchStore(self.width, limit=self.max_patches(), dtype=dtype, device=device, seed=self.seed)
        return self._store

    @torch.no_grad()
    def collect(self, images: Tensor) -> None:
        """Store the patches of normal images B×3×H×W (normalised)."""
        self._open_store().add(self.embed(images).permute(0, 2, 3, 1).reshape(-1, self.width))

    @torch.no_grad()
    def finish(self, progress: Progress | None = None) -> None:
        """Choose the memory bank from the collected patches; progress(done, total) counts the chosen ones."""
        if self._store is None or not len(self._store):
            raise ProjectError("PatchCore has collected no patches: the training set holds no normal image.")
        seen, patches = self._store.seen, self._store.take()
        self._store = None
        if seen > len(patches):
            _logger.warning(
                "PatchCore keeps a random sample of %d of %d patches to stay within max_memory_gb=%g.",
                len(patches),
                seen,
                self.max_memory_gb,
            )
        if self.standardize:
            deviation = _channel_deviation(patches)
            self.channel_scale = torch.where(deviation > 1e-6 * deviation.max(), 1 / deviation, 0.0)
            patches.mul_(self.channel_scale.to(patches.dtype))
        count = self.coreset_size or max(1, int(len(patches) * self.coreset_ratio))
        if count < len(patches):
            generator = torch.Generator().manual_seed(self.seed)
            start = int(torch.randint(len(patches), (1,), generator=generator))
            chosen = farthest_points(project(patches, seed=self.seed), count, start=start, progress=progress)
            patches = patches[chosen]
        self.memory_bank = patches.float().clone()

    def forward(self, images: Tensor) -> AnomalyOutput:
        """Normalised images B×3×H×W → scores and maps in feature distance, from 0."""
        if not len(self.memory_bank):
            raise ProjectError("PatchCore is not fitted: its memory bank is empty. Train it, or load a checkpoint.")
        with torch.no_grad():
            embedding = self.embed(images)
            batch, width, height, columns = embedding.shape
            patches = embedding.permute(0, 2, 3, 1).reshape(-1, width)
            if self.standardize:
                patches = patches * self.channel_scale
            index = self._neighbors()
            distances = index.distances(patches).view(batch, height * columns)
            top = distances.argmax(1)
            score = self._score(index, patches.view(batch, -1, width)[torch.arange(batch, device=top.device), top])
            maps = F.interpolate(distances.view(batch, 1, height, columns), size=images.shape[-2:])
            return AnomalyOutput(score, self.blur(maps))

    def _neighbors(self) -> NeighborIndex:
        if self._index is None or self._index[0] is not self.memory_bank:
            self._index = (self.memory_bank, NeighborIndex(self.memory_bank))
        return self._index[1]

    def _score(self, index: NeighborIndex, patches: Tensor) -> Tensor:
        """Image scores (B) of each image's farthest patch (B×D): equations 6 and 7 of the paper."""
        distance, nearest = index.search(patches, 1)
        if self.num_neighbors == 1:
            return distance[:, 0]
        _, support = index.search(self.memory_bank[nearest[:, 0]], self.num_neighbors)
        gaps = torch.linalg.vector_norm(self.memory_bank[support] - patches.unsqueeze(1), dim=2)
        return (1 - gaps.softmax(1)[:, 0]) * distance[:, 0]


def _channel_deviation(patches: Tensor) -> Tensor:
    """Standard deviation of each channel over N×D patches, two passes, a block at a time."""
    blocks = patches.split(65536)
    mean = sum(block.double().sum(0) for block in blocks) / len(patches)
    square = sum((block.double() - mean).square().sum(0) for block in blocks) / max(1, len(patches) - 1)
    return square.sqrt().float()
