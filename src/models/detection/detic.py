"""Detic-style training (Zhou et al. 2022, arXiv:2201.02605): classes are texts, and image tags teach them as well.

Proposals are class-agnostic; a proposal's embedding is compared with CLIP's embeddings of the class names. Images with
boxes train everything; an image that is only tagged trains the classifier, on the largest of its proposals. New class
names need no training: their embeddings take the place of the old ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import MultiScaleRoIAlign, batched_nms, box_iou

from src.errors import ProjectError, nearest
from src.models.detection.compact import CompactDetector
from src.models.features import LoadReport, default_normalization

TAG_LOSSES = ("max-size", "max-score")
_FOREGROUND_IOU = 0.5
_TEMPERATURE = 50.0  # Detic's NORM_TEMP
_PRIOR = 0.01
_SAMPLED = 128  # boxes of an image that train the classifier, a quarter of them objects at most


class DeticDetector(nn.Module):
    """A two-stage detector whose classifier is a buffer of text embeddings.

    The first stage is the compact detector with one class, "object"; the second pools its boxes from the same pyramid
    (as CenterNet2, Zhou et al. 2021, which Detic builds on: a score is the root of objectness times class score).

    Args:
        num_classes, image_size: number of class names, and (height, width) of the canvas in pixels.
        class_names: English names, one a class.
        backbone, backbone_args, strides, width, depth, freeze_norm, backbone_lr: of the first stage, see
            `CompactDetector`.
        text_encoder: hub repository of the CLIP whose text tower embeds the class names.
        text_config: keys that replace the tower's configuration; null is the checkpoint's. With random weights and
            null: a small tower.
        text_weights: auto | pretrained | random | a path, of the tower; random embeds without meaning (a smoke test).
        template: what a name stands in before the tower reads it.
        embedding_dim: numbers in an embedding; filled by `prepare`.
        embedding_width: width of the second stage's hidden layers.
        tag_loss: "max-size" (the largest proposal gets the tag) or "max-score" (the one that scores highest for it).
        tag_weight: weight of the tagged images' loss.
        score_floor, nms_iou, max_detections: what `detect` keeps; loose, as thresholds are tuned later.
        weights: path of the backbone's state dict, or None.
        embeddings: (C, D) text embeddings of the class names; None leaves random ones, to be filled by a state dict.

    Attributes: report, the backbone's LoadReport or None; class_embeddings (C, D), rows of length 1.
    """

    zero_shot = False
    filled_in = ("embedding_dim", "embeddings")  # arguments that no YAML gives

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: Sequence[int],
        class_names: Sequence[str],
        backbone: str = "mobilenetv4_conv_small",
        backbone_args: Mapping[str, Any] | None = None,
        strides: Sequence[int] = (8, 16, 32),
        width: int = 64,
        depth: int = 2,
        freeze_norm: bool = False,
        backbone_lr: float = 1.0,
        text_encoder: str = "openai/clip-vit-base-patch32",
        text_config: Mapping[str, Any] | None = None,
        text_weights: str | None = None,
        template: str = "a photo of a {}",
        embedding_dim: int | None = None,
        embedding_width: int = 256,
        tag_loss: str = "max-size",
        tag_weight: float = 0.1,
        score_floor: float = 0.02,
        nms_iou: float = 0.6,
        max_detections: int = 100,
        weights: str | None = None,
        embeddings: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        if tag_loss not in TAG_LOSSES:
            known = ", ".join(TAG_LOSSES)
            raise ProjectError(f"model.tag_loss={tag_loss!r} is not one of {known}.{nearest(tag_loss, TAG_LOSSES)}")
        if not embedding_dim:
            raise ProjectError(f"{text_encoder} was not prepared: DeticDetector.prepare fills embedding_dim first.")
        self.tag_loss, self.tag_weight = tag_loss, tag_weight
        self.score_floor, self.nms_iou, self.max_detections = score_floor, nms_iou, max_detections
        self.text_encoder, self.text_config = text_encoder, dict(text_config or {})
        self.text_weights, self.template = text_weights, template
        self.proposer = CompactDetector(
            num_classes=1,
            image_size=image_size,
            backbone=backbone,
            backbone_args=backbone_args,
            strides=strides,
            width=width,
            depth=depth,
            freeze_norm=freeze_norm,
            backbone_lr=backbone_lr,
            score_floor=0.001,
            nms_iou=0.7,
            max_detections=256,
            weights=weights,
        )
        self.report: LoadReport | None = self.proposer.report
        names = [str(index) for index in range(len(strides))]
        middle = int(math.log2(sorted(strides)[len(strides) // 2]))
        self.pool = MultiScaleRoIAlign(names, output_size=7, sampling_ratio=2, canonical_level=middle)
        self.embed = nn.Sequential(
            nn.Flatten(),
            nn.Linear(width * 49, embedding_width),
            nn.ReLU(inplace=True),
            nn.Linear(embedding_width, embedding_width),
            nn.ReLU(inplace=True),
            nn.Linear(embedding_width, embedding_dim),
        )
        self.bias = nn.Parameter(torch.tensor(-math.log((1 - _PRIOR) / _PRIOR)))
        first = torch.randn(num_classes, embedding_dim) if embeddings is None else torch.tensor(embeddings)
        self.register_buffer("class_embeddings", functional.normalize(first, dim=-1))
        self.set_vocabulary(class_names, self.class_embeddings)

    @classmethod
    def checkpoints(cls, options: Mapping[str, Any], weights: str) -> dict[str, tuple[str, str]]:
        """What must be found: the backbone's weights and the text tower's checkpoint."""
        text = options.get("text_weights") or ("random" if weights == "random" else "auto")
        return {"weights": (str(options["backbone"]), weights), "text_weights": (str(options["text_encoder"]), text)}

    @classmethod
    def prepare(
        cls, options: Mapping[str, Any], folders: Mapping[str, str | None], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """The network's options with class names and the size of the tower's embeddings; rebuilding needs no tower."""
        from src.models.detection.text_embeddings import tower_config

        config = tower_config(folders.get("text_weights"), options.get("text_config"))
        return {
            **options,
            "class_names": list(class_names),
            "text_config": config,
            "embedding_dim": int(config["projection_dim"]),
        }

    @staticmethod
    def normalization(options: Mapping[str, Any]) -> dict[str, Sequence[float]]:
        """`mean` and `std` (RGB, unit range) that the backbone's pretrained weights expect."""
        mean, std = default_normalization(str(options["backbone"]))
        return {"mean": mean, "std": std}

    @classmethod
    def first_values(cls, options: Mapping[str, Any], folders: Mapping[str, str | None]) -> dict[str, Any]:
        """What only the first construction gets: the backbone's weights, and the class names' embeddings."""
        from src.models.detection.text_embeddings import embed_texts

        names, template = options["class_names"], str(options["template"])
        found = embed_texts(names, folder=folders.get("text_weights"), config=options["text_config"], template=template)
        return {"weights": folders.get("weights"), "embeddings": found}

    def set_vocabulary(self, class_names: Sequence[str], embeddings: Tensor | Sequence[Sequence[float]]) -> None:
        """Detect these classes from now on; `embeddings` (C, D) are of the same text tower (`embed_texts`)."""
        found = torch.as_tensor(embeddings, dtype=torch.float32, device=self.class_embeddings.device)
        if found.shape != (len(class_names), self.class_embeddings.shape[1]):
            expected = (len(class_names), self.class_embeddings.shape[1])
            raise ProjectError(f"these class names need embeddings of shape {expected}, not {tuple(found.shape)}.")
        self.class_embeddings = functional.normalize(found, dim=-1)
        self.class_names, self.num_classes = list(class_names), len(class_names)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The first stage's groups, and the second stage's at `lr`; biases do not decay."""
        own = [*self.embed.parameters(), self.bias]
        return [
            *self.proposer.parameter_groups(lr, weight_decay),
            {"params": [p for p in own if p.ndim > 1], "lr": lr, "weight_decay": weight_decay},
            {"params": [p for p in own if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
        ]

    def classify(self, levels: Sequence[Tensor], boxes: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Class logits (N, C) of each image's boxes (N, 4) xyxy canvas pixels, from the pyramid."""
        counts = [len(found) for found in boxes]
        if not sum(counts):
            return [levels[0].new_zeros((0, self.num_classes)) for _ in boxes]
        maps = {str(index): level.float() for index, level in enumerate(levels)}
        pooled = self.pool(maps, [found.float() for found in boxes], [size] * len(boxes))
        embedded = functional.normalize(self.embed(pooled).float(), dim=-1)
        return list((_TEMPERATURE * embedded @ self.class_embeddings.t() + self.bias).split(counts))

    def loss(self, images: Tensor, targets: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """{"loss_class", "loss_box"} of the proposals, "loss_embedding" of boxes, "loss_tag" of images with tags only.

        Args:
            images: normalised float B×3×H×W.
            targets: of each image boxes (N, 4) xyxy canvas pixels, labels (N,), tags (K,), has_boxes.
        """
        size = (int(images.shape[-2]), int(images.shape[-1]))
        levels = self.proposer.features(images)
        answers = self.proposer.read(levels)
        objects = [{**target, "labels": torch.zeros_like(target["labels"])} for target in targets]
        losses = self.proposer.loss_of(answers, objects)
        proposals = [found["boxes"] for found in self.proposer.detections_of(answers, size)]
        boxes, wanted = [], []
        for target, found in zip(targets, proposals, strict=True):
            if bool(target["has_boxes"]):
                found, classes = self._sample(found, target)
                wanted.append(classes)
            else:
                wanted.append(None)
            boxes.append(found)
        zero = self.bias * 0
        box_loss, tag_loss, sampled, tagged = zero, zero, 0, 0
        for logits, found, classes, target in zip(
            self.classify(levels, boxes, size), boxes, wanted, targets, strict=True
        ):
            if classes is not None:
                box_loss = box_loss + _bce(logits, classes).sum()
                sampled += len(classes)
            elif len(target["tags"]) and len(found):
                tag_loss = tag_loss + self._tag_loss(logits, found, target["tags"].to(logits.device))
                tagged += 1
        losses["loss_embedding"] = box_loss / max(sampled, 1)
        losses["loss_tag"] = self.tag_weight * tag_loss / max(tagged, 1)
        return losses

    def _sample(self, proposals: Tensor, target: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Boxes of an image with known objects, and (S, C) the classes that each should answer: objects and others."""
        truth = target["boxes"].to(proposals.device, proposals.dtype)
        labels = target["labels"].to(proposals.device)
        boxes = torch.cat([truth, proposals])  # objects themselves are proposals: early ones miss them
        if len(truth):
            overlap, nearest_truth = box_iou(boxes, truth).max(dim=1)
        else:
            overlap, nearest_truth = boxes.new_zeros(len(boxes)), labels.new_zeros(len(boxes))
        inside = (overlap >= _FOREGROUND_IOU).nonzero()[:, 0][: max(_SAMPLED // 4, len(truth))]
        outside = (overlap < _FOREGROUND_IOU).nonzero()[:, 0][: _SAMPLED - len(inside)]
        wanted = boxes.new_zeros((len(inside) + len(outside), self.num_classes))
        if len(inside):
            wanted[torch.arange(len(inside), device=boxes.device), labels[nearest_truth[inside]]] = 1
        return boxes[torch.cat([inside, outside])], wanted

    def _tag_loss(self, logits: Tensor, boxes: Tensor, tags: Tensor) -> Tensor:
        """Every tag is answered by one proposal; what else the image shows is unknown only among its own tags."""
        total = logits.sum() * 0
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        for tag in tags.unique():
            chosen = areas.argmax() if self.tag_loss == "max-size" else logits[:, tag].detach().argmax()
            wanted = torch.zeros_like(logits[chosen])
            wanted[tag] = 1
            judged = torch.ones_like(wanted)
            judged[tags] = 0
            judged[tag] = 1
            total = total + (_bce(logits[chosen], wanted) * judged).sum()
        return total

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """{"boxes": (M, 4) canvas pixels, "scores": (M,) in [0, 1], "labels": (M,)} an image, best first."""
        size = (int(images.shape[-2]), int(images.shape[-1]))
        levels = self.proposer.features(images)
        proposals = self.proposer.detections_of(self.proposer.read(levels), size)
        results = []
        logits = self.classify(levels, [found["boxes"] for found in proposals], size)
        for found, raw in zip(proposals, logits, strict=True):
            scores = (found["scores"][:, None] * raw.sigmoid()).sqrt()
            which, labels = (scores >= self.score_floor).nonzero(as_tuple=True)
            boxes, values = found["boxes"][which], scores[which, labels]
            keep = batched_nms(boxes, values, labels, self.nms_iou)
            sides = boxes[keep, 2:] - boxes[keep, :2]
            keep = keep[(sides > 0).all(dim=1)][: self.max_detections]
            results.append({"boxes": boxes[keep], "scores": values[keep], "labels": labels[keep]})
        return results


def _bce(logits: Tensor, wanted: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.float(), wanted.float(), reduction="none")
