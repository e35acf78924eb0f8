"""What every training run has: whole checkpoints, exact resumption, a progress bar that says rate and time left."""

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO

from src.atomic import atomic_path
from src.errors import ProjectError


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


def averaging(decay: float | None) -> list[Callback]:
    """The averaging of weights that a model asks for by `ema` (its decay); none for null or 0.

    Raises:
        ProjectError: the decay is not below 1.
    """
    if not decay:
        return []
    if not 0 < decay < 1:
        raise ProjectError(f"model.ema={decay!r}: expected a decay between 0 and 1, such as 0.999, or null.")
    return [MovingAverage(decay)]


class MovingAverage(WeightAveraging):
    """An exponential moving average of weights and buffers: what validates, and what is saved, is the average.

    The decay rises to its value as (1 + n) / (10 + n) over the n updates so far (as TensorFlow's does), so that a short
    training is not held at its random beginning.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, updates: Any) -> None:
        done = int(updates)
        decay = min(self.decay, (1 + done) / (10 + done))
        if torch.is_floating_point(averaged[0]):  # torch groups them by kind
            torch._foreach_lerp_(list(averaged), list(current), 1 - decay)
        else:
            torch._foreach_copy_(list(averaged), list(current))  # counters of batches


@contextlib.contextmanager
def averaged_weights(task: pl.LightningModule) -> Iterator[None]:
    """The averaged weights and buffers in place of the current ones, where training averages; else nothing changes."""
    averages = [callback for callback in task.trainer.callbacks if isinstance(callback, MovingAverage)]
    for average in averages:
        average._swap_models(task)
    try:
        yield
    finally:
        for average in averages:
            average._swap_models(task)


def progress_bar(enabled: bool, interactive: bool) -> Callback | None:
    """A moving bar for a person; for a log file a line now and then. Both say the rate and the time left."""
    if not enabled:
        return None
    return RichProgressBar(leave=True) if interactive else LineProgress()


class LineProgress(Callback):
    """Progress where no terminal is: one plain line every `seconds`, nothing for what is quicker."""

    def __init__(self, seconds: float = 15.0) -> None:
        self.seconds = seconds

    def _begin(self, what: str, total: float) -> None:
        self._what, self._total, self._done, self._first = what, total, 0, 0
        self._start = self._told = time.monotonic()

    def _advance(self, extra: str = "") -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._told < self.seconds:
            return
        self._told = now
        rate = (self._done - self._first) / (now - self._start)
        left = (self._total - self._done) / rate
        count = f"{self._done}/{self._total:.0f}"
        print(f"{self._what:<9} {count} batches, {rate:.2f}/s, {_clock(left)} left{extra}", flush=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else 1
        total = trainer.num_training_batches * epochs
        self._begin("fit", trainer.max_steps if trainer.max_steps > 0 else total)
        self._done = self._first = trainer.global_step  # more than 0 in a resumed run

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        shown = {k: float(v) for k, v in trainer.progress_bar_metrics.items() if k != "v_num"}
        self._advance("".join(f", {name} {value:.4g}" for name, value in shown.items()))

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin("predict", sum(trainer.num_predict_batches))

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._advance()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
