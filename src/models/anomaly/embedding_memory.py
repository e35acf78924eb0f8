"""A memory of unit vectors with class codes: cosine distance to the nearest of each class, and prototypes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.anomaly.maps import SizedByCheckpoint
from src.models.anomaly.neighbors import NeighborIndex

_RESTARTS = 8  # of k-means; the memory holds one vector an image, so that they cost little
_ITERATIONS = 100


class EmbeddingMemory(SizedByCheckpoint):
    """Unit vectors and the class of each; `neighbors` of a class are averaged (all of them where it has fewer).

    Buffers, of any size in a checkpoint: bank (M×D float32) and codes (M int64, from 0 to classes - 1).
    """

    fitted = ("bank", "codes")

    def __init__(self, *, classes: int, neighbors: int, width: int) -> None:
        super().__init__()
        self.classes, self.neighbors = classes, neighbors
        self.register_buffer("bank", torch.empty(0, width))
        self.register_buffer("codes", torch.empty(0, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.bank)

    def fill(self, points: Tensor, codes: Tensor, *, prototypes: int | None = None, seed: int = 0) -> None:
        """Keep unit vectors N×D of classes N; or, of each class, `prototypes` of them (see `spherical_means`)."""
        order = codes.argsort(stable=True)
        points, codes = points[order].float(), codes[order]
        if prototypes is not None:
            present = codes.unique().tolist()
            means = [spherical_means(points[codes == code], prototypes, seed=seed) for code in present]
            sizes = torch.tensor([len(mean) for mean in means], device=codes.device)
            points = torch.cat(means)
            codes = torch.tensor(present, device=codes.device).repeat_interleave(sizes)
        self.bank, self.codes = points.contiguous().clone(), codes.clone()

    def distances(self, queries: Tensor) -> Tensor:
        """Unit vectors B×D → B×classes: mean cosine distance to the nearest of each class, 0 to 2 (also: none of it).

        Half the squared Euclidean distance, from the coordinates: 1 - cosine would lose the digits of small ones.
        """
        found = queries.new_full((len(queries), self.classes), 2.0)
        for code in self.codes.unique().tolist():
            distance, _ = NeighborIndex(self.bank[self.codes == code]).search(queries, self.neighbors)
            found[:, code] = (distance.square() / 2).mean(1)
        return found


def spherical_means(points: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """At most `count` unit prototypes of unit vectors N×D: spherical k-means (Dhillon and Modha 2001).

    Each point belongs to the prototype of the largest cosine, each prototype is the direction of its points' sum; one
    prototype is the normalised mean. Started by k-means++ (Arthur and Vassilvitskii 2007) from seeded draws; of
    several starts, the one of the largest sum of cosines. The same points, order and seed give the same prototypes.
    """
    if count >= len(points):
        return points.clone()
    if count == 1:
        return F.normalize(points.double().sum(0, keepdim=True), dim=1).float()
    generator = torch.Generator().manual_seed(seed)
    best, best_total = points[:count], -float("inf")
    for _ in range(_RESTARTS):
        centers = _spread_start(points.double(), count, generator)
        previous = None
        for _ in range(_ITERATIONS):
            closeness, assigned = (points.double() @ centers.T).max(1)
            if previous is not None and torch.equal(assigned, previous):
                break
            previous = assigned
            sums = torch.zeros_like(centers).index_add_(0, assigned, points.double())
            empty = torch.bincount(assigned, minlength=count).unsqueeze(1) == 0  # such a prototype stays where it was
            centers = torch.where(empty, centers, F.normalize(sums, dim=1))
        total = float(closeness.sum())
        if total > best_total:
            best, best_total = centers.float(), total
    return best


def _spread_start(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the points, each drawn in proportion to its cosine distance to those before it."""
    chosen = [int(torch.randint(len(points), (1,), generator=generator))]
    for _ in range(count - 1):
        distance = (1 - points @ points[chosen].T).amin(1).clamp(min=0).cpu()
        draw = torch.rand(1, generator=generator, dtype=torch.float64) * distance.sum()
        chosen.append(min(int(torch.searchsorted(distance.cumsum(0), draw, right=True)), len(points) - 1))
    return points[chosen]
