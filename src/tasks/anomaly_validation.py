"""What picks the best epoch of an anomaly network: one number from the held-out rows' answers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from src.calibration.comparison import CLASS_METRICS
from src.class_set import ClassSet
from src.metrics.registry import get_metric


def validation_value(
    found: Sequence[tuple[Tensor, Tensor, Tensor | None]], classes: ClassSet | None, monitor: str
) -> tuple[str, float | None]:
    """(name, value) of what picks the best epoch, from scores, known classes (-1: unknown) and chosen classes a batch.

    Metrics that compare several classes are taken of the chosen class where classes are targets. Other metrics of a
    decision depend on a threshold that is tuned later, and the AUROC stands in for them. The value is None where one
    class is all there is.
    """
    scores = torch.cat([score for score, _, _ in found]).numpy()
    codes = torch.cat([code for _, code, _ in found]).numpy()
    known = codes >= 0
    metric = get_metric(monitor)
    if classes is not None and classes.by_target and metric.name in CLASS_METRICS:
        chosen = torch.cat([choice for _, _, choice in found]).numpy()
        return metric.name, metric.value(chosen[known], codes[known])
    labels = codes if classes is None else np.where(known, ~np.take(classes.normal_mask, codes), -1).astype(np.int64)
    metric = metric if metric.needs == "score" else get_metric("auroc")
    if len(set(labels[known].tolist())) < 2:
        return metric.name, None
    return metric.name, metric.value(scores[known], labels[known])
