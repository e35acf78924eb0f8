"""The loss of a set of predictions against a set of boxes: one-to-one matching, focal scores, L1 and GIoU.

For the detectors to which transformers gives no loss. DETR (Carion et al. 2020, arXiv:2005.12872, section 3.1) with the
focal classification of Deformable DETR (Zhu et al. 2021); OWL-ViT (Minderer et al. 2022, arXiv:2205.06230, section 3.2)
is fine-tuned so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss, sigmoid_focal_loss

CLASS_WEIGHT, BOX_WEIGHT, GIOU_WEIGHT = 2.0, 5.0, 2.0  # Deformable DETR's weights, in the match and in the loss
ALPHA, GAMMA = 0.25, 2.0


def match(logits: Tensor, boxes: Tensor, labels: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The cheapest one-to-one pairing of one image's predictions with its objects.

    Args:
        logits: (Q, C) raw scores; boxes: (Q, 4) cxcywh in the unit range.
        labels: (N,) class indices; target: (N, 4) cxcywh in the unit range.

    Returns:
        (min(Q, N),) indices of predictions and of objects.
    """
    from scipy.optimize import linear_sum_assignment

    with torch.no_grad():
        probability = logits.float().sigmoid()[:, labels]
        positive = ALPHA * (1 - probability) ** GAMMA * -(probability + 1e-8).log()
        negative = (1 - ALPHA) * probability**GAMMA * -(1 - probability + 1e-8).log()
        distance = torch.cdist(boxes.float(), target.float(), p=1)
        overlap = generalized_box_iou(*(box_convert(b.float(), "cxcywh", "xyxy") for b in (boxes, target)))
        cost = CLASS_WEIGHT * (positive - negative) + BOX_WEIGHT * distance - GIOU_WEIGHT * overlap
        worst = torch.finfo(torch.float32).max / 4
        cost = cost.nan_to_num(worst, worst, worst).cpu()
    rows, columns = linear_sum_assignment(cost.numpy())
    return torch.as_tensor(rows, device=logits.device), torch.as_tensor(columns, device=logits.device)


def set_loss(
    logits: Tensor, boxes: Tensor, labels: Sequence[Tensor], targets: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Weighted losses of a batch, each divided by its number of objects.

    Args:
        logits: (B, Q, C) raw scores; boxes: (B, Q, 4) cxcywh in the unit range.
        labels: B × (N,) class indices; targets: B × (N, 4) cxcywh in the unit range.
    """
    number = max(sum(len(row) for row in labels), 1)
    wanted = torch.zeros_like(logits)
    box_loss, giou_loss = boxes.sum() * 0, boxes.sum() * 0
    for index, (label, target) in enumerate(zip(labels, targets, strict=True)):
        if len(label) == 0:
            continue
        rows, columns = match(logits[index], boxes[index], label, target)
        wanted[index, rows, label[columns]] = 1
        found, truth = boxes[index][rows], target[columns].to(boxes.dtype)
        box_loss = box_loss + functional.l1_loss(found, truth, reduction="sum")
        pair = [box_convert(b, "cxcywh", "xyxy") for b in (found, truth)]
        giou_loss = giou_loss + generalized_box_iou_loss(*pair, reduction="sum")
    focal = sigmoid_focal_loss(logits, wanted, alpha=ALPHA, gamma=GAMMA, reduction="sum")
    return {
        "loss_class": CLASS_WEIGHT * focal / number,
        "loss_box": BOX_WEIGHT * box_loss / number,
        "loss_giou": GIOU_WEIGHT * giou_loss / number,
    }
