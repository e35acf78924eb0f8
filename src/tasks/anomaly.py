"""The anomaly task: fits a network of `src.models.anomaly` and answers raw scores and maps."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from src.data.transforms import PreprocessSpec
from src.errors import ProjectError, nearest
from src.models.anomaly.coreset import progress_bar
from src.tasks.batches import PredictionBatch

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine")


def network_class(target: str) -> type[nn.Module]:
    """The class that a model YAML names under `_target_`; only this project's own models may be named.

    Raises:
        ProjectError: the path is outside `src.models`, or there is no such module or class.
    """
    module_name, _, class_name = target.rpartition(".")
    if not module_name.startswith("src.models."):
        raise ProjectError(f"model._target_={target!r} is not below src.models. Name one of this project's networks.")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not error.name.startswith("src"):
            raise  # a missing library, not a misspelt target
        raise ProjectError(f"model._target_={target!r}: there is no module {module_name}.") from error
    classes = {name: c for name, c in vars(module).items() if inspect.isclass(c) and issubclass(c, nn.Module)}
    if class_name not in classes:
        raise ProjectError(f"model._target_={target!r}: no class {class_name} there.{nearest(class_name, classes)}")
    return classes[class_name]


def network_options(target: str) -> set[str]:
    """Names of the keyword arguments that a network's constructor takes."""
    return set(inspect.signature(network_class(target).__init__).parameters) - {"self"}


def build_network(options: dict[str, Any], *, weights: str | None = None) -> nn.Module:
    """Construct a network from its plain options (`_target_` and keyword arguments).

    `weights` is the backbone's state-dict file, or None: random, which loading a checkpoint then replaces.

    Raises:
        ProjectError: an option that the class does not take, or one that it needs is missing.
    """
    options = dict(options)
    target = options.pop("_target_")
    accepted = network_options(target)
    for name in options:
        if name not in accepted:
            raise ProjectError(f"model.{name}: {target} takes no such option.{nearest(name, accepted)}")
    if "weights" in accepted:
        options["weights"] = weights
    return network_class(target)(**options)


class AnomalyTask(pl.LightningModule):
    """Fit a network on normal images; predict a raw score and an anomaly map per image.

    Two kinds of network are driven alike. `memory` networks (PatchCore, PaDiM) collect features in one pass over the
    training images (several, if several epochs are asked for: each sees other augmentations) and finish once; they have
    no optimiser. `gradient` networks (FastFlow, CFA) minimise their `loss`.

    Args:
        network: `_target_` and the constructor's plain keyword arguments; in the checkpoint, so that it rebuilds.
        preprocess: `PreprocessSpec.to_dict()`; stored in the checkpoint: inference never asks another configuration.
        optimization: `optimizer`, `lr`, `weight_decay`, `schedule`, `amsgrad`; empty for memory networks.
        monitor: name of the metric of (scores, labels) that picks the best epoch where validation has both classes.
        weights: the backbone's state-dict file for the first build; not stored.
    """

    one_class = True

    def __init__(
        self,
        *,
        network: dict[str, Any],
        preprocess: dict[str, Any],
        optimization: dict[str, Any],
        monitor: str = "auroc",
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["weights"])
        self.network = build_network(network, weights=weights)
        self.preprocess = PreprocessSpec.from_dict(preprocess)
        self.kind: str = self.network.kind
        self.automatic_optimization = self.kind == "gradient"
        self._finished = False
        self._validation: list[tuple[Tensor, Tensor]] = []

    # -- training ---------------------------------------------------------------------------------------------------
    def configure_optimizers(self) -> Any:
        if self.kind == "memory":
            return None
        options = self.hparams["optimization"]
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        name, lr, decay = options.get("optimizer", "adam"), options["lr"], options.get("weight_decay", 0.0)
        if name == "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=decay)
        elif name in OPTIMIZERS:
            kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
            optimizer = kind(parameters, lr=lr, weight_decay=decay, amsgrad=options.get("amsgrad", False))
        else:
            known = ", ".join(OPTIMIZERS)
            raise ProjectError(f"model.optimizer={name!r} is not known.{nearest(name, OPTIMIZERS)} Known: {known}.")
        schedule = options.get("schedule", "constant")
        if schedule == "constant":
            return optimizer
        if schedule != "cosine":
            raise ProjectError(f"model.schedule={schedule!r} is not known. Known: {', '.join(SCHEDULES)}.")
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

    def on_fit_start(self) -> None:
        self._validation.clear()
        if hasattr(self.network, "reserve"):
            rows = len(self.trainer.datamodule.train_rows()) * (self.trainer.max_epochs or 1)
            self.network.reserve(rows, (self.preprocess.height, self.preprocess.width))
        if self.kind == "gradient" and self.trainer.ckpt_path is None and hasattr(self.network, "initialise"):
            self.network.initialise(self._normalized_training_images())

    def _normalized_training_images(self) -> Iterator[Tensor]:
        for batch in self.trainer.datamodule.train_dataloader():
            yield self.preprocess.normalize(batch["image"].to(self.device))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        images = self.preprocess.normalize(batch["image"])
        if self.kind == "memory":
            self.network.collect(images)
            return None
        loss = self.network.loss(images)
        if not torch.isfinite(loss):
            raise ProjectError(
                f"the training loss became {loss.item()} in epoch {self.current_epoch}, batch {batch_idx}. "
                f"Lower model.lr (now {self.hparams['optimization'].get('lr')}), or set trainer.precision=32-true."
            )
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss

    def _finish_memory(self) -> None:
        last_pass = self.current_epoch + 1 == self.trainer.max_epochs
        if self.kind == "memory" and last_pass and not self._finished:
            with progress_bar("memory bank") as update:
                self.network.finish(progress=update)
            self._finished = True

    def on_train_epoch_end(self) -> None:
        self._finish_memory()

    # -- validation -------------------------------------------------------------------------------------------------
    def on_validation_epoch_start(self) -> None:
        self._finish_memory()  # Lightning validates before the training epoch's own end
        self._validation.clear()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        output = self.network(self.preprocess.normalize(batch["image"]))
        self._validation.append((output.score.float().cpu(), batch["label"].cpu()))

    def on_validation_epoch_end(self) -> None:
        from src.metrics.registry import get_metric

        scores = torch.cat([s for s, _ in self._validation]).numpy()
        labels = torch.cat([t for _, t in self._validation]).numpy()
        known = labels >= 0
        if len(set(labels[known].tolist())) < 2:
            return  # normal images alone rank nothing; the last epoch is kept
        metric = get_metric(self.hparams["monitor"])
        if metric.needs != "score":
            metric = get_metric("auroc")  # metrics of decisions depend on a threshold that is tuned later
        value = float(metric.function(scores[known], labels[known]))
        self.log(f"val/{metric.name}", value, prog_bar=True)
        self.log("val/monitor", value, logger=False)

    # -- prediction -------------------------------------------------------------------------------------------------
    def predict_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> PredictionBatch:
        output = self.network(self.preprocess.normalize(batch["image"]))
        return PredictionBatch(list(batch["id"]), output.score.float().cpu(), output.anomaly_map.float().cpu())

    @property
    def loaded_weights(self) -> list[Any]:
        """Reports of what the backbone's weights file gave; empty for random and built-in features."""
        report = self.network.features.report
        return [] if report is None else [report]

    def wrap_datamodule(self, datamodule: pl.LightningDataModule) -> pl.LightningDataModule:
        """The data module as this task's loops expect it: ours, as it is."""
        return datamodule


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
    task = AnomalyTask(**hyperparameters)
    task.load_state_dict(state["state_dict"])
    return task.eval()
