"""A detector of whatever its class names say: any family of transformers, zero-shot or fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image

from src.errors import ProjectError, nearest
from src.hub_models import build_model, load_config, part_config
from src.models.detection.open_vocabulary.families import Answer, Family, family_of
from src.models.detection.open_vocabulary.prompts import build_prompts, grounding_text, load_tokenizer, words_tokenizer
from src.models.features import LoadReport
from src.models.parameter_groups import grouped

_TENSORS = ("classes", "input_ids", "attention_mask", "task_ids", "task_mask")


class OpenVocabularyDetector(nn.Module):
    """Boxes of the classes that English names describe; needs no training, and can be fine-tuned.

    Args:
        num_classes, image_size: number of class names, and (height, width) of the canvas in pixels.
        class_names: English names, one a class.
        architecture: grounding-dino | mm-grounding-dino | owlv2 | owlvit | omdet-turbo | sam3.
        checkpoint: the hub repository that the configuration and the weights are of.
        config: the full plain configuration, as `prepare` writes it. In a YAML: keys that replace the checkpoint's.
        prompts: the chunks of `prompts.build_prompts`, as `prepare` writes them.
        template: what a name stands in before the text encoder reads it (OWL, SAM 3); null is the family's own.
        freeze: parts that keep their weights while fine-tuning: "text", "backbone".
        backbone_lr: factor on the learning rate of the pretrained image and text encoders that are not frozen.
        score_floor, nms_iou, max_detections: what `detect` keeps; loose, as thresholds are tuned later.
        weights: the checkpoint's folder; None leaves random values, to be filled by a state dict.

    Attributes: report, the LoadReport of the checkpoint or None.
    Raises ProjectError for an unknown architecture or part, a checkpoint that does not fit, or unprepared options.
    """

    zero_shot = True
    filled_in = ("prompts",)  # arguments that no YAML gives

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: Sequence[int],
        class_names: Sequence[str],
        architecture: str = "grounding-dino",
        checkpoint: str = "IDEA-Research/grounding-dino-tiny",
        config: Mapping[str, Any] | None = None,
        prompts: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        freeze: Sequence[str] = ("text",),
        backbone_lr: float = 0.1,
        score_floor: float = 0.05,
        nms_iou: float = 0.7,
        max_detections: int = 100,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.family: Family = family_of(architecture)
        self.architecture, self.checkpoint, self.template = architecture, checkpoint, template
        self.image_size = tuple(image_size)
        self.freeze, self.backbone_lr = list(freeze), backbone_lr
        self.score_floor, self.nms_iou, self.max_detections = score_floor, nms_iou, max_detections
        if not config or config.get("model_type") != architecture or not prompts:
            raise ProjectError(
                f"{checkpoint} was not prepared: OpenVocabularyDetector.prepare fills config and prompts first."
            )
        for part in self.freeze:
            if part not in self.family.parts:
                known = ", ".join(self.family.parts)
                raise ProjectError(f"model.freeze: {part!r} is not one of {known}.{nearest(part, self.family.parts)}")
        config = self.family.fit_config(dict(config), self.image_size)
        self.model, self.report = build_model(getattr(transformers, self.family.model_class), config, weights)
        self.report: LoadReport | None
        for module in self._modules_of(self.freeze):
            module.requires_grad_(False)
        if num_classes != len(class_names):
            raise ProjectError(f"{num_classes} classes, but {len(class_names)} class names: give each a name.")
        self._chunks = 0
        self.set_vocabulary(class_names, prompts)
        self.train(self.training)

    @classmethod
    def checkpoints(cls, options: Mapping[str, Any], weights: str) -> dict[str, tuple[str, str]]:
        """Constructor arguments that are checkpoints' folders: {argument: (repository, weights word or path)}."""
        return {"weights": (str(options["checkpoint"]), weights)}

    @classmethod
    def prepare(
        cls, options: Mapping[str, Any], folders: Mapping[str, str | None], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """The network's options with all that rebuilding needs: full config, prompts as token ids, class names."""
        folder = folders.get("weights")
        architecture = str(options["architecture"])
        family_of(architecture)
        config = part_config(load_config(folder or architecture, options.get("config")), architecture)
        if config["model_type"] != architecture:
            raise ProjectError(
                f"model.architecture={architecture}, but the checkpoint {folder} is a {config['model_type']}: "
                "set model.architecture and model.checkpoint to one model."
            )
        prompts = prompts_for(architecture, config, class_names, folder=folder, template=options.get("template"))
        return {**options, "class_names": list(class_names), "config": config, "prompts": prompts}

    @staticmethod
    def normalization(options: Mapping[str, Any]) -> dict[str, Sequence[float]]:
        """`mean` and `std` (RGB, unit range) that the architecture's published checkpoints expect."""
        mean, std = family_of(str(options["architecture"])).normalization
        return {"mean": mean, "std": std}

    def set_vocabulary(self, class_names: Sequence[str], prompts: Sequence[Mapping[str, Any]]) -> None:
        """Ask for other classes from now on; `prompts` from `prompts_for` with this network's configuration."""
        asked = sorted(index for chunk in prompts for index in chunk["classes"])
        if asked != list(range(len(class_names))):
            raise ProjectError(f"the prompts ask for classes {asked}, but there are {len(class_names)} class names.")
        device = next(self.model.parameters()).device
        for index in range(self._chunks):
            for name in _TENSORS:
                self._buffers.pop(f"chunk{index}_{name}", None)
        for index, chunk in enumerate(prompts):
            for name in _TENSORS:
                if name in chunk:
                    # Not in the state dict: the options hold them already, and another vocabulary has other shapes.
                    tensor = torch.tensor(chunk[name], dtype=torch.int64, device=device)
                    self.register_buffer(f"chunk{index}_{name}", tensor, persistent=False)
        self._chunks = len(prompts)
        self._spans = [chunk.get("spans") for chunk in prompts]
        self.class_names, self.num_classes = list(class_names), len(class_names)

    def _chunk(self, index: int) -> dict[str, Any]:
        chunk: dict[str, Any] = {name: getattr(self, f"chunk{index}_{name}", None) for name in _TENSORS}
        return {**chunk, "spans": self._spans[index]}

    def _modules_of(self, parts: Sequence[str]) -> list[nn.Module]:
        return [self.model.get_submodule(name) for part in parts for name in self.family.parts[part]]

    def train(self, mode: bool = True) -> OpenVocabularyDetector:
        """Frozen parts stay in eval mode: neither dropout nor batch statistics touch them."""
        super().train(mode)
        for module in self._modules_of(self.freeze):
            module.eval()
        return self

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Trainable parameters: encoders at `lr * backbone_lr`; norms and biases without decay."""
        slow = {id(p) for module in self._modules_of(list(self.family.parts)) for p in module.parameters()}
        return grouped(
            self,
            lr=lr,
            weight_decay=weight_decay,
            factor=self.backbone_lr,
            pretrained=lambda _, parameter: id(parameter) in slow,
        )

    def loss(self, images: Tensor, targets: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Training losses of the images whose boxes are known; the others are left out.

        Args:
            images: normalised float B×3×H×W.
            targets: of each image `boxes` (N, 4) xyxy canvas pixels, `labels` (N,), `has_boxes`.
        """
        known = [index for index, target in enumerate(targets) if bool(target["has_boxes"])]
        if not known:
            return {"loss": sum(p.sum() for p in self.parameters() if p.requires_grad) * 0.0}
        if len(known) < len(targets):
            images = images[known]
        height, width = images.shape[-2:]
        scale = torch.tensor([width, height, width, height], dtype=torch.float32, device=images.device)
        total: dict[str, Tensor] = {}
        for index in range(self._chunks):
            chunk = self._chunk(index)
            position = torch.full((self.num_classes,), -1, dtype=torch.int64, device=images.device)
            position[chunk["classes"]] = torch.arange(len(chunk["classes"]), device=images.device)
            labels, boxes = [], []
            for target in (targets[i] for i in known):
                label = position[target["labels"].to(images.device)]
                here = label >= 0
                labels.append(label[here])
                found = target["boxes"].to(images.device, torch.float32)[here] / scale
                boxes.append(box_convert(found.reshape(-1, 4), "xyxy", "cxcywh"))
            for name, value in self.family.loss(self.model, images, chunk, labels, boxes).items():
                total[name] = total.get(name, 0) + value / self._chunks
        return total

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Boxes of each image, best first.

        Args:
            images: normalised float B×3×H×W.

        Returns:
            per image: boxes (M, 4) canvas pixels clipped to the canvas, scores (M,), labels (M,); and masks
            (M, H, W) bool where the architecture gives them (SAM 3).
        """
        size = (int(images.shape[-2]), int(images.shape[-1]))
        answers = [a for i in range(self._chunks) for a in self.family.predict(self.model, images, self._chunk(i))]
        return [self._keep([_of_image(answer, index) for answer in answers], size) for index in range(len(images))]

    def _keep(self, answers: Sequence[Answer], size: tuple[int, int]) -> dict[str, Tensor]:
        """One image's answers (without the batch axis) → its detections."""
        height, width = size
        parts = []
        for answer in answers:
            queries, _ = answer.scores.shape
            if self.family.best_class_only:
                scores, best = answer.scores.max(dim=1)
                query = torch.arange(queries, device=scores.device)
            else:  # a query may stand for several classes; as many answers as there are queries
                scores, flat = answer.scores.flatten().topk(queries)
                query, best = flat // answer.scores.shape[1], flat % answer.scores.shape[1]
            kept = (scores >= self.score_floor).nonzero()[:, 0]
            scale = answer.boxes.new_tensor([width, height, width, height])
            masks = None if answer.masks is None else answer.masks[query[kept]]
            parts.append((answer.boxes[query[kept]] * scale, scores[kept], answer.classes[best[kept]], masks))
        boxes, scores, labels = (torch.cat([part[i] for part in parts]) for i in range(3))
        order = batched_nms(boxes, scores, labels, self.nms_iou)
        boxes = clip_boxes_to_image(boxes, size)
        sides = boxes[:, 2:] - boxes[:, :2]
        order = order[(sides[order] > 0).all(dim=1)][: self.max_detections]
        found = {"boxes": boxes[order], "scores": scores[order], "labels": labels[order]}
        if all(part[3] is not None for part in parts):
            logits = torch.cat([part[3] for part in parts])[order]
            found["masks"] = upsample_masks(logits.sigmoid(), size) > 0.5
        return found


def _of_image(answer: Answer, index: int) -> Answer:
    masks = None if answer.masks is None else answer.masks[index]
    return Answer(answer.classes, answer.scores[index], answer.boxes[index], masks)


def upsample_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """(M, h, w) → (M, height, width), bilinear; no masks stay no masks."""
    if len(masks) == 0:
        return masks.new_zeros((0, *size))
    return functional.interpolate(masks[None].float(), size, mode="bilinear", align_corners=False)[0]


def prompts_for(
    architecture: str,
    config: Mapping[str, Any],
    class_names: Sequence[str],
    *,
    folder: str | None,
    template: str | None = None,
) -> list[dict[str, Any]]:
    """Token ids of class names, by the checkpoint's tokenizer; for random weights (no folder) by one of whole words."""
    family = family_of(architecture)
    limit = family.max_tokens(config)
    if template and family.style != "query":
        raise ProjectError(f"model.template: {architecture} has a prompt format of its own; leave template null.")
    template = template or family.template
    if "{}" not in template:
        raise ProjectError(f"model.template={template!r} has no {{}} for the class name, such as 'a photo of a {{}}'.")
    if folder is not None:
        tokenizer = load_tokenizer(folder)
    else:
        texts = [*class_names, template, "Detect , .", grounding_text([])]
        size = int(config["text_config"]["vocab_size"])
        tokenizer = words_tokenizer(family.tokenizer, texts, vocab_size=size, max_tokens=limit)
    return build_prompts(family.style, class_names, tokenizer, max_tokens=limit, template=template)
