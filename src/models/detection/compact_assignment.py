"""Which point answers for which object: task-aligned assignment over padded targets, no loop over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class PaddedTargets:
    """The objects of a batch in tensors of one size, G being the largest number in an image (at least 1).

    boxes: (B, G, 4) xyxy canvas pixels. labels: (B, G) int64. valid: (B, G) bool, False where padded.
    supervised: (B,) bool, False for images whose boxes are unknown.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    supervised: Tensor


@dataclass(frozen=True)
class Assignment:
    """positive: (B, A) bool. boxes: (B, A, 4), labels: (B, A), quality: (B, A) in [0, 1]; 0 where not positive."""

    positive: Tensor
    boxes: Tensor
    labels: Tensor
    quality: Tensor


def pad_targets(targets: Sequence[dict[str, Any]], device: torch.device) -> PaddedTargets:
    """The lists of a detection batch as padded tensors; boxes of images with `has_boxes` False are left out."""
    supervised = [bool(target["has_boxes"]) for target in targets]
    one = torch.zeros(1, 4, device=device)  # so that G is at least 1 and every reduction over it is defined
    boxes, labels = [one], [one[:, 0].long()]
    for target, known in zip(targets, supervised, strict=True):
        boxes.append(target["boxes"].to(device, torch.float32).reshape(-1, 4)[: None if known else 0])
        labels.append(target["labels"].to(device, torch.int64).reshape(-1)[: None if known else 0])
    numbers = torch.tensor([len(part) for part in boxes[1:]], device=device)
    padded = pad_sequence(boxes, batch_first=True)[1:]
    return PaddedTargets(
        boxes=padded,
        labels=pad_sequence(labels, batch_first=True)[1:],
        valid=torch.arange(padded.shape[1], device=device) < numbers[:, None],
        supervised=torch.tensor(supervised, device=device),
    )


def aligned_iou_matrix(boxes: Tensor, predicted: Tensor) -> Tensor:
    """(B, G, A) intersection over union of (B, G, 4) and (B, A, 4) xyxy boxes."""
    low = torch.maximum(boxes[:, :, None, :2], predicted[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], predicted[:, None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    area, other = ((b[..., 2:] - b[..., :2]).clamp(min=0).prod(dim=-1) for b in (boxes, predicted))
    return overlap / (area[:, :, None] + other[:, None, :] - overlap).clamp(min=1e-9)


@torch.no_grad()
def assign(
    scores: Tensor,
    predicted: Tensor,
    points: Tensor,
    strides: Tensor,
    targets: PaddedTargets,
    *,
    topk: int = 10,
    alpha: float = 0.5,
    beta: float = 6.0,
) -> Assignment:
    """Task-aligned assignment (Feng et al. 2021, TOOD, section 3.2), vectorised over images, objects and points.

    Every object takes the `topk` points within it with the largest score^alpha · IoU^beta; a point that several
    objects want goes to the one it overlaps most. The quality that its score shall reach is the alignment, scaled
    so that an object's best point has that object's best IoU. An object narrower than a stride counts as a stride
    wide when points are looked for, so that none is without one.

    scores: (B, A, C) probabilities. predicted: (B, A, 4) xyxy. points: (A, 2) x, y. strides: (A,), all in pixels.
    """
    boxes, valid = targets.boxes, targets.valid
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = torch.maximum((boxes[..., 2:] - boxes[..., :2])[:, :, None] / 2, strides[None, None, :, None] / 2)
    offset = (points[None, None] - centre[:, :, None]).abs()  # (B, G, A, 2)
    inside = (offset <= half).all(dim=-1) & valid[..., None]
    iou = aligned_iou_matrix(boxes, predicted)
    wanted = scores.transpose(1, 2).gather(1, targets.labels[..., None].expand(-1, -1, scores.shape[1]))
    alignment = wanted.pow(alpha) * iou.pow(beta)
    # The nearness of the centre decides among points whose boxes do not overlap the object yet.
    nearness = 1e-9 / (1 + (offset / half).square().sum(dim=-1))
    ranked = torch.where(inside, alignment + nearness, 0)
    best, index = ranked.topk(min(topk, ranked.shape[-1]), dim=-1)
    chosen = torch.zeros_like(inside).scatter_(-1, index, best > 0)
    overlap = torch.where(chosen, iou + nearness, 0)
    owner = overlap.argmax(dim=1)  # (B, A)
    positive = overlap.amax(dim=1) > 0
    chosen &= torch.zeros_like(chosen).scatter_(1, owner[:, None], True)
    alignment = torch.where(chosen, alignment, 0)
    reached = torch.where(chosen, iou, 0).amax(dim=-1, keepdim=True)
    quality = (alignment / alignment.amax(dim=-1, keepdim=True).clamp(min=1e-12) * reached).amax(dim=1)
    return Assignment(
        positive=positive,
        boxes=boxes.gather(1, owner[..., None].expand(-1, -1, 4)),
        labels=targets.labels.gather(1, owner),
        quality=torch.where(positive, quality, 0),
    )
