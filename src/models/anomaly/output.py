"""What every anomaly network answers."""

from typing import NamedTuple

from torch import Tensor


class AnomalyOutput(NamedTuple):
    """Raw answers, float32, higher is more anomalous.

    score: (B,), unbounded. anomaly_map: (B, 1, H, W) at input size, None for a network that draws none. probs: (B, C)
    probabilities of the network's classes, None for a network that knows none.
    """

    score: Tensor
    anomaly_map: Tensor | None = None
    probs: Tensor | None = None
