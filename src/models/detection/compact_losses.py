"""Losses of the compact detector: quality-aware classification and generalised IoU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def quality_focal_loss(logits: Tensor, quality: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Quality focal loss (Li et al. 2020, Generalized Focal Loss, equation 2), an element each.

    logits and quality: the same shape; quality in [0, 1] is the score wanted, 0 for background.
    """
    distance = (logits.sigmoid() - quality).abs().pow(gamma)
    return distance * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def generalized_iou_loss(predicted: Tensor, boxes: Tensor) -> Tensor:
    """1 − GIoU (Rezatofighi et al. 2019) of (N, 4) xyxy boxes pair by pair: (N,), in [0, 2]."""
    overlap = _area(torch.maximum(predicted[:, :2], boxes[:, :2]), torch.minimum(predicted[:, 2:], boxes[:, 2:]))
    union = _area(predicted[:, :2], predicted[:, 2:]) + _area(boxes[:, :2], boxes[:, 2:]) - overlap
    hull = _area(torch.minimum(predicted[:, :2], boxes[:, :2]), torch.maximum(predicted[:, 2:], boxes[:, 2:]))
    return 1 - overlap / union.clamp(min=1e-9) + (hull - union) / hull.clamp(min=1e-9)


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(dim=-1)
