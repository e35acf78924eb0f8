"""One network a category behind one face: each image is fitted and judged by its own category's network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.anomaly.output import AnomalyOutput

Batches = Iterable[tuple[Tensor, Sequence[str | None]]]  # normalised images B×3×H×W and their categories


class PerCategory(nn.Module):
    """Networks of one kind, one for each of `categories`; frozen features that they have in common are kept once.

    An image whose category is not known goes to the category whose training images' mean features (each channel over
    its deviation) are nearest to its own; `learn_categories` keeps these. Scores of different categories are on scales
    of their own: `src.calibration.scales` puts them on one.
    """

    routed = True
    supervised = False

    def __init__(self, networks: Sequence[nn.Module], categories: Sequence[str]) -> None:
        super().__init__()
        if any(getattr(network, "supervised", False) for network in networks):
            raise ProjectError(
                "per_category=true is for models of normal images. A supervised one tells categories by itself: "
                "leave it out (model.classes=targets learns every target)."
            )
        self.categories = list(categories)
        self.networks = nn.ModuleList(networks)
        self.kind: str = networks[0].kind
        self.memorizes: bool = getattr(networks[0], "memorizes", False)
        self.any_size: bool = getattr(networks[0], "any_size", False)
        shared = getattr(networks[0], "features", None)
        if shared is not None and not any(parameter.requires_grad for parameter in shared.parameters()):
            for network in networks[1:]:
                network.features = shared
        self.stride = 32 if shared is None else math.lcm(*shared.strides)
        width = 0 if shared is None else sum(shared.channels)
        self.register_buffer("centers", torch.zeros(len(categories), width))
        self.register_buffer("spread", torch.ones(width))

    @property
    def report(self) -> Any:
        """What the backbone's weights file gave; None without one."""
        first = self.networks[0]
        return first.report if hasattr(first, "report") else first.features.report

    # -- fitting ----------------------------------------------------------------------------------------------------
    def collect(self, images: Tensor, categories: Sequence[str | None]) -> None:
        """Each network collects the images of its category."""
        for index, rows in self._parts(images, categories):
            self.networks[index].collect(images[rows])

    def finish(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Finish every network; each counts from its own beginning."""
        for name, network in zip(self.categories, self.networks, strict=True):
            try:
                network.finish(progress=progress)
            except ProjectError as error:
                raise ProjectError(f"category '{name}': {error}") from error

    def loss(self, images: Tensor, categories: Sequence[str | None]) -> dict[str, Tensor]:
        """The networks' losses, each by its share of the batch."""
        total: dict[str, Tensor] = {}
        for index, rows in self._parts(images, categories):
            found = self.networks[index].loss(images[rows])
            for name, value in (found if isinstance(found, dict) else {"loss": found}).items():
                total[name] = total.get(name, 0) + value * (len(rows) / len(images))
        return total

    def initialise(self, batches: Callable[[], Batches]) -> None:
        """Networks that look at their images before the first step see those of their category."""
        for name, network in zip(self.categories, self.networks, strict=True):
            if hasattr(network, "initialise"):
                network.initialise(
                    images[[category == name for category in categories]]
                    for images, categories in batches()
                    if name in categories
                )

    @torch.no_grad()
    def learn_categories(self, batches: Batches) -> None:
        """Keep the mean features of each category; nothing for networks without a backbone."""
        if not self.centers.shape[1]:
            return
        found = [[] for _ in self.categories]
        for images, categories in batches:
            for vector, category in zip(self._pooled(images), categories, strict=True):
                found[self.categories.index(category)].append(vector)
        bare = [name for name, vectors in zip(self.categories, found, strict=True) if not vectors]
        if bare:
            raise ProjectError(
                f"{len(bare)} of {len(found)} categories have no image to learn from in this fold: "
                f"{', '.join(bare[:5])}. Lower data.holdout, or train one model for all (per_category=false)."
            )
        self.centers.copy_(torch.stack([torch.stack(vectors).mean(0) for vectors in found]))
        self.spread.copy_(torch.stack([vector for vectors in found for vector in vectors]).std(0).clamp_min(1e-8))

    # -- answering --------------------------------------------------------------------------------------------------
    def forward(self, images: Tensor, categories: Sequence[str | None] | None = None) -> AnomalyOutput:
        """Scores and maps in the order of the images."""
        scores: Tensor | None = None
        maps: Tensor | None = None
        for index, rows in self._parts(images, categories or [None] * len(images)):
            output = self.networks[index](images[rows])
            if scores is None:
                scores = output.score.new_empty(len(images))
                maps = None if output.anomaly_map is None else output.anomaly_map.new_empty(
                    len(images), *output.anomaly_map.shape[1:]
                )  # fmt: skip
            scores[rows] = output.score
            if maps is not None:
                maps[rows] = output.anomaly_map
        return AnomalyOutput(scores, maps)

    def told(self, images: Tensor, categories: Sequence[str | None] | None) -> _Told:
        """A network of images alone, for views of these images: unknown categories are guessed here, once."""
        return _Told(self, self._named(images, categories or [None] * len(images)))

    def guess(self, images: Tensor) -> list[str]:
        """The nearest category of each image."""
        if not self.centers.shape[1] or not self.centers.any():
            raise ProjectError(
                "one model a category needs the category of each image, and this one has no features to guess it by. "
                "Give a column `category` (competition.data.category), or train with per_category=false."
            )
        gaps = (self._pooled(images)[:, None] - self.centers) / self.spread
        return [self.categories[index] for index in gaps.square().mean(2).argmin(1).tolist()]

    def _pooled(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.networks[0].features(images)
        return torch.cat([feature.float().mean((2, 3)) for feature in features], dim=1)

    def _named(self, images: Tensor, categories: Sequence[str | None]) -> list[str]:
        """The categories, those that are not known guessed."""
        names = list(categories)
        unknown = [row for row, name in enumerate(names) if name is None]
        if unknown:
            for row, name in zip(unknown, self.guess(images[unknown]), strict=True):
                names[row] = name
        return names

    def _parts(self, images: Tensor, categories: Sequence[str | None]) -> list[tuple[int, list[int]]]:
        """(network, rows) of the categories that a batch has."""
        names = self._named(images, categories)
        parts: dict[int, list[int]] = {}
        for row, name in enumerate(names):
            if name not in self.categories:
                raise ProjectError(
                    f"category '{name}' was not trained; this model knows {', '.join(self.categories[:10])}. "
                    "Leave the category empty to have the nearest one chosen."
                )
            parts.setdefault(self.categories.index(name), []).append(row)
        return sorted(parts.items())


class _Told(nn.Module):
    """The networks, told which categories the images of a batch are of."""

    def __init__(self, whole: PerCategory, categories: Sequence[str]) -> None:
        super().__init__()
        self.categories, self.any_size, self.stride = categories, whole.any_size, whole.stride
        self.whole = [whole]  # in a list: nothing is registered anew

    def forward(self, images: Tensor) -> AnomalyOutput:
        return self.whole[0](images, self.categories)
