"""The caption task: trains any captioner of `src.models.caption`, answers several candidates an image."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from src.captions.decoding import Candidate, Decoding
from src.captions.soundness import Soundness
from src.data.sampler import hash_ids
from src.data.transforms import PreprocessSpec
from src.tasks.batches import CaptionBatch
from src.tasks.half_precision import half_precision
from src.tasks.losses import total_loss
from src.tasks.networks import build_network
from src.tasks.optimization import build_optimizer, optimized

PLACEHOLDER = "?"  # stands where a network wrote nothing at all; it is degenerate, so that it is replaced later


class CaptionTask(pl.LightningModule):
    """Minimise a captioner's losses, or fill its memory; predict candidates with their scores.

    `gradient` networks minimise the sum of their losses. `memory` networks (nearest neighbour, a bank of captions) see
    the training pictures once. Zero-shot ones are not trained at all.

    Where none of an image's candidates may stand (`src.captions.soundness`), it is decoded once more by `retry`, and
    the row says so; what is still wrong then is replaced later, when the decision is made.

    Args:
        network: `_target_` and the constructor's plain keyword arguments; in the checkpoint, so that it rebuilds.
        preprocess: `PreprocessSpec.to_dict()`; stored in the checkpoint: inference never asks another configuration.
        optimization: `optimizer`, `lr`, `weight_decay`, `schedule`, `warmup`; empty where nothing is trained.
        decoding, retry: `Decoding` options as dicts; `retry` holds what differs from `decoding`, None: no second try.
        monitor: the competition's metric, by which the best epoch is picked (of greedy captions).
        soundness: `Soundness.to_dict()` of the training captions: what a caption may be; None: any Korean sentence.
        captions_per_image: how many references of an image a step trains on, drawn anew each epoch; None: all.
        scorer: options of a `ClipScorer` whose similarities are kept beside the candidates, or None.
        initial, scorer_initial: what the network and the scorer get at their first construction alone; not stored.
    """

    one_class = False
    # Several devices: captioners have parts that not every step trains (frozen towers, unused heads).
    strategy = "ddp_find_unused_parameters_true"
    default_precision = staticmethod(half_precision)

    def __init__(
        self,
        *,
        network: dict[str, Any],
        preprocess: dict[str, Any],
        optimization: dict[str, Any],
        decoding: dict[str, Any],
        retry: dict[str, Any] | None = None,
        monitor: str = "cider_d",
        soundness: dict[str, Any] | None = None,
        captions_per_image: int | None = None,
        scorer: dict[str, Any] | None = None,
        initial: dict[str, Any] | None = None,
        scorer_initial: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["initial", "scorer_initial"])
        self.network = build_network(network, initial=initial)
        self.preprocess = PreprocessSpec.from_dict(preprocess)
        self._set_decoding(decoding)
        self.soundness = Soundness() if soundness is None else Soundness.from_dict(soundness)
        self.kind: str = self.network.kind
        self.zero_shot: bool = self.network.zero_shot
        self.automatic_optimization = self.kind == "gradient"
        self.scorer = None if scorer is None else build_network(scorer, initial=scorer_initial)
        if self.scorer is not None:
            self.scorer.requires_grad_(False)
        self.taken_over: str | None = None
        self._finished = False
        self._validation: dict[str, str] = {}

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """A memory is filled by one process: its parts are not gathered from several."""
        return {"devices": 1} if self.kind == "memory" else {}

    # -- what is saved ----------------------------------------------------------------------------------------------
    @property
    def strict_loading(self) -> bool:
        """False where frozen weights of a published checkpoint are left out of ours; they are found where they were."""
        return not self._leaves_out_frozen

    @property
    def _leaves_out_frozen(self) -> bool:
        return getattr(self.network, "frozen_source", None) is not None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._leaves_out_frozen:
            kept = {f"network.{name}" for name in self.network.trainable_state()}
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {
                name: value for name, value in state.items() if name in kept or not name.startswith("network.")
            }
            checkpoint["frozen_source"] = dict(self.network.frozen_source)

    # -- training ---------------------------------------------------------------------------------------------------
    def configure_optimizers(self) -> Any:
        if self.kind == "memory":
            return None
        return build_optimizer(optimized(self), self.hparams["optimization"], self.trainer)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        if self.kind == "memory":
            self.network.collect(self._images(batch), batch["captions"], batch["id"])
            return None
        losses = self.network.loss(self._images(batch), batch["captions"])
        return total_loss(self, losses, size=len(batch["id"]), batch_idx=batch_idx, clip=1)

    def _images(self, batch: dict[str, Any]) -> Tensor:
        return self.preprocess.normalize(batch["image"])

    def _finish_memory(self) -> None:
        last_pass = self.current_epoch + 1 == self.trainer.max_epochs
        if self.kind == "memory" and last_pass and not self._finished and self.trainer.state.fn == "fit":
            self.network.finish()
            self._finished = True

    def on_train_epoch_end(self) -> None:
        self._finish_memory()

    # -- validation -------------------------------------------------------------------------------------------------
    def on_validation_epoch_start(self) -> None:
        self._finish_memory()  # Lightning validates before the training epoch's own end
        self._validation.clear()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        quick = Decoding.from_dict({**self.decoding.to_dict(), "method": "greedy", "candidates": 1})
        found = self.network.generate(self._images(batch), quick, seeds=_seeds(batch["id"]))
        self._validation.update(zip(batch["id"], (each[0].text for each in found), strict=True))

    def on_validation_epoch_end(self) -> None:
        from src.metrics.registry import get_metric

        rows = self.trainer.datamodule.val_rows()
        known = [
            (self._validation[name], captions)
            for name, captions in zip(rows["id"], rows["captions"], strict=True)
            if name in self._validation and captions
        ]
        if not known:
            return  # no reference: epochs cannot be compared, and the last one is kept
        metric = get_metric(self.hparams["monitor"])
        value = metric.value([text for text, _ in known], [captions for _, captions in known])
        if value is None:
            return
        label = metric.name.partition("@")[0].strip()
        self.log(f"val/{label if label.isidentifier() else 'metric'}", value, prog_bar=True)
        self.log("val/monitor", value, logger=False)

    # -- prediction -------------------------------------------------------------------------------------------------
    def predict_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> CaptionBatch:
        images, ids = self._images(batch), list(batch["id"])
        found = [_written(each) for each in self.network.generate(images, self.decoding, seeds=_seeds(ids))]
        flags: list[list[str]] = [[] for _ in ids]
        again = [index for index, each in enumerate(found) if not self._sound(each)]
        if again and self.retry is not None and self.kind == "gradient":
            second = self.network.generate(images[again], self.retry, seeds=_seeds([ids[index] for index in again]))
            for index, each in zip(again, map(_written, second), strict=True):
                flags[index].append("retried")
                found[index] = self._sound(each) or found[index] or each
        for index, each in enumerate(found):
            if not each:
                found[index] = [Candidate(PLACEHOLDER, 0.0)]
                flags[index].append("empty")
        scores = None
        if self.scorer is not None:
            scores = self.scorer.scores(batch["image"], [[c.text for c in each] for each in found])
        return CaptionBatch(ids, found, scores, flags)

    def _sound(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return [each for each in candidates if not self.soundness.problems(each.text)]

    def decode_otherwise(self, changes: dict[str, Any]) -> None:
        """Decode by other options than those that the checkpoint holds."""
        self._set_decoding({**self.decoding.to_dict(), **changes})

    def _set_decoding(self, options: dict[str, Any]) -> None:
        retry = self.hparams["retry"]
        self.decoding = Decoding.from_dict(options)
        self.retry = None if retry is None else Decoding.from_dict({**options, **retry})

    @property
    def loaded_weights(self) -> list[Any]:
        """Reports of what weights files gave; empty where nothing was loaded."""
        reports = [getattr(self.network, "report", None), getattr(self.scorer, "report", None), self.taken_over]
        return [report for report in reports if report is not None]

    @property
    def samples(self) -> dict[str, Any]:
        """What the data module must know to make samples for this task."""
        each = None if self.kind == "memory" else self.hparams["captions_per_image"]  # a memory keeps all of them
        return {"targets": "caption", "captions_per_image": each}

    def wrap_datamodule(self, datamodule: pl.LightningDataModule) -> pl.LightningDataModule:
        """The data module as this task's loops expect it: ours, as it is."""
        return datamodule


def _written(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [each for each in candidates if each.text.strip()]


def _seeds(ids: Sequence[str]) -> list[int]:
    """One number an image, its id's own: what is sampled for it does not depend on the batch that it is in."""
    return [int(value) & 0x7FFFFFFF for value in hash_ids(list(map(str, ids)))]
