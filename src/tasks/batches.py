"""What every task's predict_step answers, one batch at a time."""

from typing import NamedTuple

from torch import Tensor


class PredictionBatch(NamedTuple):
    """Raw anomaly answers for a batch, on the CPU, higher is more anomalous.

    `ids` are the sample ids in batch order, `scores` is (B,) float32, `maps` is (B, 1, H, W) float32 at
    the network's input size, or None for a model that draws no map.
    """

    ids: list[str]
    scores: Tensor
    maps: Tensor | None
