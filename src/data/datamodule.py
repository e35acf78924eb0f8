"""The one Lightning datamodule of all tasks: folds, broken images, caches, loaders, and exact resumption."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from src.data.cache import BrokenImage, ImageStore, MaskStore, build_masks, build_store
from src.data.caption_dataset import CaptionDataset, captions_of
from src.data.dataset import ImageDataset, ImageRows, collate, label_array, mask_paths
from src.data.detection_dataset import DetectionDataset
from src.data.images import check_mask_size
from src.data.parallel import cores
from src.data.sampler import EpochSampler, ShardSampler, hash_ids
from src.data.tiles import expand_tiles, windows_of, with_sizes
from src.data.training_choice import TrainingChoice
from src.data.transforms import Augmentation, PreprocessSpec
from src.errors import ProjectError

TARGETS = ("anomaly", "detection", "caption")


class DataModule(LightningDataModule):
    """Loaders of uint8 batches (see `src.data.dataset.collate`) from a manifest and its folds.

    Training rows are those of split "train" outside `fold`; validation rows are those inside it, never test
    rows. With `one_class` training keeps only rows not labelled as defects. `setup` reads every image of its
    splits once, fills `broken`, and sets those rows aside. `num_workers` None chooses: none when pictures
    come from a cache and are not augmented (workers would only copy) or the network runs on the CPU (it keeps
    the cores busy, and augmenting is a small part beside it), else the cores there are, at most 8.

    The Trainer must run with `use_distributed_sampler=False`: the samplers here share rows among ranks
    themselves, training rows padded to equal steps, all others exactly once.

    `manifest` and `folds` may be None where only `infer_dataloader` is used. `targets` says what samples hold:
    "anomaly" labels and masks (`ImageDataset`), "detection" boxes (`DetectionDataset`), whose mosaics end at
    `close_mosaic_epoch`, "caption" captions (`CaptionDataset`), of which training sees `captions_per_image` an epoch
    (None: all), and only rows that have any. `choice` says which labelled rows of a fold are trained on, of which
    classes, and how evenly (`src.data.training_choice`). With `tiles` ({"size", "overlap"}) the rows of every loader,
    and those that `train_rows` and the like answer, are tiles of their pictures (`src.data.tiles.expand_tiles`);
    `broken` names pictures.
    """

    def __init__(
        self,
        manifest: pd.DataFrame | None,
        folds: pd.Series | None,
        fold: int,
        spec: PreprocessSpec,
        augment: Augmentation | None = None,
        *,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
        cache: str = "auto",
        cache_dir: str | Path | None = None,
        one_class: bool = False,
        with_masks: bool = False,
        verify: bool = True,
        targets: str = "anomaly",
        close_mosaic_epoch: int | None = None,
        tiles: Mapping[str, Any] | None = None,
        captions_per_image: int | None = None,
        choice: TrainingChoice | None = None,
    ) -> None:
        super().__init__()
        if targets not in TARGETS:
            raise ValueError(f"targets must be one of {', '.join(TARGETS)}, not {targets!r}")
        self._targets, self._close_mosaic_epoch, self._tiles = targets, close_mosaic_epoch, tiles
        self._captions_per_image = captions_per_image
        self._choice = choice or TrainingChoice()
        self.fold, self.spec, self.augment, self.batch_size, self.seed = fold, spec, augment, batch_size, seed
        self.broken: list[BrokenImage] = []
        self._manifest, self._folds = manifest, folds
        self._num_workers, self._cache, self._cache_dir = num_workers, cache, cache_dir
        self._one_class, self._with_masks, self._verify = one_class, with_masks, verify
        self._rows: dict[str, pd.DataFrame] = {}
        self._stores: dict[str, ImageStore | None] = {}
        self._masks: MaskStore | None = None
        self._resume: dict[str, Any] | None = None
        self._samples_per_step = batch_size

    # reading

    def prepare_data(self) -> None:
        """On one rank of a machine, before the others: writes the disk cache that they then only open."""
        if self._cache in ("auto", "disk") and self.trainer is not None and self.trainer.state.fn == "fit":
            self._load("train")

    def setup(self, stage: str | None = None) -> None:
        """Read the images of split "train" (stages fit, validate), "test" (test, predict) or both (None).

        Raises:
            ProjectError: no training rows, or none that can be read; a mask that cannot be read, or of
            another size.
        """
        if stage in (None, "fit", "validate"):
            self._load("train")
        if stage in (None, "test", "predict"):
            self._load("test")

    def use_fold(self, fold: int) -> None:
        """Go on with another fold; what was read stays."""
        self.fold, self._resume = fold, None

    def _load(self, split: str) -> None:
        if split in self._rows:
            return
        rows = self._manifest[self._manifest["split"] == split]
        if split == "train" and rows.empty:
            raise ProjectError(
                "the manifest has no training images. Check data.train and data.layout of the competition."
            )
        known = len(self.broken)
        readable, store = self._read(rows, split, "disk" if split == "train" else "none")
        if split == "train":
            if readable.empty:
                first = self.broken[known]
                raise ProjectError(
                    f"none of the {len(rows)} training images can be read; the first: {first.path} "
                    f"({first.reason}). Check data.images and data.path of the competition."
                )
            if self._with_masks:
                self._masks = self._read_masks(readable, store)
        self._rows[split], self._stores[split] = readable, store

    def _read(self, rows: pd.DataFrame, split: str, large: str) -> tuple[pd.DataFrame, ImageStore | None]:
        """The readable rows and their store; what is broken goes to `broken`."""
        rows = self._tiled(rows)
        if self._cache == "none" and not self._verify:
            return rows, None
        ranks = 1 if self.trainer is None else self.trainer.world_size // max(1, self.trainer.num_nodes)
        paths, windows = rows["path"].astype(str).tolist(), windows_of(rows)
        store = build_store(
            paths,
            self.spec,
            windows=windows,
            mode=self._cache,
            large=large,
            cache_dir=self._cache_dir,
            processes=ranks,
            what=f"{split} images",
        )
        reasons = [store.reason(*source) for source in zip(paths, windows, strict=True)]
        pictures = rows["parent" if "parent" in rows else "id"].astype(str)
        found = [
            BrokenImage(picture, path, reason, split)
            for picture, path, reason in zip(pictures, paths, reasons, strict=True)
            if reason is not None
        ]
        self.broken += dict.fromkeys(found)  # a picture once, not with each of its tiles
        return rows[np.array([reason is None for reason in reasons], bool)], store

    def _tiled(self, rows: pd.DataFrame) -> pd.DataFrame:
        if self._tiles is None:
            return rows
        return expand_tiles(with_sizes(rows), self._tiles["size"], self._tiles["overlap"])

    def _read_masks(self, rows: pd.DataFrame, store: ImageStore | None) -> MaskStore:
        images = rows["path"].astype(str)
        pairs = [pair for pair in zip(mask_paths(rows), images, strict=True) if pair[0] is not None]
        masks = build_masks([mask for mask, _ in pairs], self.spec)
        for mask, image in pairs if store is not None else ():  # else the dataset checks as it reads
            check_mask_size(masks.sizes[mask], store.size(image), mask=mask, image=image)
        return masks if store is not None else None

    # rows

    def train_rows(self) -> pd.DataFrame:
        """Readable training rows of this fold.

        Raises:
            ProjectError: there is none.
        """
        rows = self._split("train")
        keep = self._fold_of(rows) != self.fold
        kind, key = "training images", "data.normal"
        if self._one_class:
            keep &= label_array(rows) != 1
            kind = "normal training images"
        if self._targets == "caption":
            keep &= np.array([bool(texts) for texts in captions_of(rows)], bool)
            kind, key = "training images with captions", "data.captions"
        if not keep.any():
            raise ProjectError(f"fold {self.fold} leaves no {kind} of {len(rows)}. Lower the holdout, or check {key}.")
        rows = rows[keep]
        return rows[self._choice.keep(rows, self.seed)] if self._targets == "anomaly" else rows

    def val_rows(self) -> pd.DataFrame:
        """Readable training rows that this fold holds out; may be empty."""
        rows = self._split("train")
        return rows[self._fold_of(rows) == self.fold]

    def test_rows(self) -> pd.DataFrame:
        """Readable test rows."""
        return self._split("test")

    def _split(self, split: str) -> pd.DataFrame:
        self._load(split)
        return self._rows[split]

    def _fold_of(self, rows: pd.DataFrame) -> np.ndarray:
        return self._folds.loc[rows.index].to_numpy()

    # loaders

    def train_dataloader(self) -> DataLoader:
        """Shuffled, augmented; the order is f(seed, epoch, ids). From a checkpoint it goes on mid-epoch."""
        dataset = self._dataset(self.train_rows(), "train", training=True)
        rank, world_size = self._ranks()
        self._samples_per_step = self.batch_size * world_size
        codes = self._choice.codes(self.train_rows()) if self._choice.balanced else None
        sampler = EpochSampler(dataset.hashes, seed=self.seed, rank=rank, world_size=world_size, classes=codes)
        if self._resume is not None:
            self._check_resume(dataset)
            sampler.resume(self._resume["epoch"], self._resume["consumed"])
            self._resume = None
        elif self.trainer is not None:
            sampler.set_epoch(self.trainer.current_epoch)
        return self._loader(dataset, sampler)

    def memory_dataloader(self) -> DataLoader:
        """The fold's training rows once, in the manifest's order, not augmented: for networks that remember them."""
        return self._loader(self._dataset(self.train_rows(), "train"))

    def val_dataloader(self) -> DataLoader | list:
        """The fold's held-out rows in the manifest's order, not augmented; [] when it holds out none."""
        rows = self.val_rows()
        return self._loader(self._dataset(rows, "train")) if len(rows) else []

    def oof_dataloader(self) -> DataLoader | list:
        """What the out-of-fold predictions are made of: the validation rows."""
        return self.val_dataloader()

    def test_dataloader(self) -> DataLoader:
        """Readable test rows in the manifest's order; without targets."""
        return self._loader(self._dataset(self.test_rows(), "test"))

    def predict_dataloader(self) -> DataLoader:
        """As `test_dataloader`."""
        return self.test_dataloader()

    def infer_dataloader(self, images: pd.DataFrame | Iterable[str | Path]) -> DataLoader:
        """New pictures: a table with `id` and `path`, or paths (their ids are the paths as given).

        Unreadable ones are appended to `broken` (split "infer") and left out: the caller owes them a row.

        Raises:
            ProjectError: no images, or none that can be read.
        """
        if not isinstance(images, pd.DataFrame):
            paths = [str(path) for path in images]
            images = pd.DataFrame({"id": paths, "path": paths})
        if images.empty:
            raise ProjectError("there are no images to predict. Check images=… (a folder, a glob or a CSV).")
        known = len(self.broken)
        rows, store = self._read(images, "infer", "none")
        if rows.empty:
            first = self.broken[known]
            raise ProjectError(
                f"none of the {len(images)} images can be read; the first: {first.path} ({first.reason})."
            )
        if self._targets == "detection":
            return self._loader(DetectionDataset(rows, self.spec, cache=store))
        if self._targets == "caption":
            return self._loader(CaptionDataset(rows, self.spec, cache=store))
        return self._loader(ImageDataset(rows, self.spec, cache=store))

    def _dataset(self, rows: pd.DataFrame, split: str, *, training: bool = False) -> ImageRows:
        shared = {"augment": self.augment if training else None, "seed": self.seed, "cache": self._stores[split]}
        if self._targets == "detection":
            return DetectionDataset(rows, self.spec, **shared, close_mosaic_epoch=self._close_mosaic_epoch)
        if self._targets == "caption":
            count = self._captions_per_image if training else None
            return CaptionDataset(rows, self.spec, **shared, captions_per_image=count)
        return ImageDataset(
            rows,
            self.spec,
            **shared,
            with_masks=self._with_masks and split == "train",
            masks=self._masks,
            classes=self._choice.codes(rows) if split == "train" else None,
        )

    def _loader(self, dataset: ImageRows, sampler: EpochSampler | None = None) -> DataLoader:
        workers = self._num_workers
        if workers is None:
            cached = dataset.cache_mode in ("ram", "disk")
            on_cpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cpu"
            workers = 0 if cached and (dataset.augment is None or on_cpu) else min(8, cores())
        rank, world_size = self._ranks()
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler or ShardSampler(len(dataset), rank=rank, world_size=world_size),
            num_workers=workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=_begin_worker,
            generator=torch.Generator(),  # torch's own would miss a draw after a resume
        )

    def _ranks(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        return 0, 1

    # resumption

    def state_dict(self) -> dict[str, Any]:
        """Where training stands when Lightning saves: the epoch, and its samples used so far by all ranks."""
        if self.trainer is None or "train" not in self._rows:
            return {}
        loop = self.trainer.fit_loop
        epoch, consumed = loop.epoch_progress.current.processed, 0
        rows = self.train_rows()
        if loop.epoch_progress.current.started > epoch:  # inside an epoch, or validating at its end
            consumed = loop.epoch_loop.batch_progress.current.processed * self._samples_per_step
            if consumed >= len(rows):
                epoch, consumed = epoch + 1, 0
        return {"epoch": epoch, "consumed": consumed, "seed": self.seed, "rows": _row_hash(rows["id"])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The next `train_dataloader` begins where `state_dict` stood."""
        # Lightning takes a loader for resumable only if the loader itself keeps a state.
        warnings.filterwarnings(
            "ignore", message="You're resuming from a checkpoint that ended before the epoch"
        )
        self._resume = dict(state_dict)

    def _check_resume(self, dataset: ImageRows) -> None:
        if self._resume["seed"] != self.seed:
            raise ProjectError(
                f"the checkpoint has seed={self._resume['seed']}, not {self.seed}: resume with that."
            )
        if self._resume["rows"] != _row_hash(dataset.ids):
            raise ProjectError(
                f"the {len(dataset)} training rows of fold {self.fold} are not those of the checkpoint: "
                "files or folds have changed since. Restore them, or begin a new run."
            )


def _row_hash(ids: Iterable[str]) -> str:
    """The set of ids in 64 bits, whatever their order."""
    return f"{int(np.bitwise_xor.reduce(hash_ids(list(ids)), initial=np.uint64(0))):016x}"


def _begin_worker(_: int) -> None:
    """OpenCV without threads: it would start as many as there are cores in each. (torch limits itself.)

    0, not 1: setting 1 waits for the threads of the parent, which a forked worker does not have, for ever.
    """
    cv2.setNumThreads(0)
