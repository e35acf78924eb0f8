"""Grounded SAM (Ren et al. 2024, arXiv:2401.14159): words give boxes, boxes give masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from src.errors import ProjectError
from src.hub_models import load_config, part_config
from src.models.detection.open_vocabulary import OpenVocabularyDetector, default_preprocess
from src.models.detection.segmentation.segmenter import Segmenter, mask_extents
from src.weights import WORDS


class GroundedSam(OpenVocabularyDetector):
    """An open-vocabulary detector whose boxes prompt a Segment Anything network; `detect` gives masks as well.

    The detector's arguments are OpenVocabularyDetector's. Training trains the detector alone. With
    architecture="sam3" SAM 3 finds boxes and masks by words itself, and segmenter must be null.

    Args:
        segmenter: sam | sam2 | sam3_tracker, or null.
        segmenter_checkpoint: the hub repository of its configuration and weights.
        segmenter_config: its full plain configuration, as `prepare` writes it. In a YAML: keys to replace.
        refine_boxes: a box becomes the extent of its mask, where that is not empty.
        canvas_mean, canvas_std: what the canvas is normalised by; null is the detector's own (as mean and std null).
        segmenter_weights: the segmenter's checkpoint folder. In a YAML: a word or a path, null as `weights`' word.

    Attributes: report of the detector, segmenter_report of the segmenter.
    """

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
        segmenter: str | None = "sam2",
        segmenter_checkpoint: str = "facebook/sam2.1-hiera-tiny",
        segmenter_config: Mapping[str, Any] | None = None,
        refine_boxes: bool = False,
        canvas_mean: Sequence[float] | None = None,
        canvas_std: Sequence[float] | None = None,
        weights: str | None = None,
        segmenter_weights: str | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            image_size=image_size,
            class_names=class_names,
            architecture=architecture,
            checkpoint=checkpoint,
            config=config,
            prompts=prompts,
            template=template,
            freeze=freeze,
            backbone_lr=backbone_lr,
            score_floor=score_floor,
            nms_iou=nms_iou,
            max_detections=max_detections,
            weights=weights,
        )
        _check_pair(architecture, segmenter)
        self.refine_boxes, self.segmenter_checkpoint = refine_boxes, segmenter_checkpoint
        self.segmenter: Segmenter | None = None
        if segmenter is not None:
            if not segmenter_config or segmenter_config.get("model_type") != segmenter:
                raise ProjectError(f"{segmenter_checkpoint} was not prepared: GroundedSam.prepare comes first.")
            own = default_preprocess(architecture)
            self.segmenter = Segmenter(
                architecture=segmenter,
                config=segmenter_config,
                canvas_mean=canvas_mean or own["mean"],
                canvas_std=canvas_std or own["std"],
                weights=segmenter_weights,
            )
        self.segmenter_report = self.segmenter.report if self.segmenter is not None else None

    @classmethod
    def checkpoints(cls, options: Mapping[str, Any], weights: str) -> dict[str, tuple[str, str]]:
        """Constructor arguments that are checkpoints' folders: {argument: (repository, weights word or path)}."""
        found = super().checkpoints(options, weights)
        if options.get("segmenter") is not None:
            word = options.get("segmenter_weights") or (weights if weights in WORDS else "auto")
            found["segmenter_weights"] = (str(options["segmenter_checkpoint"]), word)
        return found

    @classmethod
    def prepare(
        cls, options: Mapping[str, Any], folders: Mapping[str, str | None], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """The network's options with all that rebuilding needs."""
        _check_pair(str(options["architecture"]), options.get("segmenter"))
        completed = super().prepare(options, folders, class_names)
        completed.pop("segmenter_weights", None)
        segmenter = options.get("segmenter")
        if segmenter is not None:
            folder = folders.get("segmenter_weights")
            config = part_config(load_config(folder or segmenter, options.get("segmenter_config")), segmenter)
            if config["model_type"] != segmenter:
                raise ProjectError(
                    f"model.segmenter={segmenter}, but its checkpoint {folder} is a {config['model_type']}: "
                    "set model.segmenter and model.segmenter_checkpoint to one model."
                )
            completed["segmenter_config"] = config
        return completed

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The detector's alone: the segmenter has no trainable parameter."""
        return super().parameter_groups(lr, weight_decay)

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Boxes of each image, best first, with `masks` (M, H, W) bool on the canvas, and `mask_scores` (M,), the
        quality that the segmenter expects of each mask (not from SAM 3 by words)."""
        found = super().detect(images)
        if self.segmenter is not None:
            answers = self.segmenter(images, [one["boxes"] for one in found])
            for one, (masks, quality) in zip(found, answers, strict=True):
                one["masks"], one["mask_scores"] = masks, quality
        if self.refine_boxes:
            for one in found:
                one["boxes"] = mask_extents(one["masks"], one["boxes"])
        return found


def _check_pair(architecture: str, segmenter: str | None) -> None:
    if (segmenter is None) != (architecture == "sam3"):
        raise ProjectError(
            "model.segmenter: SAM 3 gives masks itself (architecture=sam3 segmenter=null); every other detector needs "
            "a segmenter, such as sam2."
        )
