"""Our batches as anomalib's modules expect them: ImageBatch objects, from a data module of their kind."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from anomalib.data import ImageBatch
from torch import Tensor
from torch.utils.data import DataLoader


class SampleBatch(ImageBatch):
    """anomalib's batch that remembers our ids and labels.

    Both are plain attributes, no dataclass fields: their code rebuilds items from the fields. `labels` is int64
    with -1 for unknown, where their own boolean `gt_label` can only say normal.
    """

    ids: list[str]
    labels: Tensor


def to_anomalib(batch: dict[str, Any], paths: Mapping[str, str] | None = None) -> SampleBatch:
    """A dict batch (uint8 images B×3×H×W) as an ImageBatch of float images in [0, 1], not normalised.

    anomalib's own loader hands out such pictures: resized, unit range. Its PreProcessor callback normalises them
    as a step begins, so that a pass which reads a loader directly (CFA's centroid, GLASS's centre) sees them
    un-normalised. An unknown label counts as normal. Masks are given where they are known: all empty in an
    all-normal batch. `paths` are the files of the ids, for classes that open them again.
    """
    images, labels = batch["image"], batch["label"]
    anomalous = labels == 1
    masks = batch.get("mask")
    if masks is None and not bool(anomalous.any()):
        masks = torch.zeros((len(images), 1, *images.shape[-2:]), dtype=torch.uint8)
    converted = SampleBatch(
        image=images.to(torch.float32, memory_format=torch.contiguous_format).div_(255),
        gt_label=anomalous,
        gt_mask=None if masks is None else masks.bool(),
        image_path=[(paths or {}).get(name, name) for name in batch["id"]],
    )
    converted.ids, converted.labels = list(batch["id"]), labels
    return converted


class ToAnomalib:
    """A collate function followed by `to_anomalib`; a class, so that worker processes can be spawned with it."""

    def __init__(self, collate: Any, paths: Mapping[str, str]) -> None:
        self.collate, self.paths = collate, paths

    def __call__(self, samples: Any) -> SampleBatch:
        return to_anomalib(self.collate(samples), self.paths)


class AnomalibData(pl.LightningDataModule):
    """Our data module under the names that anomalib's modules read from `trainer.datamodule`.

    Every loader is ours, with another collate function; whatever else is asked of it, ours answers.
    `train_batch_size` (EfficientAD insists on 1) replaces the batch size of the training loader alone.
    """

    def __init__(self, inner: pl.LightningDataModule, *, train_batch_size: int | None = None) -> None:
        self.inner = inner
        self._restored: dict[str, Any] | None = None
        super().__init__()
        self.train_batch_size = train_batch_size or inner.batch_size
        self.eval_batch_size = inner.batch_size

    @property
    def trainer(self) -> pl.Trainer | None:
        return self.inner.trainer

    @trainer.setter
    def trainer(self, trainer: pl.Trainer | None) -> None:
        if trainer is not None:  # the base class's constructor clears it
            self.inner.trainer = trainer

    def prepare_data(self) -> None:
        self.inner.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        self.inner.setup(stage)

    def teardown(self, stage: str | None = None) -> None:
        self.inner.teardown(stage)

    def train_dataloader(self) -> DataLoader:
        size, self.inner.batch_size = self.inner.batch_size, self.train_batch_size
        try:
            return _converted(self.inner.train_dataloader())
        finally:
            self.inner.batch_size = size

    def val_dataloader(self) -> DataLoader | list:
        return _converted(self.inner.val_dataloader())

    def oof_dataloader(self) -> DataLoader | list:
        return _converted(self.inner.oof_dataloader())

    def test_dataloader(self) -> DataLoader:
        return _converted(self.inner.test_dataloader())

    def predict_dataloader(self) -> DataLoader:
        return _converted(self.inner.predict_dataloader())

    def infer_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        return _converted(self.inner.infer_dataloader(*args, **kwargs))

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict
        self.inner.load_state_dict(state_dict)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Training loaders made inside the block, to be measured, leave a resumed run's place to the Trainer's."""
        yield
        if self._restored is not None:
            self.inner.load_state_dict(self._restored)

    def __getattr__(self, name: str) -> Any:
        if name == "inner" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)


def _converted(loader: DataLoader | list) -> DataLoader | list:
    if not isinstance(loader, DataLoader):
        if not loader:
            return loader  # a fold that holds nothing out
        raise TypeError(f"expected a torch DataLoader from the data module, not {type(loader).__name__}")
    if not isinstance(loader.collate_fn, ToAnomalib):
        dataset = loader.dataset
        loader.collate_fn = ToAnomalib(loader.collate_fn, dict(zip(dataset.ids, dataset.paths, strict=True)))
    # GLASS and EfficientAD iterate the Trainer's own loader beside the Trainer. Persistent workers serve one iterator
    # at a time: the second one would empty the first. (DataLoader forbids the plain assignment.)
    object.__setattr__(loader, "persistent_workers", False)
    return loader
