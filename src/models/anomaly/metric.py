"""Metric learning without training: the cosine distance of an image's embedding to the normal class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from src.errors import ProjectError, nearest
from src.models.anomaly.coreset import Progress
from src.models.anomaly.embedding import Embedding
from src.models.anomaly.embedding_memory import EmbeddingMemory
from src.models.anomaly.location_memory import LocationMemory
from src.models.anomaly.output import AnomalyOutput
from src.models.anomaly.whitening import Whitening
from src.models.features import FeatureExtractor

COMPARISONS = ("knn", "prototype")


class MetricDetector(nn.Module):
    """Embeddings compared by cosine with those of the training images: `collect` all of them, then `finish`.

    method: what of a class is kept. "knn": every image; the distance of another is the mean of its cosine distances to
    the `neighbors` nearest (Bergman et al. 2020, arXiv:2002.10445, with cosines). "prototype": `prototypes` directions
    (Snell et al. 2017, arXiv:1703.05175, with cosines); the distance is that to the nearest, 1 = the normalised mean.

    Without class_names it knows normal images alone, and its score is the distance to them, from 0 to 2. With
    class_names, of which normal_classes are normal, it collects labelled defects too and answers `probs`: the softmax
    over the classes of -distance / `temperature`, where distances are in units of the normal images' mean distance to
    the direction of their class (whitened, they are far smaller than not). These are distances to the nearest of each
    class, not votes of the nearest of all: where normal images outnumber a defect's by far, votes are theirs. The
    score is then the distance to the nearest normal class; with `contrast`, that minus the distance to the nearest
    defect class, from -2 to 2, which also sees how known defects look. whiten and center: see `Whitening`; of the
    normal classes. pooling, gem_power and top_share: see `Embedding`.

    map: answer maps, too: the cosine distance, from 0 to 2, of each location to the nearest of `map_locations` normal
    ones, smoothed over `blur_sigma` pixels (see `LocationMemory`).
    """

    kind: ClassVar[str] = "memory"
    any_size: ClassVar[bool] = True  # pooled values and locations of any number

    def __init__(
        self,
        *,
        backbone: str = "wide_resnet50_2",
        layers: Sequence[str | int] = ("layer2", "layer3"),
        backbone_args: Mapping[str, Any] | None = None,
        weights: str | None = None,
        class_names: Sequence[str] = (),
        normal_classes: Sequence[str] = (),
        method: str = "knn",
        neighbors: int = 1,
        prototypes: int = 1,
        pooling: str | Sequence[str] = ("average", "deviation", "top"),
        gem_power: float = 3.0,
        top_share: float = 0.005,
        whiten: bool = True,
        center: bool = False,
        contrast: bool = False,
        temperature: float = 1.0,
        map: bool = True,
        map_locations: int = 2000,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if method in ("arcface", "supcon"):
            raise ProjectError(f"model.method={method} trains an embedding: choose model={method}.")
        one_of("method", method, COMPARISONS)
        self._set_classes(class_names, normal_classes, contrast=contrast)
        self.features = FeatureExtractor(backbone=backbone, layers=layers, backbone_args=backbone_args, weights=weights)
        self.embedding = Embedding(
            channels=self.features.channels, pooling=pooling, gem_power=gem_power, top_share=top_share
        )
        self._set_memory(
            method, neighbors=neighbors, prototypes=prototypes, whiten=whiten, center=center, temperature=temperature
        )
        self._set_map(map, locations=map_locations, blur_sigma=blur_sigma, seed=seed)

    # -- construction -----------------------------------------------------------------------------------------------
    def _set_classes(self, names: Sequence[str], normal: Sequence[str], *, contrast: bool) -> None:
        self.supervised = bool(names)
        names, normal = list(names) or ["normal"], list(normal) if names else ["normal"]
        unknown = sorted(set(normal) - set(names))
        if unknown or not normal or len(set(names)) < len(names):
            raise ProjectError(
                f"normal_classes={normal} must be some of class_names={names}, which differ from one another"
                + (f".{nearest(unknown[0], names)}" if unknown else ", and at least one of them.")
            )
        if contrast and len(set(normal)) == len(names):
            raise ProjectError(
                "model.contrast=true compares with known defects, but none is known: set model.classes=binary "
                "(or targets) and label defects, or set model.contrast=false."
            )
        self.class_names, self.contrast = names, contrast
        self.register_buffer("normal", torch.tensor([name in normal for name in names]), persistent=False)

    def _set_memory(
        self, compare: str, *, neighbors: int, prototypes: int, whiten: bool, center: bool, temperature: float
    ) -> None:
        for name, value in (("neighbors", neighbors), ("prototypes", prototypes)):
            if value < 1:
                raise ProjectError(f"model.{name}={value} must be at least 1.")
        if not temperature > 0:
            raise ProjectError(f"model.temperature={temperature} must be above 0.")
        if center and compare == "prototype" and prototypes == 1 and int(self.normal.sum()) == 1:
            raise ProjectError(
                "model.center=true puts the mean of the normal images at the origin, where their one prototype has no "
                "direction: set model.center=false, more model.prototypes, or compare with neighbours (knn)."
            )
        self.temperature = temperature
        self.prototypes = prototypes if compare == "prototype" else None
        self.whitening = Whitening(whiten=whiten, center=center)
        self.memory = EmbeddingMemory(
            classes=len(self.class_names), neighbors=neighbors if compare == "knn" else 1, width=self.embedding.size
        )
        self.register_buffer("spread", torch.ones(()))  # of the normal classes
        self._collected: list[tuple[Tensor, Tensor]] = []

    def _set_map(self, wanted: bool, *, locations: int, blur_sigma: float, seed: int) -> None:
        self.seed = seed
        memory = LocationMemory(channels=self.features.channels, size=locations, blur_sigma=blur_sigma, seed=seed)
        self.locations = memory if wanted else None

    # -- fitting ----------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def collect(self, images: Tensor, classes: Tensor | None = None) -> None:
        """Keep the embeddings of images B×3×H×W (normalised) and their classes (int64 B); those below 0 are left out.

        Without class_names every image counts as normal.
        """
        if classes is None:
            if self.supervised:
                raise ProjectError("this network knows classes: collect(images, classes) needs the images' classes.")
            classes = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        maps = self.features(images)
        known = classes >= 0
        self._collected.append((self.embedding(maps)[known], classes[known]))
        if self.locations is not None:
            normal = known & self.normal[classes.clamp(min=0)]
            self.locations.collect([layer[normal] for layer in maps])

    @torch.no_grad()
    def finish(self, progress: Progress | None = None) -> None:
        """Fill the memory from what was collected since the last `finish`; progress(done, total) counts locations."""
        if not self._collected:
            self._collected = [(torch.empty(0, self.embedding.size), torch.empty(0, dtype=torch.int64))]
        points, codes = (torch.cat(parts) for parts in zip(*self._collected, strict=True))
        self._collected = []
        normal = self.normal.to(codes.device)[codes]
        if not bool(normal.any()):
            raise ProjectError(
                f"{type(self).__name__} has collected no normal image: its score is the distance to them. "
                "Add normal training images."
            )
        self.whitening.fit(points[normal], codes[normal])
        points = self.whitening(points)
        self.memory.fill(points, codes, prototypes=self.prototypes, seed=self.seed)
        self.spread.copy_(_mean_distance(points[normal], codes[normal]).clamp(min=1e-6))
        if self.locations is not None:
            self.locations.finish(progress)

    # -- answers ----------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def forward(self, images: Tensor) -> AnomalyOutput:
        """Normalised images B×3×H×W → scores, maps where `map` is true, probs where classes are known."""
        if not len(self.memory):
            raise ProjectError(
                f"{type(self).__name__} is not fitted: its memory is empty. Train it, or load a checkpoint."
            )
        maps = self.features(images)
        distances = self.memory.distances(self.whitening(self.embedding(maps)))
        score = distances[:, self.normal].amin(1)
        if self.contrast:
            score = score - distances[:, ~self.normal].amin(1)
        probs = (-distances / (self.temperature * self.spread)).softmax(1) if self.supervised else None
        plane = None if self.locations is None else self.locations(maps, images.shape[-2:])
        return AnomalyOutput(score, plane, probs)


def one_of(option: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value of model.<option> that is not known."""
    if value not in known:
        raise ProjectError(f"model.{option}={value!r} is not one of {', '.join(known)}.{nearest(value, known)}")


def _mean_distance(points: Tensor, codes: Tensor) -> Tensor:
    """Mean cosine distance of unit vectors N×D to the direction of their class's mean, () float32."""
    memory = EmbeddingMemory(classes=int(codes.max()) + 1, neighbors=1, width=points.shape[1])
    memory.fill(points, codes, prototypes=1)
    return memory.distances(points).gather(1, codes.unsqueeze(1)).mean()
