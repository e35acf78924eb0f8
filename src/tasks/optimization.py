"""Optimisers and learning-rate schedules by name, for every task."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from src.errors import ProjectError, nearest

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine")


def build_optimizer(parameters: Sequence[Any], options: dict[str, Any], trainer: Any) -> Any:
    """What `configure_optimizers` answers, for parameters or parameter groups.

    Args:
        options: `optimizer` adam | adamw | sgd (Nesterov momentum 0.9), `lr`, `weight_decay`, `schedule` constant |
            cosine (to zero at the last step), `warmup` (share of all steps with a linearly rising rate), `amsgrad`.
        trainer: asked for the number of steps.

    Raises:
        ProjectError: an unknown optimiser or schedule, or a warm-up outside [0, 1).
    """
    name, lr, decay = options.get("optimizer", "adam"), options["lr"], options.get("weight_decay", 0.0)
    if name == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=decay
        )
    elif name in OPTIMIZERS:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        optimizer = kind(parameters, lr=lr, weight_decay=decay, amsgrad=options.get("amsgrad", False))
    else:
        known = ", ".join(OPTIMIZERS)
        raise ProjectError(f"model.optimizer={name!r} is not known.{nearest(name, OPTIMIZERS)} Known: {known}.")
    schedule, warmup = options.get("schedule", "constant"), options.get("warmup") or 0.0
    if schedule not in SCHEDULES:
        raise ProjectError(f"model.schedule={schedule!r} is not known. Known: {', '.join(SCHEDULES)}.")
    if not 0 <= warmup < 1:
        raise ProjectError(f"model.warmup={warmup!r}: expected a share of the steps from 0 to below 1, such as 0.05.")
    if schedule == "constant" and not warmup:
        return optimizer
    steps = max(1, int(trainer.estimated_stepping_batches))
    rising = round(warmup * steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        if schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def optimized(task: Any) -> list[Any]:
    """Parameter groups by the network's own rule, where it has one, else all parameters that train."""
    options = task.hparams["optimization"]
    if hasattr(task.network, "parameter_groups"):
        return task.network.parameter_groups(options["lr"], options.get("weight_decay", 0.0))
    return [parameter for parameter in task.network.parameters() if parameter.requires_grad]
