"""What is laid over an anomalib class: predictions as rows, fast failures, plain checkpoints; not its learning."""

import contextlib
import functools
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from anomalib.models.components import AnomalibModule
from torch import Tensor, nn
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from src.data.transforms import PreprocessSpec
from src.errors import ProjectError
from src.models.features import LoadReport, read_state_dict
from src.tasks.anomalib_data import AnomalibData, SampleBatch, to_anomalib
from src.tasks.anomalib_weights import Find, check_state, fast_downloads, patched
from src.tasks.batches import PredictionBatch
from src.weight_sources import Probe

USES_HUB = ("AnomalyVFM", "VlmAd", "WinClip")  # whole networks from the hub, by other clients than timm
REMEDIES = {
    "Draem": "Give model.args.dtd_dir=<a folder of texture pictures>.",
    "Glass": "Give model.args.anomaly_source_path=<a folder of texture pictures>, or leave it out.",
    "EfficientAd": "Give model.args.imagenet_dir=<a folder of everyday photographs>.",
}
PLAIN_REMEDY = "Run it once on a connected machine and bring its cache here, or choose another model."

# What Lightning says of their logging and of networks that are frozen or have no optimiser, as it should be here.
HARMLESS = (
    "Trying to infer the `batch_size` from an ambiguous",
    "Found .* in eval mode at the start of training",
    "`LightningModule.configure_optimizers` returned `None`",
)


def downloads_of(cls: type, *, skip: bool) -> contextlib.AbstractContextManager[None]:
    """`fast_downloads` for an anomalib class, with what to give instead."""
    name = cls.__name__
    return fast_downloads(cls, REMEDIES.get(name, PLAIN_REMEDY), uses_hub=name in USES_HUB, skip=skip)


class AnomalibAdapter:
    """What is laid over anomalib's class: rows as predictions, fast failures, plain checkpoints. Not its learning."""

    their_class: type[AnomalibModule]
    preprocess: PreprocessSpec
    one_class: bool
    loaded_weights: list[LoadReport]
    monitor: str
    find_weights: Find
    rebuilt: bool
    train_batch_size: int | None = None
    zero_shot = False

    @staticmethod
    def default_precision(accelerator: str) -> str:
        """As for this project's own anomaly networks."""
        return "32-true"

    def after_construction(self) -> None:
        """For classes that load more than timm's and torchvision's networks."""

    def wrap_datamodule(self, datamodule: pl.LightningDataModule) -> AnomalibData:
        return AnomalibData(datamodule, train_batch_size=self.train_batch_size)

    def setup(self, stage: str) -> None:
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        with downloads_of(self.their_class, skip=self.rebuilt):
            super().setup(stage)

    def configure_optimizers(self) -> Any:
        data = self.trainer.datamodule  # schedules ask it how long an epoch is
        with data.aside() if isinstance(data, AnomalibData) else contextlib.nullcontext():
            return super().configure_optimizers()

    def on_train_start(self) -> None:
        with downloads_of(self.their_class, skip=False):
            super().on_train_start()

    @contextlib.contextmanager
    def _named_packages(self) -> Iterator[None]:
        """Some classes import what they need only as they first predict."""
        try:
            yield
        except ImportError as error:
            name = self.their_class.__name__
            raise ProjectError(f"anomalib's {name} needs a package that is not installed: {error}") from error

    def on_validation_epoch_start(self) -> None:
        self._validation: list[tuple[Tensor, Tensor]] = []
        super().on_validation_epoch_start()

    def validation_step(self, batch: SampleBatch, *args: Any, **kwargs: Any) -> Any:
        with self._named_packages():
            output = super().validation_step(batch, *args, **kwargs)
        self._validation.append((_scores(output).detach().cpu().clone(), batch.labels.cpu()))
        return output

    def on_validation_epoch_end(self) -> None:
        from src.metrics.registry import get_metric

        super().on_validation_epoch_end()
        if not self._validation:
            return
        scores = torch.cat([s for s, _ in self._validation]).numpy()
        labels = torch.cat([t for _, t in self._validation]).numpy()
        known = labels >= 0
        if len(set(labels[known].tolist())) < 2:
            return  # normal images alone rank nothing
        metric = get_metric(self.monitor)
        if metric.needs != "score":
            metric = get_metric("auroc")  # metrics of decisions need a threshold, which is tuned later
        value = float(metric.function(scores[known], labels[known]))
        self.log(f"val/{metric.name}", value, prog_bar=True)
        self.log("val/monitor", value, logger=False)

    def predict_step(self, batch: SampleBatch, batch_idx: int, dataloader_idx: int = 0) -> PredictionBatch:
        with self._named_packages():
            output = super().predict_step(batch, batch_idx)
        maps = getattr(output, "anomaly_map", None)
        if maps is not None:
            maps = torch.as_tensor(maps).detach().float().cpu().reshape(len(batch.ids), 1, *maps.shape[-2:])
        return PredictionBatch(list(batch.ids), _scores(output).detach().float().cpu(), maps)

    @torch.no_grad()
    def predict_batch(self, batch: dict[str, Any]) -> PredictionBatch:
        """Predict one of our dict batches (uint8) outside a Trainer."""
        converted = to_anomalib({k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in batch.items()})
        converted.image = self.pre_processor.transform(converted.image)
        return self.predict_step(converted, 0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        for key in ("lr_schedulers", "optimizer_states", "loops"):  # their schedulers keep NumPy arrays
            if key in checkpoint:
                checkpoint[key] = _without_numpy(checkpoint[key])


def _scores(output: Any) -> Tensor:
    """(B,) float32: the score; the map's maximum where there is only a map; the label where there is only that."""
    if output.pred_score is not None:
        return torch.as_tensor(output.pred_score).float().reshape(-1)
    if output.anomaly_map is not None:
        return torch.as_tensor(output.anomaly_map).float().flatten(1).amax(1)
    return output.pred_label.float().reshape(-1)


def _without_numpy(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _without_numpy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_numpy(item) for item in value)
    return value


class Untrained:
    """For zero-shot and few-shot classes: a training of one idle step, so that a run is a run like any other."""

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        return {**super().trainer_arguments, "max_epochs": 1, "limit_train_batches": 1, "devices": 1}

    def training_step(self, batch: SampleBatch, batch_idx: int) -> Tensor:
        return torch.zeros((), device=self.device, requires_grad=True)

    def configure_optimizers(self) -> None:
        return None


def _load(network: nn.Module, path: Path, what: str) -> LoadReport:
    state = read_state_dict(path)
    check_state(state, network.state_dict(), path, what)
    result = network.load_state_dict(state, strict=False)  # checked above
    return LoadReport(path=str(path), loaded=len(state), unexpected=tuple(result.unexpected_keys))


class PictureFolder(ImageFolder):
    """torchvision's ImageFolder that takes pictures from anywhere below a folder; classes are not asked for."""

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        return ["."], {".": 0}


class EfficientAdParts:
    """EfficientAD: the teacher's weights by our policy, any folder of photographs, the batch size it insists on."""

    train_batch_size = 1

    def after_construction(self) -> None:
        if self.rebuilt:
            return
        self._check_photographs()
        path = self.find_weights(f"efficient_ad_teacher_{self.model_size.value}")
        if path is not None:
            self.loaded_weights.append(_load(self.model.teacher, Path(path), "EfficientAD's teacher"))

    def _check_photographs(self) -> None:
        """Now, not after the data were read: training compares the product with everyday photographs."""
        from anomalib.models.image.efficient_ad.lightning_model import IMAGENETTE_DOWNLOAD_INFO

        folder, url = self.imagenet_dir, IMAGENETTE_DOWNLOAD_INFO.url
        if folder.is_dir():
            if not any(path.suffix.lower() in IMG_EXTENSIONS for path in folder.rglob("*")):
                raise ProjectError(f"model.args.imagenet_dir={folder} holds no pictures. {REMEDIES['EfficientAd']}")
        elif not Probe().answering([url]):
            raise ProjectError(
                f"EfficientAD needs everyday photographs beside the product's: there is no folder {folder}, and {url} "
                f"does not answer. {REMEDIES['EfficientAd']}"
            )

    def prepare_pretrained_model(self) -> None:
        """Loaded at construction."""

    def prepare_imagenette_data(self, image_size: Any) -> None:
        from anomalib.models.image.efficient_ad import lightning_model

        with patched(lightning_model, "ImageFolder", PictureFolder):
            super().prepare_imagenette_data(image_size)

    def map_norm_quantiles(self, dataloader: Any) -> dict[str, Tensor]:
        try:
            return super().map_norm_quantiles(dataloader)
        except RuntimeError as error:
            if "non-empty" not in str(error):
                raise
            print("EfficientAD: no normal picture validates; its maps are scaled on the training pictures.")
            return super().map_norm_quantiles(self.trainer.datamodule.train_dataloader())


class DsrParts:
    """DSR: its discrete model's weights by our policy, loaded at construction."""

    def after_construction(self) -> None:
        path = None if self.rebuilt else self.find_weights("dsr_vq_model")
        if path is not None:
            self.loaded_weights.append(_load(self.model.discrete_latent_model, Path(path), "DSR's discrete model"))

    def on_train_start(self) -> None:
        """Theirs would download and load those weights again."""


PARTS = {"EfficientAd": EfficientAdParts, "Dsr": DsrParts}


@functools.cache
def adapted_class(cls: type[AnomalibModule]) -> type[pl.LightningModule]:
    """anomalib's class with the adapter before it, under its own name."""
    bases: list[type] = [PARTS[cls.__name__]] if cls.__name__ in PARTS else []
    if cls.training_step is pl.LightningModule.training_step:
        bases.append(Untrained)
    members = {"their_class": cls, "__module__": __name__, "__doc__": cls.__doc__}
    return types.new_class(cls.__name__, (*bases, AnomalibAdapter, cls), exec_body=lambda body: body.update(members))
