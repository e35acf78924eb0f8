"""The anomaly task: fits a network of `src.models.anomaly` and answers raw scores, maps and class probabilities."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from src.class_set import ClassSet
from src.data.transforms import PreprocessSpec
from src.models.anomaly.coreset import progress_bar
from src.models.anomaly.per_category import PerCategory
from src.models.anomaly.views import Views, predict_views
from src.tasks.anomaly_validation import validation_value
from src.tasks.batches import PredictionBatch
from src.tasks.callbacks import averaged_weights
from src.tasks.losses import total_loss
from src.tasks.mixing import Mixing
from src.tasks.networks import build_network
from src.tasks.optimization import build_optimizer, optimized


class AnomalyTask(pl.LightningModule):
    """Fit a network; predict a raw score, an anomaly map and, where it knows classes, their probabilities.

    Two kinds of network are driven alike. `memory` networks (PatchCore, PaDiM) collect features in one pass over the
    training images (several, if several epochs are asked for: each sees other augmentations) and finish once; they have
    no optimiser. `gradient` networks minimise their `loss`; those that memorise as well (`memorizes`) see the training
    images once more, unaugmented, before each validation and at the end. Supervised networks are told classes.

    Args:
        network: `_target_` and the constructor's plain keyword arguments; in the checkpoint, so that it rebuilds.
        preprocess: `PreprocessSpec.to_dict()`; stored in the checkpoint: inference never asks another configuration.
        optimization: `optimizer`, `lr`, `weight_decay`, `schedule`, `amsgrad`; empty for memory networks.
        monitor: name of the metric that picks the best epoch where validation has both classes.
        class_set: `names`, `normal` and `by_target` of the classes that a supervised network learns; None for others.
        mixing: MixUp, CutMix and label smoothing of training batches (`src.tasks.mixing`), or None.
        tta: `flip`, `rot90` and `scales` of test-time views (`src.models.anomaly.views`), or None.
        categories: names of the categories that have a network each; None for one network.
        weights: the backbone's state-dict file for the first build; not stored.
    """

    zero_shot = False

    def __init__(
        self,
        *,
        network: dict[str, Any],
        preprocess: dict[str, Any],
        optimization: dict[str, Any],
        monitor: str = "auroc",
        class_set: dict[str, Any] | None = None,
        mixing: dict[str, Any] | None = None,
        tta: dict[str, Any] | None = None,
        categories: Sequence[str] | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["weights"])
        build = functools.partial(build_network, network, initial={"weights": weights} if weights else None)
        self.network = PerCategory([build() for _ in categories], categories) if categories else build()
        self.preprocess = PreprocessSpec.from_dict(preprocess)
        self.classes = None if class_set is None else ClassSet(
            tuple(class_set["names"]), tuple(class_set["normal"]), class_set["by_target"]
        )  # fmt: skip
        self.mixing = None
        if mixing and self.classes is not None:
            self.mixing = Mixing.from_options(mixing, len(self.classes.names))
        self.views = Views.from_config(tta) if tta else None
        self.kind: str = self.network.kind
        # stages that wake later have no gradients at first, nor have networks of categories that a batch lacks, which
        # plain DDP does not expect
        partly = hasattr(self.network, "begin_epoch") or bool(categories)
        self.strategy = "ddp_find_unused_parameters_true" if partly else "auto"
        self.one_class: bool = not getattr(self.network, "supervised", False)
        self.automatic_optimization = self.kind == "gradient"
        self._finished = False
        self._memorised_at = -1
        self._validation: list[tuple[Tensor, Tensor, Tensor | None]] = []

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """One process for networks that remember training images: each of several would remember its share alone."""
        remembers = self.kind == "memory" or getattr(self.network, "memorizes", False)
        return {"devices": 1} if remembers else {}

    # -- training ---------------------------------------------------------------------------------------------------
    def configure_optimizers(self) -> Any:
        if self.kind == "memory":
            return None
        return build_optimizer(optimized(self), self.hparams["optimization"], self.trainer)

    def on_fit_start(self) -> None:
        self._validation.clear()
        data = self.trainer.datamodule
        if hasattr(self.network, "reserve"):
            rows = len(data.train_rows()) * (self.trainer.max_epochs or 1)
            self.network.reserve(rows, (self.preprocess.height, self.preprocess.width))
        if self.trainer.ckpt_path is not None:
            return
        if isinstance(self.network, PerCategory):
            self.network.learn_categories(self._training_images(data.memory_dataloader()))
            if self.kind == "gradient":
                self.network.initialise(lambda: self._training_images(data.train_dataloader()))
        elif self.kind == "gradient" and hasattr(self.network, "initialise"):
            self.network.initialise(images for images, _ in self._training_images(data.train_dataloader()))

    def _training_images(self, loader: Any) -> Iterator[tuple[Tensor, list[str | None]]]:
        for batch in loader:
            yield self._images(batch), batch.get("category")

    def _images(self, batch: dict[str, Any]) -> Tensor:
        return self.preprocess.normalize(batch["image"].to(self.device))

    def _told(self, batch: dict[str, Any]) -> tuple[Any, ...]:
        """What a network is told of its training images beside the pixels."""
        if isinstance(self.network, PerCategory):
            return (batch["category"],)
        return () if self.one_class else (batch["class"].to(self.device),)

    def on_train_epoch_start(self) -> None:
        if hasattr(self.network, "begin_epoch"):
            self.network.begin_epoch(self.current_epoch)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        images, told = self._images(batch), self._told(batch)
        if self.kind == "memory":
            self.network.collect(images, *told)
            return None
        if self.mixing is not None:
            images, *told = self.mixing(images, *told)
        losses = self.network.loss(images, *told)
        losses = losses if isinstance(losses, dict) else {"loss": losses}
        return total_loss(self, losses, size=len(images), batch_idx=batch_idx, clip=1.0)

    def _finish_memory(self) -> None:
        last_pass = self.current_epoch + 1 == self.trainer.max_epochs
        if self.kind == "memory" and last_pass and not self._finished:
            with progress_bar("memory bank") as update:
                self.network.finish(progress=update)
            self._finished = True

    @torch.no_grad()
    def _memorise(self) -> None:
        """Show a network that keeps something of its training images all of them, as they are."""
        if not getattr(self.network, "memorizes", False) or self._memorised_at == self.global_step:
            return
        training = self.training
        self.eval()
        for batch in self.trainer.datamodule.memory_dataloader():
            self.network.collect(self._images(batch), *self._told(batch))
        self.network.finish()
        self.train(training)
        self._memorised_at = self.global_step

    def on_train_epoch_end(self) -> None:
        self._finish_memory()
        out_of_steps = 0 < self.trainer.max_steps <= self.global_step
        if out_of_steps or self.current_epoch + 1 == self.trainer.max_epochs:
            with averaged_weights(self):  # those that are saved
                self._memorise()

    # -- validation -------------------------------------------------------------------------------------------------
    def on_validation_epoch_start(self) -> None:
        self._finish_memory()  # Lightning validates before the training epoch's own end
        self._memorise()
        self._validation.clear()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        output = self._answer(batch, views=None)
        known = batch["label"] if self.classes is None else batch["class"]
        chosen = None if output.probs is None else output.probs.argmax(1).cpu()
        self._validation.append((output.score.float().cpu(), known.cpu(), chosen))

    def on_validation_epoch_end(self) -> None:
        name, value = validation_value(self._validation, self.classes, self.hparams["monitor"])
        if value is None:
            return  # normal images alone rank nothing; the last epoch is kept
        self.log(f"val/{name}", value, prog_bar=True)
        self.log("val/monitor", value, logger=False)

    # -- prediction -------------------------------------------------------------------------------------------------
    def _answer(self, batch: dict[str, Any], *, views: Views | None) -> Any:
        images = self._images(batch)
        network = self.network
        if isinstance(network, PerCategory):
            network = network.told(images, batch.get("category"))
        return network(images) if views is None else predict_views(network, images, views)

    def predict_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> PredictionBatch:
        output = self._answer(batch, views=self.views)
        plane = None if output.anomaly_map is None else output.anomaly_map.float().cpu()
        probs = None if output.probs is None else output.probs.double().cpu()
        return PredictionBatch(list(batch["id"]), output.score.float().cpu(), plane, probs)

    @staticmethod
    def default_precision(accelerator: str) -> str:
        """Distances and likelihoods: half precision moves scores by more than what decides a leaderboard."""
        return "32-true"

    @property
    def loaded_weights(self) -> list[Any]:
        """Reports of what the backbone's weights file gave; empty for random and built-in features."""
        report = self.network.report if hasattr(self.network, "report") else self.network.features.report
        return [] if report is None else [report]

    def wrap_datamodule(self, datamodule: pl.LightningDataModule) -> pl.LightningDataModule:
        """The data module as this task's loops expect it: ours, as it is."""
        return datamodule
