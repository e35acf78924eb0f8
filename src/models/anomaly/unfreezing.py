"""Layers of a network from its input to its head: rates that fall with depth, stages that wake one after another."""

from __future__ import annotations

from typing import Any

from torch import nn


def layer_ids(model: nn.Module, *, coarse: bool) -> dict[str, int]:
    """Parameter name → its layer, from 0 (stem) to the largest (head), as timm orders them.

    `coarse` counts stages instead of blocks. A model for which timm knows no order has two layers: body and head.
    """
    from timm.models import group_parameters

    if hasattr(model, "group_matcher"):
        return group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    head = {id(parameter) for parameter in head_parameters(model).values()}
    return {name: int(id(parameter) in head) for name, parameter in model.named_parameters()}


def head_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The classifier's own parameters of a timm model, by name."""
    found = model.get_classifier()
    modules = found if isinstance(found, tuple | list) else [found]
    own = {id(parameter) for module in modules for parameter in module.parameters()}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in own}


def layered_groups(
    model: nn.Module, *, lr: float, weight_decay: float, backbone_lr: float, layer_decay: float
) -> list[dict[str, Any]]:
    """All parameters of a timm model as optimiser groups of {"params", "lr", "weight_decay"}, from stem to head.

    A block learns at `lr · backbone_lr · layer_decay^d`, d being its distance from the head (BEiT: Bao et al. 2021,
    appendix; Clark et al. 2020, ELECTRA); the head at `lr`. Biases, norms and what the model itself exempts do not
    decay. Parameters that are frozen now are in: they may wake later.
    """
    ids = layer_ids(model, coarse=False)
    last = max(ids.values())
    head = head_parameters(model)
    exempt = set(model.no_weight_decay()) if hasattr(model, "no_weight_decay") else set()
    groups: dict[tuple[int, bool, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and name not in exempt
        rate = lr if name in head else lr * backbone_lr * layer_decay ** (last - ids[name])
        key = (ids[name], name in head, decays)
        group = {"params": [], "lr": rate, "weight_decay": weight_decay if decays else 0.0}
        groups.setdefault(key, group)["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


class GradualUnfreezing:
    """Stages of a timm model that begin to learn one after another, the head first (Howard and Ruder 2018, ULMFiT 3.3).

    The head and `epoch // every` stages before it learn in an epoch; with `every` 0 all learn from the beginning.
    """

    def __init__(self, model: nn.Module, every: int) -> None:
        self.every = every
        self._ids = layer_ids(model, coarse=True)
        self.stages = max(self._ids.values()) + 1

    def open(self, model: nn.Module, epoch: int) -> None:
        """Let exactly those parameters have gradients that learn in this epoch, counted from 0."""
        awake = self.stages if self.every == 0 else 1 + epoch // self.every
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self._ids[name] >= self.stages - awake)


def hold_frozen(module: nn.Module) -> None:
    """Put every part of which no parameter learns in eval mode: its batch norms keep their statistics."""
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            child.eval()
        else:
            hold_frozen(child)


def hold_batch_norms(module: nn.Module) -> None:
    """Put every batch norm in eval mode: its statistics stay, its scale and shift may still learn."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
