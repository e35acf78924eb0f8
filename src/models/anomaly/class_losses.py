"""Losses of classifiers: weighted cross entropy and the focal loss, for class numbers and for soft targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import ProjectError, nearest

LOSSES = ("cross_entropy", "focal")
CLASS_WEIGHTS = ("balanced", "effective")
# One of the values of Cui et al. 2019. Larger ones hardly differ from `balanced` below a thousand images a class.
EFFECTIVE_BETA = 0.99


def soft_targets(classes: Tensor, n_classes: int) -> Tensor:
    """Class numbers (B) int64, or soft targets (B, C) as they are → (B, C) float32.

    Raises:
        ProjectError: targets of another number of classes, or a class number outside [0, C).
    """
    if classes.ndim == 2:
        if classes.shape[1] != n_classes:
            raise ProjectError(f"targets of {classes.shape[1]} classes were given to a network of {n_classes}.")
        return classes.float()
    if len(classes) and (int(classes.min()) < 0 or int(classes.max()) >= n_classes):
        raise ProjectError(
            f"a training image has class {int(classes.min())} or {int(classes.max())}, but this network knows classes "
            f"0 to {n_classes - 1}: images of unknown class cannot train a classifier."
        )
    return F.one_hot(classes.long(), n_classes).float()


def class_weights(kind: str | None, counts: Sequence[int], n_classes: int) -> Tensor | None:
    """A weight a class, (C) float32, from the training images that it has; None for kind None.

    balanced: N / (C · n), so that each class weighs the same in all. effective: (1 − β) / (1 − βⁿ), scaled to a mean
    of 1 (Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples", equation 5 and section 4), which
    lifts rare classes less. A class without images weighs 0; N and C count the others.

    Raises:
        ProjectError: an unknown kind, or counts that are missing, negative, or all 0.
    """
    if kind is None:
        return None
    if kind not in CLASS_WEIGHTS:
        hint = nearest(kind, CLASS_WEIGHTS)
        raise ProjectError(f"model.class_weights={kind!r} is not known.{hint} Known: {', '.join(CLASS_WEIGHTS)}, null.")
    if len(counts) != n_classes or any(count < 0 for count in counts) or not any(counts):
        raise ProjectError(
            f"model.class_weights={kind} needs the number of training images of each of {n_classes} classes, but "
            f"class_counts is {list(counts)}. Set model.class_weights=null to weigh all classes alike."
        )
    n = torch.tensor([float(count) for count in counts], dtype=torch.float64)
    present = n > 0
    if kind == "balanced":
        weights = torch.where(present, n.sum() / (present.sum() * n.clamp_min(1)), 0.0)
    else:
        weights = torch.where(present, (1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA ** n.clamp_min(1)), 0.0)
        weights = weights * present.sum() / weights.sum()
    return weights.float()


def class_loss(logits: Tensor, targets: Tensor, *, gamma: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Weighted mean of −Σ_c w_c y_c (1 − p_c)^γ log p_c over the batch; a scalar, float32.

    γ = 0 is the cross entropy; with γ > 0 it is the focal loss (Lin et al. 2017, "Focal Loss for Dense Object
    Detection", equation 5) of a softmax instead of sigmoids, each class of a soft target focused by its own
    probability. As in torch's `cross_entropy`, the weights of all targets sum to 1.

    Args:
        logits: (B, C).
        targets: (B, C), rows that sum to 1.
        weights: (C), or None for 1 each.
    """
    log_probs = F.log_softmax(logits.float(), dim=1)
    terms = -targets * log_probs
    if gamma:
        # 1 − p by expm1: the difference would lose all digits where p is near 1
        terms = terms * (-torch.expm1(log_probs)).clamp_min(0) ** gamma
    if weights is None:
        return terms.sum(1).mean()
    return (terms * weights).sum() / (targets * weights).sum().clamp_min(1e-12)
