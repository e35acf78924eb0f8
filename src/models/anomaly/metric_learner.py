"""Metric learning by gradients: an embedding trained by ArcFace or by supervised contrast, then compared by cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.anomaly.coreset import Progress
from src.models.anomaly.embedding import Embedding
from src.models.anomaly.metric import COMPARISONS, MetricDetector, one_of
from src.models.features import FeatureExtractor
from src.models.parameter_groups import grouped

METHODS = ("arcface", "supcon")


class MetricLearner(MetricDetector):
    """A projected embedding in which the images of a class lie together, trained on labelled classes.

    method: "arcface" (Deng et al. 2019, arXiv:1801.07698, equation 3): softmax of `scale` · cosine to a direction of
    each class, the angle to the own class widened by `margin` degrees. "supcon" (Khosla et al. 2020, arXiv:2004.11362,
    equation 2, over one view an image): the others of an image's class against all others of the batch, cosines
    divided by `loss_temperature`; a batch of one class teaches nothing. Both are pytorch_metric_learning's.

    After training it is shown every training image (`collect`, `finish`) and answers as a `MetricDetector` of method
    `compare` does. train_backbone: whether the backbone learns too, at backbone_lr times the learning rate; its batch
    norms keep their statistics. projection and embedding_size: see `Embedding`.
    """

    kind: ClassVar[str] = "gradient"
    memorizes: ClassVar[bool] = True
    supervised: bool = True
    fitted: ClassVar[tuple[str, ...]] = ("memory", "locations", "whitening")  # of any size

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        layers: Sequence[str | int] = ("layer3", "layer4"),
        backbone_args: Mapping[str, Any] | None = None,
        weights: str | None = None,
        class_names: Sequence[str] = (),
        normal_classes: Sequence[str] = (),
        method: str = "arcface",
        margin: float = 28.6,
        scale: float = 30.0,
        loss_temperature: float = 0.1,
        train_backbone: bool = True,
        backbone_lr: float = 0.1,
        pooling: str | Sequence[str] = ("average", "deviation", "top"),
        gem_power: float = 3.0,
        top_share: float = 0.005,
        projection: str = "linear",
        embedding_size: int = 128,
        compare: str = "prototype",
        neighbors: int = 1,
        prototypes: int = 1,
        whiten: bool = True,
        center: bool = False,
        contrast: bool = False,
        temperature: float = 1.0,
        map: bool = True,
        map_locations: int = 2000,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        nn.Module.__init__(self)
        one_of("method", method, METHODS)
        one_of("compare", compare, COMPARISONS)
        if len(class_names) < 2:
            raise ProjectError(
                f"model.method={method} learns to tell classes apart, but {list(class_names)} is no more than one. "
                "Label some defects (or normal images of several kinds), or choose model=metric model.method=knn, "
                "which learns from normal images alone."
            )
        if not 0 <= margin < 90 or not scale > 0 or not backbone_lr > 0 or not loss_temperature > 0:
            raise ProjectError(
                f"model.margin={margin} must be degrees from 0 to below 90; model.scale={scale}, "
                f"model.loss_temperature={loss_temperature} and model.backbone_lr={backbone_lr} above 0."
            )
        self._set_classes(class_names, normal_classes, contrast=contrast)
        self.method, self.backbone_lr = method, backbone_lr
        self.features = FeatureExtractor(
            backbone=backbone, layers=layers, backbone_args=backbone_args, weights=weights, trainable=train_backbone
        )
        self.embedding = Embedding(
            channels=self.features.channels,
            pooling=pooling,
            gem_power=gem_power,
            top_share=top_share,
            projection=projection,
            embedding_size=embedding_size,
        )
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise ProjectError(
                "nothing would learn: model.train_backbone=false (or a backbone of fixed filters) and "
                "model.projection=none. Set model.projection=linear."
            )
        self._set_memory(
            compare, neighbors=neighbors, prototypes=prototypes, whiten=whiten, center=center, temperature=temperature
        )
        self._set_map(map, locations=map_locations, blur_sigma=blur_sigma, seed=seed)
        self.criterion = self._criterion(margin=margin, scale=scale, temperature=loss_temperature)

    def _criterion(self, *, margin: float, scale: float, temperature: float) -> nn.Module:
        from pytorch_metric_learning.losses import ArcFaceLoss, SupConLoss
        from pytorch_metric_learning.reducers import DoNothingReducer

        if self.method == "supcon":
            return SupConLoss(temperature=temperature)
        return ArcFaceLoss(
            num_classes=len(self.class_names),
            embedding_size=self.embedding.size,
            margin=margin,
            scale=scale,
            reducer=DoNothingReducer(),  # soft targets weigh the losses one by one
        )

    def train(self, mode: bool = True) -> MetricLearner:
        """The backbone stays in eval mode, learning or not: its batch norms must not follow small, balanced batches."""
        super().train(mode)
        self.features.eval()
        return self

    def loss(self, images: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """The method's loss of images B×3×H×W; classes are int64 (B), or float (B, C) soft targets.

        ArcFace takes soft targets as the mean of its losses for each class, weighted by them; for contrast an image
        is of one class, so mixed ones are refused.
        """
        vectors = self.embedding(self.features(images))
        with torch.autocast(vectors.device.type, enabled=False):  # the library would turn its weights to half
            if self.method == "arcface":
                return {"arcface": self._arcface(vectors.float(), classes)}
            if classes.is_floating_point():
                if bool((classes.amax(1) < 1).any()):
                    raise ProjectError(
                        "model.method=supcon compares images of one class each, but model.mixing mixes classes: set "
                        "its mixup, cutmix and label_smoothing to 0, or choose model=arcface."
                    )
                classes = classes.argmax(1)
            return {"supcon": self.criterion(vectors.float(), classes)}

    def _arcface(self, vectors: Tensor, classes: Tensor) -> Tensor:
        if not classes.is_floating_point():
            classes = F.one_hot(classes, len(self.class_names)).float()
        rows, codes = classes.nonzero(as_tuple=True)
        each = self.criterion(vectors[rows], codes)["loss"]["losses"]
        return (classes[rows, codes] * each).sum() / len(vectors)

    def finish(self, progress: Progress | None = None) -> None:
        """As `MetricDetector.finish`; images of one class alone are refused: nothing was learned from them."""
        present = {int(code) for _, codes in self._collected for code in codes.unique()}
        if len(present) == 1:
            raise ProjectError(
                f"every training image is '{self.class_names[present.pop()]}', so model.method={self.method} has "
                "learned nothing. Label some of another class, or choose model=metric model.method=knn, which learns "
                "from normal images alone."
            )
        super().finish(progress)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups: the backbone at backbone_lr · lr; biases and scales of norms without decay."""
        return grouped(
            self,
            lr=lr,
            weight_decay=weight_decay,
            factor=self.backbone_lr,
            pretrained=lambda name, _: name.startswith("features."),
        )
