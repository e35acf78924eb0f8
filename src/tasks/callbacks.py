"""What every training run has: whole checkpoints, exact resumption, a progress bar that says rate and time left."""

import os
import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar, TQDMProgressBar
from lightning.pytorch.plugins.io import TorchCheckpointIO

from src.atomic import atomic_path


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it: a killed run leaves the older whole file.

    Lightning's own way goes through memory and then straight onto the target.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class GeneratorState(Callback):
    """Keeps the state of every random generator in the checkpoint, which Lightning's resume leaves out."""

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        version, internal, gauss = random.getstate()
        checkpoint["generators"] = {
            "torch": torch.get_rng_state(),
            "cuda": [state.cpu() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
            "numpy": {
                "name": str(name), "keys": torch.from_numpy(keys.astype(np.int64)), "position": int(position),
                "has_gauss": int(has_gauss), "cached": float(cached),
            },
            "python": {"version": version, "internal": list(internal), "gauss": gauss},
        }  # fmt: skip

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        self._pending = checkpoint.get("generators")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Only now: building the model and its loaders drew from the generators after the checkpoint was read.
        state, self._pending = getattr(self, "_pending", None), None
        if not state:
            return
        torch.set_rng_state(state["torch"])
        if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        kept = state["numpy"]
        keys = kept["keys"].numpy().astype(np.uint32)
        np.random.set_state((kept["name"], keys, kept["position"], kept["has_gauss"], kept["cached"]))
        kept = state["python"]
        random.setstate((kept["version"], tuple(kept["internal"]), kept["gauss"]))


def progress_bar(enabled: bool, interactive: bool) -> Callback | None:
    """A moving bar for a person; for a log file one line at a time, about every tenth of an epoch."""
    if not enabled:
        return None
    if interactive:
        return RichProgressBar(leave=True)
    return TQDMProgressBar(refresh_rate=int(os.environ.get("PROGRESS_EVERY", "50")), leave=False)

