"""Any object detector of transformers, by its model type: RF-DETR, D-FINE, RT-DETRv2, DETR, Deformable DETR, others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image

from src.errors import ProjectError, nearest
from src.hub_models import build_config, build_model, load_config
from src.models.features import LoadReport
from src.models.parameter_groups import grouped

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
# Families whose image processor leaves pictures in the unit range; all others take ImageNet's normalisation. A
# checkpoint's own preprocessor_config.json decides where there is one.
UNNORMALIZED = ("rt_detr", "rt_detr_v2", "d_fine", "deimv2")
# Families of the mapping that transformers cannot train, or that find no boxes.
UNTRAINABLE = ("pp_doclayout", "pp_ocr")
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


class TransformersDetector(nn.Module):
    """A detection transformer of the hub, trained with its own loss, which is always computed in full precision.

    Args:
        num_classes, image_size: classes, and (height, width) of the canvas in pixels.
        architecture: the model type, such as rt_detr_v2, d_fine, rf_detr, detr, deformable_detr, yolos.
        checkpoint: the hub repository that configuration and weights are of; its classes may be others.
        config: the full plain configuration, as `prepare` writes it. In a YAML: keys that replace the checkpoint's.
        backbone_lr: factor on the learning rate of the pretrained backbone.
        nms_iou: suppression of the answers, for families that repeat themselves; null is none, as DETR is meant.
        score_floor, max_detections: what `detect` keeps; loose, as thresholds are tuned later.
        image_mean, image_std: what the checkpoint's pictures are normalised with; filled by `prepare`.
        weights: the checkpoint's folder; None leaves random values, to be filled by a state dict.

    Attributes: report, the LoadReport of the checkpoint or None.
    Raises ProjectError for an unknown model type, unprepared options, a canvas that the architecture cannot take, or
    a checkpoint that does not fit.
    """

    zero_shot = False
    needs_names = False
    filled_in = ("image_mean", "image_std")

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
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        model_class = detector_class(architecture)
        if not config or config.get("model_type") != architecture:
            raise ProjectError(f"{checkpoint} was not prepared: TransformersDetector.prepare fills config first.")
        config = with_classes(config, num_classes)
        self.unit, self.square = canvas_unit(config)
        self._check_canvas(*image_size)
        self.architecture, self.checkpoint = architecture, checkpoint
        self.image_mean, self.image_std = image_mean, image_std
        self.num_classes, self.image_size, self.backbone_lr = num_classes, tuple(image_size), backbone_lr
        self.nms_iou, self.score_floor, self.max_detections = nms_iou, score_floor, max_detections
        self.model, self.report = build_model(
            model_class, config, weights, may_differ=class_parameters(model_class, config)
        )
        self.report: LoadReport | None
        self.model.loss_function = _FullPrecision(self.model.loss_function)

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
        for key in ("eval_size", "anchor_image_size"):  # grids of one fixed canvas; ours may be another
            if key in config:
                config[key] = None
        usual = _processor_normalization(folder) or (UNIT if architecture in UNNORMALIZED else IMAGENET)
        return {**options, "config": config, "image_mean": list(usual["mean"]), "image_std": list(usual["std"])}

    @staticmethod
    def normalization(options: Mapping[str, Any]) -> dict[str, Sequence[float]]:
        """`mean` and `std` (RGB, unit range) of prepared options: what the checkpoint, or its family, expects."""
        return {"mean": options["image_mean"], "std": options["image_std"]}

    def _check_canvas(self, height: int, width: int) -> None:
        """Raises ProjectError for a canvas that the architecture cannot take, naming the next one that fits."""
        fitting = [max(self.unit, -(-side // self.unit) * self.unit) for side in (height, width)]
        if self.square:
            fitting = [max(fitting)] * 2
        if fitting != [height, width]:
            wanted = f"multiples of {self.unit} pixels" + (", height and width equal" if self.square else "")
            size = fitting[0] if fitting[0] == fitting[1] else fitting
            raise ProjectError(
                f"a canvas of {height}×{width} does not fit this architecture, which takes {wanted}. "
                f"Set model.image_size={size}."
            )

    def loss(self, images: Tensor, targets: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """{"loss_detection"}: the family's own loss, its parts weighted by the configuration.

        images: normalised B×3×H×W. targets: a dict an image: boxes (N, 4) xyxy canvas pixels, labels (N,), has_boxes.
        Images whose boxes are unknown (`has_boxes` False) are left out.
        """
        self._check_canvas(*images.shape[-2:])
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
        self._check_canvas(*images.shape[-2:])
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
            solid = (places[:, 2:] > places[:, :2]).all(dim=1)
            keep = ((best >= self.score_floor) & solid).nonzero()[:, 0]
            if self.nms_iou is not None:
                keep = keep[batched_nms(places[keep], best[keep], labels[keep], self.nms_iou)]
            results.append({"boxes": places[keep], "scores": best[keep], "labels": labels[keep]})
        return results

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups: the backbone learns at `lr · backbone_lr` where it is pretrained; biases and norms do
        not decay."""
        return grouped(
            self,
            lr=lr,
            weight_decay=weight_decay,
            factor=self.backbone_lr if self.report is not None else 1.0,
            pretrained=lambda name, _: "backbone" in name,
        )


def detector_class(architecture: str) -> type[nn.Module]:
    """The transformers class that detects objects for a model type.

    Raises:
        ProjectError: transformers has none; the message names the nearest and lists them.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES as NAMES

    known = [name for name in NAMES if not name.startswith(UNTRAINABLE)]
    if architecture not in known:
        raise ProjectError(
            f"model.architecture={architecture!r} is no detector that the installed transformers can train."
            f"{nearest(architecture, known)} Known: {', '.join(known)}."
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


def canvas_unit(config: Mapping[str, Any]) -> tuple[int, bool]:
    """What the canvas's sides must be multiples of in pixels, and whether they must be equal."""
    backbone = config.get("backbone_config") or {}
    # Hybrid encoders add maps of neighbouring strides, which match only where the coarsest stride divides the canvas.
    unit = max(config["feat_strides"]) if "feat_strides" in config else 1
    patches = [part.get("patch_size") or 1 for part in (config, backbone)]
    unit = math.lcm(unit, *(max(size) if isinstance(size, list | tuple) else size for size in patches))
    windows = backbone.get("num_windows") or 1
    if config["model_type"] == "lw_detr":  # counts all windows of the image
        return unit * math.isqrt(windows), False
    if config["model_type"] == "rf_detr":  # counts the windows of a side, and cuts them as if sides were equal
        return unit * windows, windows > 1
    return unit, False


class _FullPrecision:
    """A loss in float32 without autocast: half precision rounds scores to 0 or 1, whose logarithms are infinite."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss

    def __call__(self, logits: Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(logits.device.type, enabled=False):
            return self.loss(_float(logits), *_float(args), **_float(kwargs))


def _float(value: Any) -> Any:
    """The same structure with its tensors of a half type in float32."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, Mapping):
        return {key: _float(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_float(inner) for inner in value)
    return value


def _processor_normalization(folder: str | None) -> dict[str, Sequence[float]] | None:
    """`mean` and `std` that a checkpoint's image processor says; None where the folder holds none."""
    for path in (Path(folder) / name for name in _PROCESSOR_FILES) if folder else ():
        if path.is_file():
            raw = json.loads(path.read_text(encoding="utf-8"))
            raw = raw.get("image_processor", raw)
            if "do_normalize" in raw:
                mean, std = (raw.get(f"image_{key}") or IMAGENET[key] for key in ("mean", "std"))
                return {"mean": mean, "std": std} if raw["do_normalize"] else UNIT
    return None
