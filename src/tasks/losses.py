"""A training step's losses: summed, held to be finite, logged."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from src.errors import ProjectError


def total_loss(task: Any, losses: Mapping[str, Tensor], *, size: int, batch_idx: int, clip: float) -> Tensor:
    """The sum of the losses, logged as `train/loss` beside each of them where there are several.

    Args:
        task: the LightningModule, whose `log` is called.
        size: images of the batch.
        clip: the `model.gradient_clip` that the message suggests.

    Raises:
        ProjectError: the sum is not finite; names the losses and what to change.
    """
    loss = torch.stack(list(losses.values())).sum()
    if not torch.isfinite(loss):
        raise ProjectError(
            f"the training loss became {loss.item()} in epoch {task.current_epoch}, batch {batch_idx} "
            f"({', '.join(f'{name} {float(value):.3g}' for name, value in losses.items())}). Lower model.lr (now "
            f"{task.hparams['optimization'].get('lr')}), set model.gradient_clip={clip:g}, or "
            "trainer.precision=32-true."
        )
    task.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=size)
    if len(losses) > 1:
        for name, value in losses.items():
            task.log(f"train/{name}", value.detach(), on_step=False, on_epoch=True, batch_size=size)
    return loss
