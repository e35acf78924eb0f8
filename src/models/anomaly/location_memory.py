"""A memory of normal locations, and anomaly maps of cosine distances to the nearest of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import ProjectError
from src.models.anomaly.coreset import Progress, farthest_points, project
from src.models.anomaly.maps import GaussianBlur, SizedByCheckpoint, join_layers
from src.models.anomaly.neighbors import NeighborIndex
from src.models.anomaly.patches import PatchStore

_SEEN = 10  # locations kept at random while collecting, for each that stays


class LocationMemory(SizedByCheckpoint):
    """Unit vectors of normal locations: of a random sample ten times as large, the `size` that cover it best.

    A location's vector is its layers' values side by side on the first layer's grid, averaged over 3×3 and of unit
    length each; neither whitened nor projected: both are learned on pooled values, which no single place shows.
    `blur_sigma` pixels smooth the maps.
    """

    fitted = ("bank",)

    def __init__(self, *, channels: Sequence[int], size: int, blur_sigma: float, seed: int) -> None:
        super().__init__()
        if size < 1:
            raise ProjectError(f"model.map_locations={size} must be at least 1.")
        self.width, self.size, self.seed = sum(channels), size, seed
        self.blur = GaussianBlur(blur_sigma)
        self.register_buffer("bank", torch.empty(0, self.width))
        self._store: PatchStore | None = None
        self._index: tuple[Tensor, NeighborIndex] | None = None  # of which bank

    @staticmethod
    def locate(maps: Sequence[Tensor]) -> Tensor:
        """Maps of the layers, B×C×h×w each → unit vectors B×ΣC×h×w."""
        averaged = [F.normalize(F.avg_pool2d(layer.float(), 3, 1, 1), dim=1) for layer in maps]
        return F.normalize(join_layers(averaged, mode="bilinear", pool=False), dim=1)

    @torch.no_grad()
    def collect(self, maps: Sequence[Tensor]) -> None:
        """Sample the locations of normal images."""
        rows = self.locate(maps).permute(0, 2, 3, 1).reshape(-1, self.width)
        if self._store is None:
            self._store = PatchStore(
                self.width, limit=_SEEN * self.size, dtype=torch.float32, device=rows.device, seed=self.seed
            )
        self._store.add(rows)

    @torch.no_grad()
    def finish(self, progress: Progress | None = None) -> None:
        """Keep `size` of the locations collected since the last `finish`, each farthest from those before it."""
        if self._store is None or not len(self._store):
            raise ProjectError("no location of a normal image was collected: add normal training images.")
        rows, self._store = self._store.take(), None
        if len(rows) > self.size:
            rows = rows[farthest_points(project(rows, seed=self.seed), self.size, progress=progress)]
        self.bank = rows.clone()

    @torch.no_grad()
    def forward(self, maps: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Maps of the layers → B×1×H×W cosine distances, from 0 to 2, at the images' size."""
        if self._index is None or self._index[0] is not self.bank:
            self._index = (self.bank, NeighborIndex(self.bank))
        places = self.locate(maps)
        distances = self._index[1].distances(places.permute(0, 2, 3, 1).reshape(-1, self.width))
        cosine_distances = distances.square() / 2  # |a - b|² = 2 - 2 a·b of unit vectors
        planes = cosine_distances.view(len(places), 1, *places.shape[-2:])
        return self.blur(F.interpolate(planes, size=image_size, mode="bilinear", align_corners=False))
