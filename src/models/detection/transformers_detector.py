"""Any object detector of transformers, by its model type: RF-DETR, D-FINE, RT-DETRv2, DETR, Deformable DETR and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image

from src.errors import ProjectError, nearest
from src.hub_models import build_config, build_model, load_config
from src.models.features import LoadReport

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
# Families whose published checkpoints take pictures in the unit range; all others take ImageNet's normalisation.
UNNORMALIZED = ("rt_detr", "rt_detr_v2", "d_fine")


class TransformersDetector(nn.Module):
    """A detection transformer of the hub, trained with its own loss.

    Args:
        num_classes, image_size: classes, and (height, width) of the canvas in pixels.
        architecture: the model type, such as rt_detr_v2, d_fine, rf_detr, detr, deformable_detr, yolos.
        checkpoint: the hub repository that configuration and weights are of; its classes may be others.
        config: the full plain configuration, as `prepare` writes it. In a YAML: keys that replace the checkpoint's.
        backbone_lr: factor on the learning rate of the pretrained backbone.
        nms_iou: suppression of the answers, for families that repeat themselves; null is none, as DETR is meant.
        score_floor, max_detections: what `detect` keeps; loose, as thresholds are tuned later.
        weights: the checkpoint's folder; None leaves random values, to be filled by a state dict.

    Attributes: report, the LoadReport of the checkpoint or None.
    Raises ProjectError for an unknown model type, unprepared options, or a checkpoint that does not fit.
    """

    zero_shot = False

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: Sequence[int],
        architecture: str = "rt_detr_v2",
        checkpoint: str = "PekingU/rtdetr_v2_r18vd",
        config: Mapping[str, Any] | None = None,
        backbone_lr: float = 0.1,
        nms_iou: float | None = None,
        score_floor: float = 0.02,
        max_detections: int = 100,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        model_class = detector_class(architecture)
        if not config or config.get("model_type") != architecture:
            raise ProjectError(f"{checkpoint} was not prepared: TransformersDetector.prepare fills config first.")
        config = with_classes(config, num_classes)
        self.architecture, self.checkpoint = architecture, checkpoint
        self.num_classes, self.image_size, self.backbone_lr = num_classes, tuple(image_size), backbone_lr
        self.nms_iou, self.score_floor, self.max_detections = nms_iou, score_floor, max_detections
        self.model, self.report = build_model(
            model_class, config, weights, may_differ=class_parameters(model_class, config)
        )
        self.report: LoadReport | None

    @classmethod
    def checkpoints(cls, options: Mapping[str, Any], weights: str) -> dict[str, tuple[str, str]]:
        """Constructor arguments that are checkpoints' folders: {argument: (repository, weights word or path)}."""
        return {"weights": (str(options["checkpoint"]), weights)}

    @classmethod
    def prepare(
        cls, options: Mapping[str, Any], folders: Mapping[str, str | None], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """The network's options with the full configuration that rebuilding needs."""
        folder, architecture = folders.get("weights"), str(options["architecture"])
        detector_class(architecture)
        config = load_config(folder or architecture, options.get("config"))
        if config["model_type"] != architecture:
            raise ProjectError(
                f"model.architecture={architecture}, but the checkpoint {folder} is a {config['model_type']}: "
                "set model.architecture and model.checkpoint to one model."
            )
        return {**options, "config": config}

    @staticmethod
    def normalization(options: Mapping[str, Any]) -> dict[str, Sequence[float]]:
        """`mean` and `std` (RGB, unit range) that the family's published checkpoints expect."""
        return UNIT if options["architecture"] in UNNORMALIZED else IMAGENET

    def loss(self, images: Tensor, targets: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """{"loss_detection"}: the family's own loss, its parts weighted by the configuration.

        images: normalised B×3×H×W. targets: a dict an image: boxes (N, 4) xyxy canvas pixels, labels (N,), has_boxes.
        Images whose boxes are unknown (`has_boxes` False) are left out.
        """
        known = [index for index, target in enumerate(targets) if target["has_boxes"]]
        if not known:
            return {"loss_detection": sum(p.sum() for p in self.parameters() if p.requires_grad) * 0.0}
        if len(known) < len(targets):
            images = images[torch.tensor(known, device=images.device)]
        height, width = images.shape[-2:]
        size = images.new_tensor([width, height, width, height], dtype=torch.float32)
        labels = [
            {
                "class_labels": targets[index]["labels"],
                "boxes": box_convert(targets[index]["boxes"].float() / size, "xyxy", "cxcywh"),
            }
            for index in known
        ]
        return {"loss_detection": self.model(pixel_values=images, labels=labels).loss}

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """{"boxes": (M, 4) xyxy canvas pixels, "scores": (M,) in [0, 1], "labels": (M,)} an image, best first."""
        answer = self.model(pixel_values=images)
        logits = answer.logits.float()
        height, width = images.shape[-2:]
        size = logits.new_tensor([width, height, width, height])
        boxes = box_convert(answer.pred_boxes.float(), "cxcywh", "xyxy") * size
        # One logit more than classes: a softmax over "no object" as well (DETR); else independent sigmoids.
        softmax = logits.shape[-1] == self.num_classes + 1
        scores = logits.softmax(-1)[..., :-1] if softmax else logits.sigmoid()
        results = []
        for places, values in zip(boxes, scores, strict=True):
            if softmax:  # a query speaks for its best class alone
                best, labels = values.max(dim=-1)
                best, order = best.topk(min(self.max_detections, len(best)))
                queries, labels = order, labels[order]
            else:
                best, flat = values.flatten().topk(min(self.max_detections, values.numel()))
                queries, labels = flat // values.shape[1], flat % values.shape[1]
            places = clip_boxes_to_image(places[queries], (height, width))
            keep = (best >= self.score_floor).nonzero()[:, 0]
            if self.nms_iou is not None:
                keep = keep[batched_nms(places[keep], best[keep], labels[keep], self.nms_iou)]
            results.append({"boxes": places[keep], "scores": best[keep], "labels": labels[keep]})
        return results

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups: the backbone learns at `lr · backbone_lr` where it is pretrained; biases and norms do
        not decay."""
        factor = self.backbone_lr if self.report is not None else 1.0
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                rate = lr * (factor if "backbone" in name else 1.0)
                groups.setdefault((rate, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
        return [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]


def detector_class(architecture: str) -> type[nn.Module]:
    """The transformers class that detects objects for a model type.

    Raises:
        ProjectError: transformers has none; the message names the nearest and lists them.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES as NAMES

    if architecture not in NAMES:
        raise ProjectError(
            f"model.architecture={architecture!r} detects no objects in the installed transformers."
            f"{nearest(architecture, NAMES)} Known: {', '.join(NAMES)}."
        )
    return getattr(transformers, NAMES[architecture])


def with_classes(config: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """The configuration for another number of classes."""
    names = {index: f"class_{index}" for index in range(num_classes)}
    labels = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    return {**config, **labels, "num_labels": num_classes}


def class_parameters(model_class: type[nn.Module], config: Mapping[str, Any]) -> list[str]:
    """Names of the parameters that depend on the number of classes; a checkpoint of other classes lacks them.

    Found by building the network twice without memory, for this number of classes and for one more.
    """
    shapes = []
    for extra in (0, 1):
        with torch.device("meta"):
            built = model_class(build_config(with_classes(config, len(config["id2label"]) + extra)))
        shapes.append({name: tuple(value.shape) for name, value in built.state_dict().items()})
    return [name for name, shape in shapes[0].items() if shapes[1].get(name) != shape]
