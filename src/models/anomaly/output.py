"""What every anomaly network answers."""

from typing import NamedTuple

from torch import Tensor


class AnomalyOutput(NamedTuple):
    """Raw answers, float32, higher is more anomalous: `score` (B,) and `anomaly_map` (B, 1, H, W) at input size."""

    score: Tensor
    anomaly_map: Tensor
