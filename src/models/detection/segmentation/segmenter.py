"""Masks of boxes: Segment Anything (Kirillov et al. 2023), SAM 2 (Ravi et al. 2024) and SAM 3, prompted by boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from src.errors import ProjectError, nearest
from src.hub_models import build_model
from src.models.detection.open_vocabulary.families import HALF, IMAGENET
from src.models.detection.open_vocabulary.network import upsample_masks
from src.models.features import LoadReport

# model type -> class, what its pictures are normalised by, and whether it keeps the aspect and pads (else squashes)
SEGMENTERS = {
    "sam": ("SamModel", IMAGENET, True),
    "sam2": ("Sam2Model", IMAGENET, False),
    "sam3_tracker": ("Sam3TrackerModel", HALF, False),
}
BOXES_AT_ONCE = 32  # the mask decoder's memory grows with them


class Segmenter(nn.Module):
    """One mask a box, frozen.

    Args:
        architecture: sam | sam2 | sam3_tracker (SAM 3's part that is prompted by boxes).
        config: the full plain configuration.
        canvas_mean, canvas_std: what the pictures that arrive were normalised by; they are normalised anew.
        weights: the checkpoint's folder, or None.

    Attributes: report, the LoadReport of the checkpoint or None.
    """

    def __init__(
        self,
        *,
        architecture: str,
        config: Mapping[str, Any],
        canvas_mean: Sequence[float],
        canvas_std: Sequence[float],
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if architecture not in SEGMENTERS:
            raise ProjectError(
                f"model.segmenter={architecture!r} is not one of {', '.join(SEGMENTERS)}."
                f"{nearest(architecture, SEGMENTERS)}"
            )
        name, (mean, std), self.keeps_aspect = SEGMENTERS[architecture]
        self.report: LoadReport | None
        self.model, self.report = build_model(getattr(transformers, name), config, weights)
        side = self.model.config.prompt_encoder_config.image_size
        self.size = (side, side) if isinstance(side, int) else tuple(side)
        canvas = [torch.tensor(list(v)).view(1, 3, 1, 1) for v in (canvas_mean, canvas_std)]
        own = [torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std)]
        self.register_buffer("scale", canvas[1] / own[1], persistent=False)
        self.register_buffer("offset", (canvas[0] - own[0]) / own[1], persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Segmenter:
        """Stays in eval mode: it is never trained."""
        return super().train(False)

    def _fit(self, images: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Canvas → (the model's own input, factors of x and y, the part of the input that is picture)."""
        height, width = images.shape[-2:]
        if self.keeps_aspect:
            ratio = max(self.size) / max(height, width)
            inner = (int(height * ratio + 0.5), int(width * ratio + 0.5))
        else:
            inner = self.size
        images = images * self.scale + self.offset
        if inner != (height, width):
            images = functional.interpolate(images, inner, mode="bilinear", align_corners=False, antialias=True)
        images = functional.pad(images, (0, self.size[1] - inner[1], 0, self.size[0] - inner[0]))
        return images, images.new_tensor([inner[1] / width, inner[0] / height]), inner

    @torch.no_grad()
    def forward(self, images: Tensor, boxes: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Masks of each image's boxes.

        Args:
            images: float B×3×H×W, normalised by the canvas' mean and std.
            boxes: of each image (N, 4) xyxy canvas pixels.

        Returns:
            per image: masks (N, H, W) bool, and (N,) the quality (IoU) that the model expects of each.
        """
        canvas = (int(images.shape[-2]), int(images.shape[-1]))
        if not any(len(found) for found in boxes):
            return [(images.new_zeros((0, *canvas), dtype=torch.bool), images.new_zeros(0)) for _ in boxes]
        pictures, factors, inner = self._fit(images)
        embeddings = self.model.get_image_embeddings(pictures)
        answers = []
        for index, found in enumerate(boxes):
            if isinstance(embeddings, Tensor):
                one: Any = embeddings[index : index + 1]
            else:
                one = [level[index : index + 1] for level in embeddings]
            masks, qualities = [images.new_zeros((0, *canvas), dtype=torch.bool)], [images.new_zeros(0)]
            for part in (found.to(images.dtype) * factors.repeat(2)).split(BOXES_AT_ONCE):
                if len(part):
                    output = self.model(image_embeddings=one, input_boxes=part[None], multimask_output=False)
                    masks.append(self._to_canvas(output.pred_masks[0, :, 0], inner, canvas) > 0)
                    qualities.append(output.iou_scores[0, :, 0].to(images.dtype))
            answers.append((torch.cat(masks), torch.cat(qualities)))
        return answers

    def _to_canvas(self, logits: Tensor, inner: tuple[int, int], canvas: tuple[int, int]) -> Tensor:
        if self.keeps_aspect:
            logits = upsample_masks(logits, self.size)[:, : inner[0], : inner[1]]
        return upsample_masks(logits, canvas)


def mask_extents(masks: Tensor, boxes: Tensor) -> Tensor:
    """(M, 4) xyxy pixels: the smallest box around each mask (M, H, W); an empty mask keeps its box of `boxes`."""
    if len(masks) == 0:
        return boxes
    columns, rows = masks.any(dim=1), masks.any(dim=2)
    extents = []
    for line in (columns, rows):
        length = line.shape[1]
        first = line.int().argmax(dim=1)
        past = length - line.flip(1).int().argmax(dim=1)
        extents.append((first, past))
    (left, right), (top, bottom) = extents
    found = torch.stack([left, top, right, bottom], dim=1).to(boxes.dtype)
    return torch.where(columns.any(dim=1)[:, None], found, boxes)
