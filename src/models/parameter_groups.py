"""Optimiser groups of a network: pretrained parts at a rate of their own, biases and norms without decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def grouped(
    network: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    factor: float,
    pretrained: Callable[[str, nn.Parameter], bool],
) -> list[dict[str, Any]]:
    """The trainable parameters in groups of {"params", "lr", "weight_decay"}, in the order in which they first occur.

    Those of which `pretrained(name, parameter)` is true learn at `lr · factor`; those of one dimension or none (biases,
    scales of norms) do not decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rate = lr * (factor if pretrained(name, parameter) else 1.0)
            groups.setdefault((rate, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]
