"""One fold of a run: fit or resume, then predict the held-out and the test rows, each step skipped once it is done."""

import os
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar

from src.atomic import atomic_path
from src.cli import interactive
from src.data.datamodule import DataModule
from src.flows import flow_of
from src.job import Job
from src.metrics.registry import get_metric
from src.predictions import write_map, write_predictions
from src.runs import write_record
from src.schemas import schema_of
from src.tasks.callbacks import GeneratorState, WholeCheckpointIO, averaging, progress_bar
from src.tasks.load import load_task


class PredictionWriter(Callback):
    """Collects rows batch by batch and writes each anomaly map as it comes, so that maps never pile up in memory.

    Maps go to `folder`/maps/<prefix>_<row>.npy.
    """

    def __init__(self, folder: Path, prefix: str, fold: int) -> None:
        self.folder, self.prefix, self.fold = folder, prefix, fold
        self.rows: list[dict[str, Any]] = []

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        first = len(self.rows)
        rows = outputs.rows(lambda index, plane: write_map(self.folder, f"{self.prefix}_{first + index:06d}", plane))
        self.rows += [{**row, "fold": self.fold} for row in rows]


class FoldRun:
    """Fits one fold and writes fold_<k>/{best.ckpt,last.ckpt,oof.parquet,test.parquet,fit.json}."""

    def __init__(self, job: Job, fold: int) -> None:
        self.job, self.fold, self.folder = job, fold, job.run.fold(fold)
        self.flow = flow_of(job.config["task"])

    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return all((self.folder / name).is_file() for name in ("fit.json", "oof.parquet", "test.parquet"))

    def execute(self, task: pl.LightningModule, data: DataModule) -> None:
        """Do what is left of this fold; `data` stands at it already."""
        if not (self.folder / "fit.json").is_file():
            with self.job.clock.phase("fit"):
                self._fit(task, data)
        task = load_task(self.folder / "best.ckpt")  # what predicts is what was saved
        with self.job.clock.phase("predict"):
            self._predict(task, data, "oof")
            self._predict(task, data, "test")

    def _fit(self, task: pl.LightningModule, data: DataModule) -> None:
        last = self.folder / "last.ckpt"
        resume_from = str(last) if self.job.config["resume"] and last.is_file() else None
        data.setup("fit")
        mode = self.flow.monitor_mode(get_metric(self.job.competition.metric), data.val_rows())
        best = self._best_checkpoint(mode) if mode and epochs_of(self.job.config, task) else None
        checkpoints = [self._last_checkpoint(), *([best] if best else [])]
        # the averaging stands before the checkpoints: what is saved as best is what was validated
        callbacks = [*averaging(self.job.config["model"].get("ema")), *checkpoints, GeneratorState()]
        trainer = make_trainer(self.job.config, task, callbacks, self.job.loggers.for_fold(self.fold))
        estimate = getattr(getattr(task, "network", None), "memory_estimate", None)
        if estimate is not None:
            images = len(data.train_rows())
            needed = estimate(images, (task.preprocess.height, task.preprocess.width))
            print(f"memory    fitting on {images} images takes about {needed / 2**30:.2f} GiB beside the backbone")
        try:
            trainer.fit(task, datamodule=task.wrap_datamodule(data), ckpt_path=resume_from, weights_only=True)
        except SystemExit as stopped:  # Lightning turns Ctrl-C into an exit; ours says how to go on
            raise KeyboardInterrupt from stopped
        if not last.is_file():  # Lightning's callback saves only after optimiser steps; memory networks take none
            trainer.save_checkpoint(last)
        if best is None or not best.best_model_path:
            with atomic_path(self.folder / "best.ckpt") as temporary:
                shutil.copyfile(last, temporary)
        score = best.best_model_score if best is not None else None
        write_record(
            self.folder / "fit.json",
            {"epochs": trainer.current_epoch, "best_validation_score": None if score is None else float(score)},
        )

    def _best_checkpoint(self, mode: str) -> ModelCheckpoint:
        return ModelCheckpoint(
            dirpath=self.folder, filename="best", monitor="val/monitor", mode=mode,
            save_top_k=1, enable_version_counter=False, auto_insert_metric_name=False,
        )  # fmt: skip

    def _last_checkpoint(self) -> ModelCheckpoint:
        return ModelCheckpoint(
            dirpath=self.folder, filename="last", monitor=None, save_top_k=1, enable_version_counter=False,
            save_on_train_epoch_end=True,
        )  # fmt: skip

    def _predict(self, task: pl.LightningModule, data: DataModule, part: str) -> None:
        target = self.folder / f"{part}.parquet"
        if target.is_file():
            return
        frame = predict_rows(
            task,
            getattr(task.wrap_datamodule(data), f"{part}_dataloader")(),
            config=self.job.config,
            folder=self.job.run.predictions,
            prefix=f"{part}_{self.fold}",
            fold=self.fold if part == "oof" else -1,
        )
        metadata = {"run": self.job.run.path.name, **self.flow.metadata(self.job.config, self.job.manifest)}
        write_predictions(target, frame, self.flow.task, metadata)


def predict_rows(
    task: pl.LightningModule,
    loader: Any,
    *,
    config: dict[str, Any],
    folder: Path,
    prefix: str,
    fold: int,
) -> pd.DataFrame:
    """Predict a loader's batches as rows of the prediction store; maps go to `folder`/maps.

    An image that was cut into tiles is one row again.
    """
    writer = PredictionWriter(folder, prefix, fold)
    if loader:  # an empty list where no row is held out
        trainer = make_trainer(config, task, [writer], [])
        trainer.predict(task, dataloaders=loader, return_predictions=False)
    rows = task.joined(writer.rows) if hasattr(task, "joined") else writer.rows
    return pd.DataFrame(rows, columns=[column.name for column in schema_of(config["task"])])


def epochs_of(config: dict[str, Any], task: Any) -> int:
    """How many epochs a task is trained under a configuration; 0 where none is asked and it answers untrained."""
    settings, demanded = config["trainer"], dict(getattr(task, "trainer_arguments", {}))
    if demanded.get("max_epochs") == 1:
        return 1  # anomalib's own memory banks and zero-shot classes: a second pass is not defined for them
    asked = settings["max_epochs"] or demanded.get("max_epochs") or config["model"].get("max_epochs")
    return asked or int(not task.zero_shot)


def make_trainer(config: dict[str, Any], task: Any, callbacks: list[Any], loggers: list[Any]) -> pl.Trainer:
    """A Lightning Trainer under the run's settings; what the user set wins, then what the model demands."""
    settings = config["trainer"]
    demanded = dict(getattr(task, "trainer_arguments", {}))
    memory = getattr(task, "kind", None) == "memory"  # nothing to validate before its last pass
    epochs = epochs_of(config, task)
    steps = settings["max_steps"] if settings["max_steps"] > 0 else demanded.get("max_steps", -1)
    every = settings["check_val_every_n_epoch"] or demanded.get("check_val_every_n_epoch") or max(1, epochs // 10)
    clips = (settings["gradient_clip_val"], demanded.get("gradient_clip_val"), config["model"].get("gradient_clip"))
    clip = next((value for value in clips if value is not None), None)
    bar = progress_bar(settings["progress"], interactive())
    devices = demanded.get("devices", settings["devices"])
    return pl.Trainer(
        accelerator=settings["accelerator"],
        devices=devices,
        strategy="auto" if devices in (1, "1") else getattr(task, "strategy", "auto"),
        precision=settings["precision"] or task.default_precision(settings["accelerator"]),
        max_epochs=epochs,
        max_steps=steps,
        check_val_every_n_epoch=max(1, epochs) if memory else every,
        gradient_clip_val=clip or None,
        accumulate_grad_batches=settings["accumulate_grad_batches"],
        limit_train_batches=demanded.get("limit_train_batches", settings["limit_train_batches"]),
        deterministic=settings["deterministic"],
        num_sanity_val_steps=0,
        callbacks=[*callbacks, *([bar] if bar else [])],
        logger=loggers,
        plugins=[WholeCheckpointIO()],
        enable_progress_bar=isinstance(bar, RichProgressBar),
        enable_model_summary=False,
        use_distributed_sampler=False,  # the data module shards by itself: no row twice, none missing
        default_root_dir=os.fspath(config.get("outputs", ".")),
        log_every_n_steps=10,
    )
