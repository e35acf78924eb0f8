"""The anomaly task: fits a network of `src.models.anomaly` and answers raw scores and maps."""

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from src.data.transforms import PreprocessSpec
from src.errors import ProjectError
from src.models.anomaly.coreset import progress_bar
from src.tasks.batches import PredictionBatch
from src.tasks.networks import build_network
from src.tasks.optimization import build_optimizer


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
    zero_shot = False

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
        self.network = build_network(network, initial={"weights": weights})
        self.preprocess = PreprocessSpec.from_dict(preprocess)
        self.kind: str = self.network.kind
        self.automatic_optimization = self.kind == "gradient"
        self._finished = False
        self._validation: list[tuple[Tensor, Tensor]] = []

    # -- training ---------------------------------------------------------------------------------------------------
    def configure_optimizers(self) -> Any:
        if self.kind == "memory":
            return None
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        return build_optimizer(parameters, self.hparams["optimization"], self.trainer)

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

    @staticmethod
    def default_precision(accelerator: str) -> str:
        """Distances and likelihoods: half precision moves scores by more than what decides a leaderboard."""
        return "32-true"

    @property
    def loaded_weights(self) -> list[Any]:
        """Reports of what the backbone's weights file gave; empty for random and built-in features."""
        report = self.network.features.report
        return [] if report is None else [report]

    def wrap_datamodule(self, datamodule: pl.LightningDataModule) -> pl.LightningDataModule:
        """The data module as this task's loops expect it: ours, as it is."""
        return datamodule
