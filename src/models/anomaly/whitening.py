"""Directions of vectors after whitening by the normal ones' covariance, shrunk so that few images suffice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import ProjectError
from src.models.anomaly.maps import SizedByCheckpoint
from src.models.anomaly.neighbors import full_precision


class Whitening(SizedByCheckpoint):
    """Vectors → unit vectors, whose products are cosines; `fit` on normal vectors first, where it changes anything.

    whiten: divide by the square root of the covariance within the normal classes, so that a direction counts by how
    little normal images vary along it. center: subtract the normal vectors' mean before. Not centred, the normal
    vectors lie around one direction, and the angle to it grows with the distance that Mahalanobis measures; centred,
    they lie all around the origin, and only neighbours tell.
    """

    fitted = ("mean", "root")

    def __init__(self, *, whiten: bool, center: bool) -> None:
        super().__init__()
        self.whiten, self.center = whiten, center
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("root", torch.empty(0, 0))  # inverse square root of the covariance

    @torch.no_grad()
    def fit(self, points: Tensor, groups: Tensor | None = None) -> None:
        """Take mean and covariance from normal points N×D; `groups` (N int) are their classes, each with its own mean.

        Raises ProjectError where whitening is asked for and the points do not vary.
        """
        values = points.double()
        if self.center:
            self.mean = values.mean(0).float()
        if not self.whiten:
            return
        if groups is None:
            groups = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        _, group, counts = groups.unique(return_inverse=True, return_counts=True)
        sums = torch.zeros(len(counts), values.shape[1], dtype=torch.float64, device=values.device)
        means = sums.index_add_(0, group, values) / counts.unsqueeze(1)
        covariance, _ = ledoit_wolf(values - means[group])
        variances, directions = torch.linalg.eigh(covariance)
        if not float(variances[-1]) > 0:
            raise ProjectError(
                f"whitening needs normal training images that differ, but got {len(points)} "
                f"with one embedding a class: add images, or set model.whiten=false."
            )
        scale = variances.clamp(min=1e-10 * float(variances[-1])).rsqrt()
        root = (directions * scale) @ directions.T
        self.root = (root * variances.mean().sqrt()).float()  # of order 1; directions do not see the factor

    def forward(self, points: Tensor) -> Tensor:
        """Points N×D → unit vectors N×D, float32."""
        points = points.float()
        if self.center:
            points = points - self.mean
        if self.whiten:
            with full_precision(points.device):  # the whitened vectors lie around one direction: half would merge them
                points = points @ self.root
        return F.normalize(points, dim=1)


def ledoit_wolf(centred: Tensor) -> tuple[Tensor, float]:
    """Covariance (D×D) of centred points N×D, shrunk towards a multiple of the identity, and by what share.

    The share that minimises the expected squared error (Ledoit and Wolf 2004, "A well-conditioned estimator for
    large-dimensional covariance matrices", lemma 3.1 to 3.3); the covariance's divisor is N.
    """
    count, width = centred.shape
    covariance = centred.T @ centred / count
    target = covariance.trace() / width
    scatter = covariance.square().sum()  # |S|²
    spread = scatter - width * target.square()  # |S - target·I|²: δ²
    squares = centred.square()
    noise = ((squares.T @ squares).sum() / count - scatter) / count  # β²
    share = float((noise.clamp(min=0).minimum(spread) / spread).clamp(0, 1)) if float(spread) > 0 else 0.0
    shrunk = (1 - share) * covariance
    shrunk.diagonal().add_(share * target)
    return shrunk, share
