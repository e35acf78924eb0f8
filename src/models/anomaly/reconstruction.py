"""How a picture differs from its reconstruction, in pixels and in features: what the three such networks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.anomaly.maps import GaussianBlur, join_layers
from src.models.anomaly.neighbors import full_precision
from src.models.anomaly.output import AnomalyOutput
from src.models.anomaly.ssim import SSIM
from src.models.features import FeatureExtractor, LoadReport, default_normalization

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # pictures are from -1 to 1
_PROBES = 64  # pictures whose differences are kept until the maps' own statistics are known
_SHRINKAGE = 1e-3  # share of each variance that is added to it, so that the covariance can be inverted


class Comparison(nn.Module):
    """Map and score of pictures in [-1, 1] against their reconstructions, in units of what normal pictures show.

    Pixels: |x - y| + (1 - SSIM), averaged over colours. Features: how unlikely a fixed extractor's features f(x) are
    given f(y) of the reconstruction at the same place, under the Gaussian of the pair over all places of normal
    training pictures: the Mahalanobis distance of f(x) from its linear regression on f(y). A network that never
    rebuilds the grain of a texture changes f in the same way everywhere, which the regression learns; where
    reconstructions tell nothing, it falls back to the distance of f(x) from its mean. Either map is smoothed, then
    standardised by its mean and deviation over normal training pictures; they are averaged by weight. `collect` and
    `finish` learn these statistics. A network may add a third map, `own`.

    Args:
        pixel_weight, feature_weight, own_weight: not negative, not all 0; a map of weight 0 is not computed.
        backbone, layers, backbone_args, weights: the extractor, as FeatureExtractor takes them (fed as it expects).
        blur_sigma: of the maps, in pixels.
        top_share: the score is the mean of this share of a map's highest pixels; 0: its maximum.
        relative: a map's own median is subtracted: defects are local, some pictures are harder to rebuild than others.
    """

    def __init__(
        self,
        *,
        pixel_weight: float,
        feature_weight: float,
        own_weight: float = 0.0,
        backbone: str,
        layers: Sequence[str | int],
        backbone_args: Mapping[str, Any] | None = None,
        weights: str | None = None,
        blur_sigma: float,
        top_share: float,
        relative: bool,
    ) -> None:
        super().__init__()
        self.map_weights = {"pixels": pixel_weight, "features": feature_weight, "own": own_weight}
        if min(self.map_weights.values()) < 0 or sum(self.map_weights.values()) == 0:
            raise ProjectError(
                f"the weights of the maps {self.map_weights} must not be negative, and one of them must be above 0."
            )
        if not 0 <= top_share <= 1:
            raise ProjectError(f"top_share={top_share} must be a share from 0 (the map's maximum) to 1 (its mean).")
        self.top_share, self.relative = top_share, relative
        self.ssim, self.blur = SSIM(), GaussianBlur(blur_sigma)
        self.features: FeatureExtractor | None = None
        if feature_weight:
            self.features = FeatureExtractor(
                backbone=backbone, layers=layers, backbone_args=backbone_args, weights=weights
            )
            mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in default_normalization(backbone))
            self.register_buffer("feature_mean", mean, persistent=False)
            self.register_buffer("feature_std", std, persistent=False)
        width = sum(self.features.channels) if self.features is not None else 0
        self.register_buffer("regression", torch.zeros(width, width))  # of f(x) on f(y)
        self.register_buffer("intercept", torch.zeros(width))
        self.register_buffer("whitening", torch.zeros(width, width))  # inverse Cholesky factor of what is left
        self.register_buffer("map_mean", torch.zeros(len(self.map_weights)))
        self.register_buffer("map_std", torch.zeros(len(self.map_weights)))  # zero: not fitted yet
        self._restart()

    @property
    def report(self) -> LoadReport | None:
        return None if self.features is None else self.features.report

    # -- the two differences ------------------------------------------------------------------------------------------
    def pixel_map(self, images: Tensor, reconstructed: Tensor) -> Tensor:
        """|x - y| + 1 - SSIM of pictures B×3×H×W, averaged over colours: B×1×H×W, from 0."""
        difference = (images - reconstructed).abs() + 1 - self.ssim(images, reconstructed)
        return difference.mean(dim=1, keepdim=True)

    def feature_pair(self, images: Tensor, reconstructed: Tensor) -> Tensor:
        """f(x) and f(y) on the first layer's grid, side by side: B×2C×h×w."""
        both = torch.cat([images, reconstructed]) * STD[0] + MEAN[0]
        joined = join_layers(self.features((both - self.feature_mean) / self.feature_std), mode="bilinear", pool=False)
        return torch.cat(joined.chunk(2), dim=1)

    def feature_map(self, pair: Tensor, size: Sequence[int]) -> Tensor:
        """Distance of f(x) from what f(y) tells, by channel (its root mean square is 1 on training pictures)."""
        of_images, of_reconstructed = pair.chunk(2, dim=1)
        with full_precision(pair.device):
            expected = torch.einsum("dc,bchw->bdhw", self.regression, of_reconstructed)
            deviation = of_images - expected - self.intercept.view(1, -1, 1, 1)
            white = torch.einsum("dc,bchw->bdhw", self.whitening, deviation)
        distance = white.square().mean(dim=1, keepdim=True).sqrt()
        return F.interpolate(distance, size=tuple(size), mode="bilinear", align_corners=False)

    # -- statistics of normal pictures --------------------------------------------------------------------------------
    def _restart(self) -> None:
        self._seen, self._stride = 0, 1
        self._probes: list[dict[str, Tensor]] = []
        self._count, self._scatter, self._sum = 0, None, None

    def _differences(self, images: Tensor, reconstructed: Tensor, own: Tensor | None) -> dict[str, Tensor]:
        """What each map is made from, as far as it does not need statistics."""
        found = {}
        if self.map_weights["pixels"]:
            found["pixels"] = self.blur(self.pixel_map(images, reconstructed))
        if self.map_weights["features"]:
            found["features"] = self.feature_pair(images, reconstructed)
        if self.map_weights["own"]:
            found["own"] = self.blur(own.float())
        return found

    def _plane(self, name: str, difference: Tensor, size: Sequence[int]) -> Tensor:
        return self.blur(self.feature_map(difference, size)) if name == "features" else difference

    @torch.no_grad()
    def collect(self, images: Tensor, reconstructed: Tensor, own: Tensor | None = None) -> None:
        """Add normal training pictures B×3×H×W, their reconstructions and the network's own maps B×1×H×W."""
        images, reconstructed = images.float(), reconstructed.float().clamp(-1, 1)
        differences = self._differences(images, reconstructed, own)
        if "features" in differences:
            rows = differences["features"].permute(0, 2, 3, 1).flatten(0, 2).double()
            if self._scatter is None:
                self._origin = rows.mean(0)  # sums about it keep their digits
                self._scatter = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
                self._sum = torch.zeros_like(self._origin)
            rows -= self._origin
            self._scatter += rows.T @ rows
            self._sum += rows.sum(0)
            self._count += len(rows)
        for index in range(len(images)):
            if self._seen % self._stride == 0:
                self._probes.append({name: value[index : index + 1].clone() for name, value in differences.items()})
                if len(self._probes) > _PROBES:  # an even choice of pictures, however many there are
                    self._probes, self._stride = self._probes[::2], self._stride * 2
            self._seen += 1
        self._size = tuple(images.shape[-2:])

    @torch.no_grad()
    def finish(self) -> None:
        """Set the statistics from what was collected; the next `collect` begins anew.

        Raises:
            ProjectError: nothing was collected, or features are not finite.
        """
        if not self._probes:
            raise ProjectError("the comparison got no normal training picture: the training set is empty.")
        if self._scatter is not None:
            self._fit_features()
        for slot, (name, weight) in enumerate(self.map_weights.items()):
            if weight == 0:
                continue
            maps = [self._plane(name, probe[name], self._size) for probe in self._probes]
            values = torch.stack([torch.stack([m.double().mean(), m.double().square().mean()]) for m in maps]).mean(0)
            self.map_mean[slot] = values[0]
            self.map_std[slot] = (values[1] - values[0] ** 2).clamp_min(1e-12).sqrt()
        self._restart()

    def _fit_features(self) -> None:
        """Least squares of f(x) on f(y), and the covariance that it leaves."""
        mean = self._sum / self._count
        covariance = self._scatter / self._count - torch.outer(mean, mean)
        covariance.diagonal().add_(covariance.diagonal() * _SHRINKAGE + 1e-8)
        half = len(mean) // 2
        (xx, xy), (_, yy) = (rows.split(half, dim=1) for rows in covariance.split(half))
        regression = torch.linalg.lstsq(yy, xy.T).solution.T if bool(torch.isfinite(yy).all()) else yy
        left = xx - regression @ xy.T
        factor, failed = torch.linalg.cholesky_ex(0.5 * (left + left.T))
        if bool(failed) or not bool(torch.isfinite(factor).all()):
            raise ProjectError("features of reconstructions are not finite: lower model.lr and train again.")
        identity = torch.eye(half, dtype=torch.float64, device=mean.device)
        self.whitening.copy_(torch.linalg.solve_triangular(factor, identity, upper=False))
        self.regression.copy_(regression)
        mean = mean + self._origin
        self.intercept.copy_(mean[:half] - regression @ mean[half:])

    # -- answers ------------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def forward(self, images: Tensor, reconstructed: Tensor, own: Tensor | None = None) -> AnomalyOutput:
        """Scores and maps of pictures B×3×H×W; about 0 on normal ones, in deviations of normal pictures' maps."""
        if not bool(self.map_std.any()):
            raise ProjectError("the comparison has no statistics of normal pictures yet. Train, or load a checkpoint.")
        images, reconstructed = images.float(), reconstructed.float().clamp(-1, 1)
        differences = self._differences(images, reconstructed, own)
        total = torch.zeros_like(images[:, :1])
        for slot, (name, weight) in enumerate(self.map_weights.items()):
            if weight:
                plane = self._plane(name, differences[name], images.shape[-2:])
                total += weight * (plane - self.map_mean[slot]) / self.map_std[slot]
        total /= sum(self.map_weights.values())
        if self.relative:
            total -= total.flatten(1).median(dim=1).values.view(-1, 1, 1, 1)
        return AnomalyOutput(top_mean(total, self.top_share), total)


class Reconstructor(nn.Module):
    """What the networks that rebuild pictures have in common beside their `comparison`, which each constructs."""

    kind: ClassVar[str] = "gradient"
    memorizes: ClassVar[bool] = True
    takes_builtin: ClassVar[bool] = True
    comparison: Comparison

    @classmethod
    def normalization(cls, options: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
        """Mean and deviation that the pictures are normalised by, whatever the options."""
        return {"mean": MEAN, "std": STD}

    @property
    def report(self) -> LoadReport | None:
        """What the weights file gave to the extractor of compared features; None without one."""
        return self.comparison.report

    def finish(self, progress: Any = None) -> None:
        """Set the comparison's statistics."""
        self.comparison.finish()


def top_mean(maps: Tensor, share: float) -> Tensor:
    """Mean of the share of highest pixels of each map B×1×H×W, at least one pixel: B."""
    flat = maps.flatten(1)
    return flat.topk(max(1, round(share * flat.shape[1])), dim=1).values.mean(dim=1)
