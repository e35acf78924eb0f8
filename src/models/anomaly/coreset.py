"""Exact farthest-point (greedy k-center) selection by speculative batches, and the projection that may precede it.

Greedy k-center (Gonzalez 1985; Sener and Savarese 2018, algorithm 1) adds, again and again, the point farthest from
those already chosen. One pass over all points a choice is bound by memory speed. Distances only shrink, though:
among the B points that are farthest now, a choice that stays above the (B+1)-th distance is the true next one,
whatever lies outside. So a round plays the greedy game among the B candidates alone and then updates all points
with the whole round's choices in one matrix product, which runs at the processor's arithmetic peak.

Exactness: the products only filter, with a rigorous bound on their rounding error; whatever could lower a point's
distance is evaluated again from the coordinates, by the operation that a plain loop (anomalib's) uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from src.errors import ProjectError
from src.models.anomaly.neighbors import NeighborIndex, block_rows, full_precision

Progress = Callable[[int, int], None]
_CANDIDATES = 1024
_SERIAL_ELEMENTS = 32_000  # torch stays in one thread below 32,768 elements; waking others for so little costs more
_UNIT_ROUNDOFF = 2.0**-24


@contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """A console bar with rate and time left, as a callback(done, total)."""
    from tqdm import tqdm

    with tqdm(desc=description, unit="point", disable=None) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update


def farthest_points(features: Tensor, count: int, *, start: int = 0, progress: Progress | None = None) -> Tensor:
    """Indices (int64, in order of choice) of `count` rows of features N×D, each farthest from those before it.

    The choices of the plain loop over float32 distances, ties going to the lowest index; fewer than `count` where
    there are fewer distinct rows. Works where the features are (CPU or CUDA); needs about 16 bytes a row besides.
    Raises ProjectError for a count or start out of range and for values that are not finite.
    """
    if features.ndim != 2 or not 1 <= count <= len(features) or not 0 <= start < len(features):
        raise ProjectError(
            f"cannot choose {count} of features of shape {tuple(features.shape)} from start {start}: "
            "expected N×D features, 1 <= count <= N and 0 <= start < N."
        )
    with full_precision(features.device):
        return _Selection(features.float(), start, progress).run(count)


def covering_radius(features: Tensor, indices: Tensor) -> float:
    """Largest distance of a row of features N×D to its nearest chosen row."""
    return float(NeighborIndex(features[indices]).search(features, 1)[0].max())


class _Selection:
    """One run: nearest distances of all rows to the chosen ones, kept exact from round to round."""

    def __init__(self, features: Tensor, start: int, progress: Progress | None) -> None:
        self.features, self.progress = features, progress
        wide = block_rows(features.shape[1])
        self.center = features.mean(0)  # centred rows have smaller norms, hence tighter bounds
        blocks = features.split(wide)
        self.norms = torch.cat([(block - self.center).square().sum(1) for block in blocks])
        if not bool(self.norms.isfinite().all()):
            raise ProjectError("the features to choose from hold NaN or infinite values: check the backbone's weights.")
        # A product-form squared distance differs from the squared plain-loop distance by less than slack × (n + c),
        # n and c the centred norms: (D + 2) roundings in two norms, a product and a sum of squares; then doubled.
        self.slack = (10 * features.shape[1] + 64) * _UNIT_ROUNDOFF
        self.nearest = torch.cat([_distance(block, features[start]) for block in blocks])
        self.nearest[start] = 0
        self.chosen = [torch.tensor([start], device=features.device)]
        self._work: dict[str, Tensor] = {}

    def run(self, count: int) -> Tensor:
        done = 1
        while done < count:
            new = self._round(count - done)
            if not len(new):
                break  # all that remain are copies of chosen rows
            self.chosen.append(new)
            if done + len(new) < count:
                self._update(new, done, count)
            done += len(new)
            if self.progress:
                self.progress(done, count)
        return torch.cat(self.chosen)

    def _round(self, wanted: int) -> Tensor:
        """The next true choices, at most `wanted`, as far as the farthest candidates alone decide them."""
        size = min(_CANDIDATES, len(self.nearest))
        values, candidates = self.nearest.topk(min(size + 1, len(self.nearest)))
        outside = values[-1].item() if len(values) > size else 0.0
        if values[0].item() == 0.0:
            return candidates[:0]
        if values[0].item() == outside:  # more ties than candidates: the lowest index of all, alone
            return self.nearest.max(0).indices.reshape(1)
        candidates = candidates[:size].sort().values  # by index, so that argmax breaks ties as over all rows
        return candidates[self._play(candidates, outside, wanted)]

    def _play(self, candidates: Tensor, outside: float, wanted: int) -> list[int]:
        """Positions of the greedy choices among the candidates while they stay above `outside`.

        Thousands of tiny dependent steps: they run on the CPU whatever the device.
        """
        points = self.features[candidates].cpu()
        norms = self.norms[candidates].cpu().numpy()
        nearest = self.nearest[candidates].cpu().numpy().copy()
        centred = points - self.center.cpu()
        products = (centred @ centred.T).numpy()
        rows = points.numpy()
        slack = self.slack * (norms + norms.max())
        # x·p - |p|²/2 above this bound: p may be nearer to x than what x has.
        bound = (norms - nearest**2 - slack) * 0.5
        step = max(1, _SERIAL_ELEMENTS // points.shape[1])
        picks: list[int] = []
        while len(picks) < wanted:
            pick = int(nearest.argmax())
            if not nearest[pick] > outside:
                break
            picks.append(pick)
            near = np.flatnonzero(products[pick] - norms[pick] * 0.5 > bound)
            for start in range(0, len(near), step):
                part = near[start : start + step]
                exact = _distance(torch.from_numpy(rows[part]), points[pick]).numpy()
                nearest[part] = np.minimum(nearest[part], exact)
            nearest[pick] = 0
            bound[near] = (norms[near] - nearest[near] ** 2 - slack[near]) * 0.5
        return picks

    def _update(self, new: Tensor, done: int, count: int) -> None:
        """Lower all rows' nearest distances by the new choices."""
        centers = self.features[new]
        centred = (centers - self.center).T.contiguous()
        half = self.norms[new] * -0.5
        largest = self.norms[new].max()
        rows = block_rows(max(len(new), self.features.shape[1]))
        for start in range(0, len(self.features), rows):
            part = slice(start, start + rows)
            block, norms, nearest = self.features[part], self.norms[part], self.nearest[part]
            shifted = torch.sub(block, self.center, out=self._buffer("shifted", *block.shape))
            closeness = self._buffer("closeness", len(block), len(new))
            torch.addmm(half, shifted, centred, out=closeness)  # (|x|² - |x - c|²) / 2
            slack = self.slack * (norms + largest)
            best = closeness.amax(1)
            bound = (norms - nearest.square() - slack) * 0.5
            hit = (best > bound).nonzero().squeeze(1)
            if not len(hit):
                continue
            # Of a row's centers only those within the error of its best can be its nearest.
            keep = closeness[hit] >= torch.maximum(bound[hit], best[hit] - slack[hit]).unsqueeze(1)
            row, center = keep.nonzero(as_tuple=True)
            exact = torch.linalg.norm(block[hit[row]] - centers[center], ord=2, dim=1)
            nearest[hit] = nearest[hit].scatter_reduce(0, row, exact, "amin")
            if self.progress:
                self.progress(done + len(new) * start // len(self.features), count)
        self.nearest[new] = 0

    def _buffer(self, name: str, rows: int, columns: int) -> Tensor:
        """Reused memory: fresh pages for every block cost as much as the arithmetic on them."""
        work = self._work.get(name)
        if work is None or work.numel() < rows * columns:
            work = self._work[name] = torch.empty(rows * columns, device=self.features.device)
        return work[: rows * columns].view(rows, columns)


def _distance(rows: Tensor, point: Tensor) -> Tensor:
    return torch.linalg.norm(rows - point, ord=2, dim=1)


def projected_dimension(rows: int, eps: float = 0.9) -> int:
    """Johnson-Lindenstrauss dimension that keeps distances among `rows` points within a factor 1 ± eps."""
    return max(1, int(4 * math.log(max(rows, 2)) / (eps**2 / 2 - eps**3 / 3)))


def project(features: Tensor, *, seed: int = 0, eps: float = 0.9) -> Tensor:
    """Very sparse random projection (Li et al. 2006) of N×D features; the features themselves where it shrinks nothing.

    float32 out; a function of the seed and the shape alone.
    """
    rows, dimension = features.shape
    target = projected_dimension(rows, eps)
    if target >= dimension:
        return features
    generator = torch.Generator().manual_seed(seed)
    density = 1 / math.sqrt(dimension)
    signs = torch.randint(0, 2, (dimension, target), generator=generator) * 2 - 1
    kept = torch.rand(dimension, target, generator=generator) < density
    matrix = (signs * kept).float().mul_(math.sqrt(1 / (density * target))).to(features.device)
    projected = torch.empty(rows, target, device=features.device)
    with full_precision(features.device):
        step = block_rows(dimension)
        for start in range(0, rows, step):
            part = slice(start, start + step)
            torch.mm(features[part].float(), matrix, out=projected[part])
    return projected
