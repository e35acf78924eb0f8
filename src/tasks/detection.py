"""The detection task: trains any detector of `src.models.detection`, answers boxes in original pixels."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from src.boxes.nms import nms
from src.boxes.tiles import merge_tiles
from src.boxes.types import Detections
from src.data.geometry import boxes_to_original, map_to_original
from src.data.transforms import PreprocessSpec
from src.models.detection.tta import merge_views, views
from src.tasks.batches import DetectionBatch, row_of
from src.tasks.half_precision import half_precision
from src.tasks.losses import total_loss
from src.tasks.networks import build_network
from src.tasks.optimization import build_optimizer, optimized

TILE_IOU = 0.5  # one box an object within a tile, and one object across tiles


class DetectionTask(pl.LightningModule):
    """Minimise the sum of a detector's losses; predict boxes, scores, class indices and, where it has them, masks.

    Args:
        network: `_target_` and the constructor's plain keyword arguments; in the checkpoint, so that it rebuilds.
        preprocess: `PreprocessSpec.to_dict()`; stored in the checkpoint: inference never asks another configuration.
        optimization: `optimizer`, `lr`, `weight_decay`, `schedule`, `warmup`; empty for zero-shot networks.
        classes: the competition's class names, in the order of the labels.
        monitor: name of the metric that picks the best epoch; metrics of counts are watched as `map50`.
        tta: test-time augmentation as {"flip": bool, "scales": [1.0, …], "iou": of the fusion}, or None.
        tiles: {"size", "overlap"} of the tiles that images are cut into at prediction, or None.
        initial: what the network gets at its first construction alone (its `weights` and the like); not stored.
    """

    one_class = False
    # Several devices: detectors have parts that not every step trains (a frozen text tower, proposals of other stages).
    strategy = "ddp_find_unused_parameters_true"
    default_precision = staticmethod(half_precision)

    def __init__(
        self,
        *,
        network: dict[str, Any],
        preprocess: dict[str, Any],
        optimization: dict[str, Any],
        classes: Sequence[str],
        monitor: str = "map50",
        tta: dict[str, Any] | None = None,
        tiles: dict[str, Any] | None = None,
        initial: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["initial"])
        self.network = build_network(network, initial=initial)
        self.preprocess = PreprocessSpec.from_dict(preprocess)
        self.zero_shot: bool = self.network.zero_shot
        self.tta, self.tiles = tta, tiles
        self._validation: dict[str, Detections] = {}

    # -- training ---------------------------------------------------------------------------------------------------
    def configure_optimizers(self) -> Any:
        return build_optimizer(optimized(self), self.hparams["optimization"], self.trainer)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        losses = self.network.loss(self._images(batch), targets_of(batch, self.device))
        return total_loss(self, losses, size=len(batch["id"]), batch_idx=batch_idx, clip=10)

    def _images(self, batch: dict[str, Any]) -> Tensor:
        return self.preprocess.normalize(batch["image"], memory_format=torch.channels_last)

    # -- validation -------------------------------------------------------------------------------------------------
    def on_validation_epoch_start(self) -> None:
        self._validation.clear()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        found = self._in_original(batch, self.network.detect(self._images(batch)))
        self._validation.update(zip(batch["id"], found, strict=True))

    def on_validation_epoch_end(self) -> None:
        from src.boxes.types import Truth
        from src.metrics.registry import get_metric

        rows = self.trainer.datamodule.val_rows()
        rows = rows[rows["id"].isin(self._validation)]
        known = rows[rows["boxes"].notna()]
        if not any(len(boxes) for boxes in known["boxes"]):
            return  # no box to find: epochs cannot be compared, and the last one is kept
        metric = get_metric(self.hparams["monitor"])
        if metric.needs != "boxes":
            metric = get_metric("map50")  # counts depend on a rule that is tuned later
        truth = [
            Truth(boxes, labels, ignored)
            for boxes, labels, ignored in zip(known["boxes"], known["labels"], known["ignored"], strict=True)
        ]
        found = [self._validation[name] for name in known["id"]]
        value = metric.value(found, truth, n_classes=len(self.hparams["classes"]))
        if value is None:
            return
        self.log(f"val/{metric.name}", value, prog_bar=True)
        self.log("val/monitor", value, logger=False)

    # -- prediction -------------------------------------------------------------------------------------------------
    def predict_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> DetectionBatch:
        images = self._images(batch)
        if self.tta:
            found = merge_views(
                [
                    (self.network.detect(view), back)
                    for view, back in views(images, flip=self.tta["flip"], scales=self.tta["scales"])
                ],
                canvas=tuple(images.shape[-2:]),
                iou=self.tta["iou"],
            )
        else:
            found = self.network.detect(images)
        sizes = [(int(w), int(h)) for h, w in batch["original_size"].tolist()]
        tiled = self.tiles is not None and "window" in batch
        windows = [tuple(window) for window in batch["window"].tolist()] if tiled else None
        return DetectionBatch(list(batch["id"]), sizes, self._in_original(batch, found), windows)

    def _in_original(self, batch: dict[str, Any], found: list[dict[str, Tensor]]) -> list[Detections]:
        result = []
        for one, (height, width) in zip(found, batch["original_size"].tolist(), strict=True):
            size = (int(height), int(width))
            boxes = boxes_to_original(one["boxes"].float().cpu().numpy(), size, self.preprocess)
            # a box in the letterbox's padding has no area in the picture
            keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
            masks = self._run_lengths(one["masks"][torch.from_numpy(keep)], size) if "masks" in one else None
            scores, labels = one["scores"].float().cpu().numpy(), one["labels"].cpu().numpy()
            result.append(Detections(boxes[keep], scores[keep], labels[keep], masks))
        return result

    def _run_lengths(self, masks: Tensor, size: tuple[int, int]) -> tuple[str, ...]:
        """M×H×W masks on the canvas → COCO run-length texts at the original size."""
        from src.boxes.run_length import mask_to_coco

        planes = masks.float().cpu().numpy()
        return tuple(mask_to_coco(map_to_original(plane, size, self.preprocess) >= 0.5) for plane in planes)

    def joined(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Prediction rows, those of one image's tiles made one, objects seen by two tiles counted once."""
        if not rows or "window" not in rows[0]:
            return rows
        parts: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            parts.setdefault(row["id"].rpartition("#")[0] or row["id"], []).append(row)
        result = []
        for name, tiles in parts.items():
            width, height = (max(row["window"][side] for row in tiles) for side in (2, 3))
            pairs = [
                (np.array(row["window"]), nms(Detections(row["boxes"], row["scores"], row["labels"]), iou=TILE_IOU))
                for row in tiles
            ]
            whole = merge_tiles(pairs, width=width, height=height, iou=TILE_IOU)
            result.append({"id": name, "fold": tiles[0]["fold"], "width": width, "height": height, **row_of(whole)})
        return result

    @property
    def loaded_weights(self) -> list[Any]:
        """Reports of what weights files gave; empty where nothing was loaded."""
        reports = (getattr(self.network, name, None) for name in ("report", "segmenter_report"))
        return [report for report in reports if report is not None]

    @property
    def samples(self) -> dict[str, Any]:
        """What the data module must know to make samples for this task."""
        return {"targets": "detection", "tiles": self.tiles}

    def wrap_datamodule(self, datamodule: pl.LightningDataModule) -> pl.LightningDataModule:
        """The data module as this task's loops expect it: ours, as it is."""
        return datamodule


def targets_of(batch: dict[str, Any], device: torch.device) -> list[dict[str, Any]]:
    """A batch's targets as detectors take them, one dict an image, on the device."""
    return [
        {
            "boxes": boxes.to(device),
            "labels": labels.to(device),
            "tags": tags.to(device),
            "has_boxes": bool(has_boxes),
        }
        for boxes, labels, tags, has_boxes in zip(
            batch["boxes"], batch["labels"], batch["tags"], batch["has_boxes"], strict=True
        )
    ]
