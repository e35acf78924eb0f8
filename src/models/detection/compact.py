"""The compact anchor-free detector: a timm backbone, a light pyramid, a shared head, task-aligned training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms

from src.errors import ProjectError
from src.models.detection.compact_assignment import assign, pad_targets
from src.models.detection.compact_losses import generalized_iou_loss, quality_focal_loss
from src.models.detection.compact_parts import Head, Pyramid
from src.models.features import FeatureExtractor, LoadReport, feature_layers
from src.models.parameter_groups import grouped

_LARGEST_LOG_DISTANCE = 8.0  # e^8 strides: beyond any image, and finite in float32


class CompactDetector(nn.Module):
    """An anchor-free detector for small data and small machines.

    Points on a grid predict a score a class and the distances to a box's four sides (Tian et al. 2019, FCOS); which
    points answer for an object is decided by task alignment (Feng et al. 2021, TOOD), scores learn the boxes' quality
    (Li et al. 2020, Generalized Focal Loss) and boxes learn by generalised IoU (Rezatofighi et al. 2019). With one
    fine stride it is near TTFNet (Liu et al. 2020), with three it is a small relative of YOLOv8 and RTMDet.

    Args:
        num_classes: classes C.
        image_size: (height, width) of the canvas in pixels, for backbones that must know it.
        backbone: any timm model that gives feature maps; backbone_args reach timm.
        strides: pixels from point to point, one an output level; [8, 16, 32] is usual, [4, 8, 16, 32] or [4] for
            objects of a few pixels.
        width, depth: channels of neck and head; convolutions in each of the head's towers.
        freeze_norm: the backbone's batch norms keep the statistics of the pretrained weights (for small batches).
        backbone_lr: factor on the learning rate of a pretrained backbone. Both are without effect on random weights.
        box_weight: weight of the box loss against the class loss.
        topk: points that an object may claim while training.
        score_floor, nms_iou, max_detections: what `detect` keeps; loose, as thresholds are tuned later.
        weights: path of the backbone's state dict, or None for random values.

    Attributes: report, the LoadReport of the weights file or None.
    Raises ProjectError for an unknown backbone, weights that do not fit, or strides that are no powers of two.
    """

    zero_shot = False

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: Sequence[int],
        backbone: str = "mobilenetv4_conv_small",
        backbone_args: Mapping[str, Any] | None = None,
        strides: Sequence[int] = (8, 16, 32),
        width: int = 64,
        depth: int = 2,
        freeze_norm: bool = False,
        backbone_lr: float = 1.0,
        box_weight: float = 2.0,
        topk: int = 10,
        score_floor: float = 0.02,
        nms_iou: float = 0.6,
        max_detections: int = 100,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        strides = sorted(int(stride) for stride in strides)
        if not strides or len(set(strides)) < len(strides) or any(s < 2 or s & (s - 1) for s in strides):
            raise ProjectError(f"model.strides={strides}: give different powers of two, such as [8, 16, 32].")
        if num_classes < 1:
            raise ProjectError(f"the detector needs at least one class, but was given {num_classes}.")
        self.num_classes, self.image_size, self.strides = num_classes, tuple(image_size), strides
        self.freeze_norm, self.backbone_lr = freeze_norm, backbone_lr
        self.box_weight, self.topk = box_weight, topk
        self.score_floor, self.nms_iou, self.max_detections = score_floor, nms_iou, max_detections
        layers = _layers_for(backbone, backbone_args or {}, strides)
        self.backbone = FeatureExtractor(
            backbone=backbone, layers=layers, backbone_args=backbone_args, weights=weights, trainable=True
        )
        self.report: LoadReport | None = self.backbone.report
        self.neck = Pyramid(
            channels=self.backbone.channels, map_strides=self.backbone.strides, strides=strides, width=width
        )
        self.head = Head(width=width, depth=depth, levels=len(strides), num_classes=num_classes, prior=0.01)
        # In the state dict, so that a rebuilt network knows it too; a float, so that weight averaging can treat it.
        self.register_buffer("pretrained", torch.tensor(float(weights is not None)))
        self.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> CompactDetector:
        """Training mode; with `freeze_norm` the batch norms of a pretrained backbone keep their statistics."""
        super().train(mode)
        if mode and self.freeze_norm and self.pretrained > 0.5:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train(False)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised images B×3×H×W → class logits (B, A, C), boxes (B, A, 4) xyxy canvas pixels in float32,
        points (A, 2) and their strides (A,)."""
        return self.read(self.features(images))

    def features(self, images: Tensor) -> list[Tensor]:
        """Normalised images B×3×H×W → the pyramid, one B×width×h×w a stride."""
        size = (images.shape[-2], images.shape[-1])
        return self.neck(self.backbone(images.contiguous(memory_format=torch.channels_last)), size)

    def read(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The pyramid → what `forward` answers."""
        logits, distances = self.head(levels)
        points, strides = _points([level.shape[-2:] for level in levels], self.strides, levels[0].device)
        flat_logits = torch.cat([level.flatten(2) for level in logits], dim=2).transpose(1, 2)
        flat = torch.cat([level.flatten(2) for level in distances], dim=2).transpose(1, 2)
        sides = flat.float().clamp(max=_LARGEST_LOG_DISTANCE).exp() * strides[:, None]
        boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], dim=-1)
        return flat_logits, boxes, points, strides

    def loss(self, images: Tensor, targets: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """{"loss_class", "loss_box"}: scalars, to be summed. Images with `has_boxes` False add nothing to either.

        images: normalised B×3×H×W. targets: a dict an image: boxes (N, 4) xyxy canvas pixels, labels (N,), has_boxes.
        """
        return self.loss_of(self(images), targets)

    def loss_of(
        self, answers: tuple[Tensor, Tensor, Tensor, Tensor], targets: Sequence[dict[str, Any]]
    ) -> dict[str, Tensor]:
        """The losses of what `forward` answered."""
        logits, boxes, points, strides = answers
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            padded = pad_targets(targets, logits.device)
            found = assign(logits.sigmoid(), boxes.detach(), points, strides, padded, topk=self.topk)
            quality = F.one_hot(found.labels, self.num_classes) * found.quality[..., None]
            focal = quality_focal_loss(logits, quality) * padded.supervised[:, None, None]
            total = found.quality.sum().clamp(min=1.0)
            weight = found.quality[found.positive]
            box = generalized_iou_loss(boxes[found.positive], found.boxes[found.positive])
            return {
                "loss_class": focal.sum() / total,
                "loss_box": self.box_weight * (box * weight).sum() / total,
            }

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """{"boxes": (M, 4) xyxy canvas pixels, "scores": (M,) in [0, 1], "labels": (M,)} an image, best first."""
        return self.detections_of(self(images), (images.shape[-2], images.shape[-1]))

    @torch.no_grad()
    def detections_of(
        self, answers: tuple[Tensor, Tensor, Tensor, Tensor], size: tuple[int, int]
    ) -> list[dict[str, Tensor]]:
        """The detections in what `forward` answered for canvases of this (height, width)."""
        logits, boxes, _, _ = answers
        height, width = size
        limit = boxes.new_tensor([width, height, width, height])
        boxes = boxes.clamp(min=0).minimum(limit)
        results = []
        for scores, places in zip(logits.float().sigmoid(), boxes, strict=True):
            points, labels = (scores > self.score_floor).nonzero(as_tuple=True)
            values = scores[points, labels]
            values, order = values.topk(min(len(values), 10 * self.max_detections))
            points, labels = points[order], labels[order]
            places = places[points]
            keep = batched_nms(places, values, labels, self.nms_iou)[: self.max_detections]
            results.append({"boxes": places[keep], "scores": values[keep], "labels": labels[keep]})
        return results

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups: a pretrained backbone learns at `lr · backbone_lr`; biases and norms do not decay."""
        return grouped(
            self,
            lr=lr,
            weight_decay=weight_decay,
            factor=self.backbone_lr if self.pretrained > 0.5 else 1.0,
            pretrained=lambda name, _: name.startswith("backbone."),
        )


def _layers_for(backbone: str, args: Mapping[str, Any], strides: Sequence[int]) -> list[str]:
    """The deepest layer of every stride from the finest wanted one on; the deepest of all where there is none."""
    deepest = {stride: name for name, stride in feature_layers(backbone, args)}
    chosen = [deepest[stride] for stride in sorted(deepest) if stride >= strides[0]]
    return chosen or [deepest[max(deepest)]]


def _points(shapes: Sequence[Sequence[int]], strides: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres (A, 2) x, y of all cells of all levels, row by row, and their strides (A,), in pixels."""
    points, steps = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
        points.append(grid)
        steps.append(torch.full((len(grid),), float(stride), device=device))
    return torch.cat(points), torch.cat(steps)
