"""The families of open-vocabulary detectors in transformers: their prompts, preprocessing, answers and losses.

A family says how one architecture is asked and read. Its `predict` gives scores of classes and boxes in the unit range;
what is kept of them is the network's business (network.py), the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_convert

from src.errors import ProjectError, nearest
from src.models.detection.open_vocabulary.set_loss import set_loss

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Answer(NamedTuple):
    """What a network said about some classes: classes (C,) their indices, scores (B, Q, C) in [0, 1], boxes (B, Q, 4)
    xyxy in the unit range, masks (B, Q, h, w) as logits or None."""

    classes: Tensor
    scores: Tensor
    boxes: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True)
class Family:
    """One architecture. `best_class_only`: a query's box stands for its best class alone, as its processor has it."""

    model_class: str
    style: str
    tokenizer: str
    normalization: tuple[tuple[float, ...], tuple[float, ...]]
    size: int
    resize: str
    parts: Mapping[str, tuple[str, ...]]
    best_class_only: bool = True
    template: str = "{}"

    def max_tokens(self, config: Mapping[str, Any]) -> int:
        """Tokens that the text encoder takes, special ones included."""
        return int(config["text_config"]["max_position_embeddings"])

    def fit_config(self, config: dict[str, Any], image_size: Sequence[int]) -> dict[str, Any]:
        """The configuration for a canvas of this size, where the architecture must know it."""
        return config

    def predict(self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any]) -> list[Answer]:
        raise NotImplementedError

    def loss(
        self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any], labels: list[Tensor], boxes: list[Tensor]
    ) -> dict[str, Tensor]:
        """labels: positions in the chunk's classes; boxes: cxcywh in the unit range. One entry an image."""
        raise NotImplementedError


class GroundingDino(Family):
    """Grounding DINO (Liu et al. 2023, arXiv:2303.05499) and MM-Grounding-DINO (Zhao et al. 2024, arXiv:2401.02361).

    Its logits are of tokens. A class scores the highest of its own tokens' probabilities, found by their positions.
    """

    def max_tokens(self, config: Mapping[str, Any]) -> int:
        return min(int(config["max_text_len"]), super().max_tokens(config))

    def fit_config(self, config: dict[str, Any], image_size: Sequence[int]) -> dict[str, Any]:
        return {**config, "auxiliary_loss": True}  # a loss for every decoder layer, as both papers train

    def _forward(self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any], **kwargs: Any) -> Any:
        ids = chunk["input_ids"].expand(len(images), -1)
        mask = chunk["attention_mask"].expand(len(images), -1)
        return model(pixel_values=images, input_ids=ids, attention_mask=mask, return_dict=True, **kwargs)

    def predict(self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any]) -> list[Answer]:
        output = self._forward(model, images, chunk)
        scores = class_scores(output.logits, chunk["spans"])
        return [Answer(chunk["classes"], scores, box_convert(output.pred_boxes.float(), "cxcywh", "xyxy"))]

    def loss(
        self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any], labels: list[Tensor], boxes: list[Tensor]
    ) -> dict[str, Tensor]:
        wanted = [{"class_labels": one, "boxes": two} for one, two in zip(labels, boxes, strict=True)]
        return {"loss_grounding": self._forward(model, images, chunk, labels=wanted).loss}


class Owl(Family):
    """OWLv2 (Minderer et al. 2023, arXiv:2306.09683) and OWL-ViT (Minderer et al. 2022, arXiv:2205.06230).

    Texts are encoded once, not once an image. Another canvas than the checkpoint's interpolates its positions.
    """

    def _forward(self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        base = getattr(model, model.config.model_type)
        vision = model.config.vision_config
        interpolate = tuple(images.shape[-2:]) != (vision.image_size, vision.image_size)
        text = base.get_text_features(input_ids=chunk["input_ids"], attention_mask=chunk["attention_mask"])
        text = functional.normalize(text.pooler_output, dim=-1)
        maps, _ = model.image_embedder(pixel_values=images, interpolate_pos_encoding=interpolate)
        features = maps.flatten(1, 2)
        logits, _ = model.class_predictor(features, text.expand(len(images), -1, -1))
        return logits, model.box_predictor(features, maps, interpolate)

    def predict(self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any]) -> list[Answer]:
        logits, boxes = self._forward(model, images, chunk)
        return [Answer(chunk["classes"], logits.float().sigmoid(), box_convert(boxes.float(), "cxcywh", "xyxy"))]

    def loss(
        self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any], labels: list[Tensor], boxes: list[Tensor]
    ) -> dict[str, Tensor]:
        logits, found = self._forward(model, images, chunk)
        return set_loss(logits, found, labels, boxes)


class OmDetTurbo(Family):
    """OmDet-Turbo (Zhao et al. 2024, arXiv:2403.06892). Its parts are called one by one: the model's own forward keeps
    text embeddings in a cache that outlives a training step, and gives no outputs of the inner layers."""

    def fit_config(self, config: dict[str, Any], image_size: Sequence[int]) -> dict[str, Any]:
        height, width = (int(side) for side in image_size)
        backbone = dict(config["backbone_config"])
        if backbone.get("model_type") == "timm_backbone":
            backbone["img_size"] = [height, width]  # timm's Swin takes one size, which this sets
        return {**config, "image_size": [height, width], "backbone_config": backbone}

    def _forward(self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any]) -> Any:
        number, size = len(images), model.config.image_size
        if model.config.backbone_config.model_type == "timm_backbone" and list(images.shape[-2:]) != list(size):
            images = functional.interpolate(images, tuple(size), mode="bilinear", align_corners=False, antialias=True)
        if model.training:  # anchors cached under inference mode cannot take part in a backward pass
            type(model.decoder).generate_anchors.cache_clear()
        states = model.encoder(model.vision_backbone(images), return_dict=True).extracted_states
        classes = model.language_backbone(chunk["input_ids"], encode_type="class")
        task, mask = model.language_backbone(chunk["task_ids"], mask=chunk["task_mask"], encode_type="task")
        return model.decoder(
            states,
            classes[:, None].expand(-1, number, -1),
            task.expand(-1, number, -1),
            mask.expand(number, -1),
            return_dict=True,
        )

    def predict(self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any]) -> list[Answer]:
        output = self._forward(model, images, chunk)
        boxes = box_convert(output.decoder_coords[-1].float(), "cxcywh", "xyxy")
        return [Answer(chunk["classes"], output.decoder_classes[-1].float().sigmoid(), boxes)]

    def loss(
        self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any], labels: list[Tensor], boxes: list[Tensor]
    ) -> dict[str, Tensor]:
        output = self._forward(model, images, chunk)
        layers = [(output.encoder_class_logits, output.encoder_coord_logits)]
        layers += list(zip(output.decoder_classes, output.decoder_coords, strict=True))
        parts = [set_loss(logits, found, labels, boxes) for logits, found in layers]
        return {name: sum(part[name] for part in parts) for name in parts[0]}


class Sam3(Family):
    """SAM 3 asked by words (Carion et al. 2025, arXiv:2511.16719): boxes and masks of every instance of a concept.

    One pass of the decoder a class; a score is the query's times the concept's presence in the image.
    """

    def predict(self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any]) -> list[Answer]:
        size = model.config.image_size
        sides = (size, size) if isinstance(size, int) else tuple(size)
        if tuple(images.shape[-2:]) != sides:
            images = functional.interpolate(images, sides, mode="bilinear", align_corners=False, antialias=True)
        vision = model.get_vision_features(pixel_values=images)
        answers = []
        rows = zip(chunk["classes"], chunk["input_ids"], chunk["attention_mask"], strict=True)
        for index, ids, mask in rows:
            output = model(
                vision_embeds=vision,
                input_ids=ids.expand(len(images), -1),
                attention_mask=mask.expand(len(images), -1),
            )
            scores = output.pred_logits.float().sigmoid() * output.presence_logits.float().sigmoid()
            answers.append(Answer(index[None], scores[..., None], output.pred_boxes.float(), output.pred_masks))
        return answers

    def loss(
        self, model: nn.Module, images: Tensor, chunk: Mapping[str, Any], labels: list[Tensor], boxes: list[Tensor]
    ) -> dict[str, Tensor]:
        raise ProjectError(
            "SAM 3 is used as it is, without training: set model.max_epochs=0, or fine-tune grounding_dino, owlv2 or "
            "omdet_turbo."
        )


FAMILIES: dict[str, Family] = {
    "grounding-dino": GroundingDino(
        model_class="GroundingDinoForObjectDetection",
        style="grounding",
        tokenizer="bert",
        normalization=IMAGENET,
        size=800,
        resize="letterbox",
        parts={"text": ("model.text_backbone",), "backbone": ("model.backbone.conv_encoder",)},
    ),
    "mm-grounding-dino": GroundingDino(
        model_class="MMGroundingDinoForObjectDetection",
        style="grounding",
        tokenizer="bert",
        normalization=IMAGENET,
        size=800,
        resize="letterbox",
        parts={"text": ("model.text_backbone",), "backbone": ("model.backbone.conv_encoder",)},
    ),
    "owlv2": Owl(
        model_class="Owlv2ForObjectDetection",
        style="query",
        tokenizer="clip",
        normalization=CLIP,
        size=960,
        resize="letterbox",
        parts={"text": ("owlv2.text_model", "owlv2.text_projection"), "backbone": ("owlv2.vision_model",)},
        template="a photo of a {}",
    ),
    "owlvit": Owl(
        model_class="OwlViTForObjectDetection",
        style="query",
        tokenizer="clip",
        normalization=CLIP,
        size=768,
        resize="squash",
        parts={"text": ("owlvit.text_model", "owlvit.text_projection"), "backbone": ("owlvit.vision_model",)},
        template="a photo of a {}",
    ),
    "omdet-turbo": OmDetTurbo(
        model_class="OmDetTurboForObjectDetection",
        style="task",
        tokenizer="clip",
        normalization=IMAGENET,
        size=640,
        resize="squash",
        parts={"text": ("language_backbone",), "backbone": ("vision_backbone",)},
        best_class_only=False,
    ),
    "sam3": Sam3(
        model_class="Sam3Model",
        style="query",
        tokenizer="clip",
        normalization=HALF,
        size=1008,
        resize="squash",
        parts={"text": ("text_encoder",), "backbone": ("vision_encoder",)},
    ),
}


def family_of(architecture: str) -> Family:
    """Raises ProjectError for an architecture that is no open-vocabulary detector here."""
    if architecture not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ProjectError(
            f"model.architecture={architecture!r} is not one of {known}.{nearest(architecture, FAMILIES)}"
        )
    return FAMILIES[architecture]


def default_preprocess(architecture: str) -> dict[str, Any]:
    """What the pretrained checkpoints expect of their pictures: mean, std (RGB, unit range), image_size, resize."""
    family = family_of(architecture)
    mean, std = family.normalization
    return {"mean": mean, "std": std, "image_size": family.size, "resize": family.resize}


def class_scores(logits: Tensor, spans: Sequence[Sequence[int]]) -> Tensor:
    """(B, Q, T) token logits → (B, Q, C) probabilities: of each class the highest among its tokens [first, past)."""
    probability = logits.float().sigmoid()
    return torch.stack([probability[..., first:past].amax(dim=-1) for first, past in spans], dim=-1)
