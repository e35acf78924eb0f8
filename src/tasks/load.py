"""A task from its checkpoint alone, whichever task it is."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from src.errors import ProjectError


def load_task(checkpoint: Path) -> pl.LightningModule:
    """Rebuild a task, its network and its preprocessing from a checkpoint alone, in eval mode on the CPU.

    Raises:
        ProjectError: the file is missing, cut short, or was not written by this project.
    """
    if not checkpoint.is_file():
        raise ProjectError(f"{checkpoint} is missing. Train the run first, or continue it with resume=true.")
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        hyperparameters = state["hyper_parameters"]
    except Exception as error:  # a zip cut short, a pickle that is refused, another kind of file: all the same remedy
        raise ProjectError(
            f"{checkpoint} cannot be read ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "Train the fold again, or copy the file once more if it was copied."
        ) from error
    if "network" not in hyperparameters:
        from src.tasks.anomalib_adapter import load_adapted

        return load_adapted(checkpoint)
    if "decoding" in hyperparameters:
        return _load_caption(state, hyperparameters)
    if "classes" in hyperparameters:
        from src.tasks.detection import DetectionTask as Task
    else:
        from src.tasks.anomaly import AnomalyTask as Task
    task = Task(**hyperparameters)
    task.load_state_dict(state["state_dict"])
    return task.eval()


def _load_caption(state: dict[str, Any], hyperparameters: dict[str, Any]) -> pl.LightningModule:
    """A captioner; one that was fine-tuned in a few parts finds the frozen rest where its weights came from."""
    from src.tasks.caption import CaptionTask

    frozen = state.get("frozen_source")
    if frozen is None:
        task = CaptionTask(**hyperparameters)
        task.load_state_dict(state["state_dict"])
        return task.eval()
    from src.tasks.frozen_weights import find_frozen

    task = CaptionTask(**hyperparameters, initial=find_frozen(frozen))
    unexpected = task.load_state_dict(state["state_dict"], strict=False).unexpected_keys
    if unexpected:
        raise ProjectError(f"the checkpoint has weights that its network has not, {unexpected[0]} among them.")
    return task.eval()
