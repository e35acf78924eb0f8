"""What every anomaly network answers."""

from typing import NamedTuple

from torch import Tensor


class AnomalyOutput(NamedTuple):
    """Raw answers; higher is more anomalous. `score` is (B,) float32, `anomaly_map` is (B, 1, H, W) float32 at input size."""

    score: Tensor
    anomaly_map: Tensor
