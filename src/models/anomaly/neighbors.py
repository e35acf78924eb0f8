"""Exact Euclidean nearest neighbours by matrix products: bounded memory, one code for CPU and CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Elements of one block of a distance matrix (64 MiB). Smaller ones fit a CPU's caches but cost more thread barriers,
# and on a busy machine each barrier waits for the scheduler: measured 9 times slower at 16 MiB beside other jobs.
_BLOCK_ELEMENTS = 16 << 20


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products in true float32: TF32, bf16 and autocast lose the digits that |x|² + |y|² - 2xy cancels."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False), torch.no_grad():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def block_rows(columns: int) -> int:
    """Rows of a distance block of `columns` columns that keep it within the memory bound."""
    return max(64, _BLOCK_ELEMENTS // max(columns, 1))


class NeighborIndex:
    """Brute-force index over points M×D (float32); takes as much memory again as the points.

    Points are centred first: distances do not change, and norms, hence rounding errors, get small.
    """

    def __init__(self, points: Tensor) -> None:
        self.points = points.float()
        self._center = self.points.mean(0)
        centred = self.points - self._center
        self._half_norms = centred.square().sum(1).mul_(-0.5)
        self._transposed = centred.T  # D×M view; the product reads it as it lies

    def __len__(self) -> int:
        return len(self.points)

    def _blocks(self, queries: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """(rows, |q|² of the rows, q·x - |x|²/2 for each row and point): the largest is the nearest."""
        rows = max(1, min(block_rows(len(self)), len(queries)))
        work = torch.empty(rows, len(self), device=queries.device)  # reused: fresh pages cost as much as the product
        for start in range(0, len(queries), rows):
            part = slice(start, start + rows)
            block = queries[part].float() - self._center
            closeness = torch.addmm(self._half_norms, block, self._transposed, out=work[: len(block)])
            yield part, block.square().sum(1), closeness

    def distances(self, queries: Tensor) -> Tensor:
        """Distance of each query (P×D) to its nearest point: P float32."""
        nearest = torch.empty(len(queries), device=queries.device)
        with full_precision(queries.device):
            for part, norms, closeness in self._blocks(queries):
                nearest[part] = (norms - 2 * closeness.amax(1)).clamp_(min=0).sqrt_()
        return nearest

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The `count` nearest points of each query, nearest first: distances P×count and indices P×count.

        Distances are taken anew from the coordinates, so they carry no cancellation error.
        """
        count = min(count, len(self))
        distances = torch.empty(len(queries), count, device=queries.device)
        indices = torch.empty(len(queries), count, dtype=torch.int64, device=queries.device)
        with full_precision(queries.device):
            for part, _, closeness in self._blocks(queries):
                best = closeness.max(1, keepdim=True) if count == 1 else closeness.topk(count, dim=1)
                found = best.indices
                for start in range(0, len(found), 256):  # a gathered block is count × D wide
                    rows = slice(part.start + start, part.start + start + len(found[start : start + 256]))
                    gap = self.points[found[start : start + 256]] - queries[rows, None].float()
                    distances[rows] = torch.linalg.vector_norm(gap, dim=2)
                indices[part] = found
        order = distances.argsort(dim=1, stable=True)
        return distances.gather(1, order), indices.gather(1, order)
