"""Torchvision's Faster R-CNN, FCOS and RetinaNet on timm's or torchvision's backbones, on the project's own canvas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from src.errors import ProjectError
from src.models.detection.torchvision_parts import (
    BareCanvas,
    PyramidBackbone,
    StridedAnchors,
    backbone_normalization,
)
from src.models.features import LoadReport
from src.models.parameter_groups import grouped

_IDLE = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}  # of torchvision's transform, which BareCanvas replaces


class _TorchvisionDetector(nn.Module):
    """What the three have in common: targets and answers in the project's form, learning rates, frozen norms.

    A subclass sets `model` (torchvision's detector), the options below, and calls `_finish`.
    """

    zero_shot = False
    first_label = 0  # the label of the project's class 0 within torchvision's network

    model: nn.Module
    report: LoadReport | None
    freeze_norm: bool
    backbone_lr: float

    def _finish(self, *, num_classes: int, image_size: Sequence[int], freeze_norm: bool, backbone_lr: float) -> None:
        self.num_classes, self.image_size = num_classes, tuple(image_size)
        self.freeze_norm, self.backbone_lr = freeze_norm, backbone_lr
        self.report = self.model.backbone.report
        self.model.transform = BareCanvas(divisor=32)

    @staticmethod
    def normalization(options: Mapping[str, Any]) -> dict[str, Sequence[float]]:
        """`mean` and `std` (RGB, unit range) that the backbone's pretrained weights expect."""
        return backbone_normalization(str(options["backbone"]))

    def train(self, mode: bool = True) -> _TorchvisionDetector:
        """Training mode; with `freeze_norm` the batch norms of a pretrained backbone keep their statistics."""
        super().train(mode)
        if mode and self.freeze_norm:
            self.model.backbone.freeze_norms()
        return self

    def loss(self, images: Tensor, targets: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Torchvision's losses under torchvision's names, scalars to be summed; in training mode only.

        images: normalised B×3×H×W. targets: a dict an image: boxes (N, 4) xyxy canvas pixels, labels (N,), has_boxes.
        Images whose boxes are unknown (`has_boxes` False) are left out; boxes without an area as well.
        """
        known = [index for index, target in enumerate(targets) if target["has_boxes"]]
        if not known:
            return {"loss_none": sum(p.sum() for p in self.parameters() if p.requires_grad) * 0.0}
        given = []
        for index in known:
            boxes = targets[index]["boxes"].float().reshape(-1, 4)
            solid = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            given.append({"boxes": boxes[solid], "labels": targets[index]["labels"][solid] + self.first_label})
        return self.model([images[index] for index in known], given)

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """{"boxes": (M, 4) xyxy canvas pixels, "scores": (M,) in [0, 1], "labels": (M,)} an image, best first; in
        evaluation mode only."""
        results = []
        for found in self.model(list(images)):
            order = found["scores"].float().argsort(descending=True, stable=True)
            results.append(
                {
                    "boxes": found["boxes"].float()[order],
                    "scores": found["scores"].float()[order],
                    "labels": found["labels"][order] - self.first_label,
                }
            )
        return results

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups: a pretrained backbone learns at `lr · backbone_lr`; biases and norms do not decay."""
        return grouped(
            self,
            lr=lr,
            weight_decay=weight_decay,
            factor=self.backbone_lr if self.model.backbone.pretrained > 0.5 else 1.0,
            pretrained=lambda name, _: name.startswith("model.backbone.body."),
        )


class FasterRcnnDetector(_TorchvisionDetector):
    """Faster R-CNN (Ren et al. 2015) with a feature pyramid (Lin et al. 2017): proposals, then classes and boxes.

    Args:
        num_classes: classes C; torchvision's background is added within.
        image_size: (height, width) of the canvas in pixels.
        backbone: a timm model with feature maps, or `torchvision/<classifier>`; backbone_args reach it.
        strides: pixels from cell to cell, a level each, doubling; one coarser level is appended for large objects.
        width, head_width: channels of the pyramid; of the second stage's two hidden layers.
        anchor_scale, aspect_ratios: anchors' sides in strides of their level; their heights over widths.
        freeze_norm: batch norms of a pretrained backbone keep their statistics (usual here: batches are small).
        backbone_lr: factor on the learning rate of a pretrained backbone.
        score_floor, nms_iou, max_detections: what `detect` keeps; loose, as thresholds are tuned later.
        weights: path of the backbone's state dict, or None for random values.

    Attributes: report, the LoadReport of the weights file or None.
    Raises ProjectError for an unknown backbone, strides that it has not, or weights that do not fit.
    """

    first_label = 1

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: Sequence[int],
        backbone: str = "resnet50",
        backbone_args: Mapping[str, Any] | None = None,
        strides: Sequence[int] = (4, 8, 16, 32),
        width: int = 256,
        head_width: int = 1024,
        anchor_scale: float = 8.0,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        freeze_norm: bool = True,
        backbone_lr: float = 1.0,
        score_floor: float = 0.02,
        nms_iou: float = 0.6,
        max_detections: int = 100,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        body = PyramidBackbone(
            backbone=backbone,
            backbone_args=backbone_args,
            strides=strides,
            width=width,
            extra=LastLevelMaxPool(),
            levels=1,
            weights=weights,
        )
        names = [str(index) for index in range(len(body.strides) - 1)]
        sizes = [[stride * anchor_scale] for stride in body.strides]
        self.model = FasterRCNN(
            body,
            rpn_anchor_generator=StridedAnchors(strides=body.strides, sizes=sizes, ratios=aspect_ratios),
            box_roi_pool=MultiScaleRoIAlign(names, output_size=7, sampling_ratio=2),
            box_head=TwoMLPHead(width * 7 * 7, head_width),
            box_predictor=FastRCNNPredictor(head_width, num_classes + 1),
            box_score_thresh=score_floor,
            box_nms_thresh=nms_iou,
            box_detections_per_img=max_detections,
            **_IDLE,
        )
        self._finish(num_classes=num_classes, image_size=image_size, freeze_norm=freeze_norm, backbone_lr=backbone_lr)


class FcosDetector(_TorchvisionDetector):
    """FCOS (Tian et al. 2019): every cell of the pyramid predicts classes, distances to a box's sides, centredness.

    Args:
        num_classes, image_size: classes, and (height, width) of the canvas in pixels.
        backbone: a timm model with feature maps, or `torchvision/<classifier>`; backbone_args reach it.
        strides: pixels from cell to cell, a level each, doubling; two coarser levels are appended for large objects.
        width: channels of pyramid and head, a multiple of 32 (the head's group norm).
        depth: convolutions in each tower of the head.
        freeze_norm: batch norms of a pretrained backbone keep their statistics (usual here: batches are small).
        backbone_lr: factor on the learning rate of a pretrained backbone.
        score_floor, nms_iou, max_detections: what `detect` keeps; loose, as thresholds are tuned later.
        weights: path of the backbone's state dict, or None for random values.

    Attributes: report, the LoadReport of the weights file or None.
    Raises ProjectError for an unknown backbone, strides that it has not, or weights that do not fit.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: Sequence[int],
        backbone: str = "resnet50",
        backbone_args: Mapping[str, Any] | None = None,
        strides: Sequence[int] = (8, 16, 32),
        width: int = 256,
        depth: int = 4,
        freeze_norm: bool = True,
        backbone_lr: float = 1.0,
        score_floor: float = 0.02,
        nms_iou: float = 0.6,
        max_detections: int = 100,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        _check_width(width)
        body = PyramidBackbone(
            backbone=backbone,
            backbone_args=backbone_args,
            strides=strides,
            width=width,
            extra=LastLevelP6P7(width, width),
            levels=2,
            weights=weights,
        )
        self.model = FCOS(
            body,
            num_classes=num_classes,
            # A cell's anchor is its stride wide: distances are measured in it, and each level takes its share of sizes.
            anchor_generator=StridedAnchors(strides=body.strides, sizes=[[s] for s in body.strides], ratios=[1.0]),
            head=FCOSHead(width, 1, num_classes, depth),
            score_thresh=score_floor,
            nms_thresh=nms_iou,
            detections_per_img=max_detections,
            **_IDLE,
        )
        self._finish(num_classes=num_classes, image_size=image_size, freeze_norm=freeze_norm, backbone_lr=backbone_lr)


class RetinaNetDetector(_TorchvisionDetector):
    """RetinaNet (Lin et al. 2017, focal loss): nine anchors a cell of the pyramid, classified and refined in one stage.

    The head has group norm, as that of torchvision's second version: it learns from scratch.

    Args:
        num_classes, image_size: classes, and (height, width) of the canvas in pixels.
        backbone: a timm model with feature maps, or `torchvision/<classifier>`; backbone_args reach it.
        strides: pixels from cell to cell, a level each, doubling; two coarser levels are appended for large objects.
        width: channels of pyramid and head, a multiple of 32 (the head's group norm).
        anchor_scale, aspect_ratios: the smallest of a level's three anchor sides in strides; heights over widths.
        freeze_norm: batch norms of a pretrained backbone keep their statistics (usual here: batches are small).
        backbone_lr: factor on the learning rate of a pretrained backbone.
        score_floor, nms_iou, max_detections: what `detect` keeps; loose, as thresholds are tuned later.
        weights: path of the backbone's state dict, or None for random values.

    Attributes: report, the LoadReport of the weights file or None.
    Raises ProjectError for an unknown backbone, strides that it has not, or weights that do not fit.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: Sequence[int],
        backbone: str = "resnet50",
        backbone_args: Mapping[str, Any] | None = None,
        strides: Sequence[int] = (8, 16, 32),
        width: int = 256,
        anchor_scale: float = 4.0,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        freeze_norm: bool = True,
        backbone_lr: float = 1.0,
        score_floor: float = 0.02,
        nms_iou: float = 0.6,
        max_detections: int = 100,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        _check_width(width)
        body = PyramidBackbone(
            backbone=backbone,
            backbone_args=backbone_args,
            strides=strides,
            width=width,
            extra=LastLevelP6P7(width, width),
            levels=2,
            weights=weights,
        )
        sizes = [[stride * anchor_scale * 2 ** (third / 3) for third in range(3)] for stride in body.strides]
        anchors = StridedAnchors(strides=body.strides, sizes=sizes, ratios=aspect_ratios)
        norm = partial(nn.GroupNorm, 32)
        self.model = RetinaNet(
            body,
            num_classes=num_classes,
            anchor_generator=anchors,
            head=RetinaNetHead(width, anchors.num_anchors_per_location()[0], num_classes, norm_layer=norm),
            score_thresh=score_floor,
            nms_thresh=nms_iou,
            detections_per_img=max_detections,
            **_IDLE,
        )
        self._finish(num_classes=num_classes, image_size=image_size, freeze_norm=freeze_norm, backbone_lr=backbone_lr)


def _check_width(width: int) -> None:
    if width < 32 or width % 32:
        raise ProjectError(f"model.width={width}: the head normalises in 32 groups; take a multiple of 32.")
