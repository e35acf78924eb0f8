"""Any model class of the installed anomalib, unmodified, under our Trainer, on our batches, giving our predictions.

The class keeps its own hooks, optimisers, losses and its PreProcessor callback (which normalises as each step begins,
as under anomalib's own Engine). Left out are its post-processor (thresholds are tuned by this project), its
evaluator and its visualizer.
"""

import copy
import inspect
import traceback
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from src.errors import ProjectError, nearest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # anomalib's own imports of deprecated modules
    import anomalib.models
    from anomalib import LearningType
    from anomalib.models.components import AnomalibModule
    from anomalib.pre_processing import PreProcessor

    from src.tasks.anomalib_arguments import (
        COMPONENTS,
        check_arguments,
        check_patches,
        layers_must_exist,
        plain,
        read_preprocessing,
    )
    from src.tasks.anomalib_module import adapted_class, downloads_of
    from src.tasks.anomalib_weights import Find, weights_from

NOT_PICTURES = {
    "AiVad": "reads video clips",
    "Fuvas": "reads video clips",
    "CFM": "reads a 3-D scan beside every picture",
}


def model_class(name: str) -> type[AnomalibModule]:
    """anomalib's class of that name.

    Raises:
        ProjectError: there is none (the nearest name and the list), or it does not read pictures.
    """
    names = [n for n in anomalib.models.__all__ if n not in NOT_PICTURES]
    if name in NOT_PICTURES:
        raise ProjectError(f"anomalib's {name} {NOT_PICTURES[name]}; this project gives it pictures. Choose another.")
    if name in (None, "", "???"):
        raise ProjectError(f"model.name is not given. Add model.name=<class>, one of: {', '.join(sorted(names))}.")
    if name not in names:
        folded = {n.lower(): n for n in names}
        key = str(name).lower().replace("_", "")
        hint = f" Did you mean '{folded[key]}'?" if key in folded else nearest(name, names)
        raise ProjectError(
            f"anomalib {version('anomalib')} has no model {name!r}.{hint} It has: {', '.join(sorted(names))}."
        )
    return getattr(anomalib.models, name)


def build_adapted(
    name: str,
    *,
    image_size: tuple[int, int] | None = None,
    weights: str | Find | None = None,
    backbone_args: dict[str, Any] | None = None,
    args: dict[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    monitor: str = "auroc",
) -> pl.LightningModule:
    """Construct an anomalib model that trains and predicts in this project.

    Args:
        name: class name, such as `Stfpm`.
        image_size: (height, width) that the network sees; None is the class's own. There is no centre crop: maps
            cover the whole picture.
        weights: a state-dict file for its pretrained network, or a function from the name of such a network (timm's,
            `torchvision/<name>`, `efficient_ad_teacher_small`, `dsr_vq_model`) to a file; None leaves random values.
        backbone_args: further arguments of timm's create_model, such as `pad_type: same`.
        args: keyword arguments of the class.
        mean, std: RGB statistics in the unit range that the weights were trained with; None are the class's own.
        monitor: the metric of scores that is logged as `val/monitor` where validation holds both classes.

    The answer has `preprocess` (PreprocessSpec), `one_class`, `trainer_arguments`, `loaded_weights` (LoadReports),
    `wrap_datamodule(datamodule)` and `predict_batch(batch)`; its predict_step answers a PredictionBatch.

    Raises:
        ProjectError: unknown class or argument; a value that the class refuses; a file that does not fit; data that
            the class would download from where nothing answers.
    """
    find = weights if callable(weights) else (lambda _: weights)
    options = {
        "name": name, "image_size": image_size, "mean": mean, "std": std, "backbone_args": backbone_args or {},
        "args": args or {}, "monitor": monitor,
    }  # fmt: skip
    module = _build(options, find, rebuild=False)
    if isinstance(weights, str) and not module.loaded_weights:
        raise ProjectError(f"anomalib's {name} with these arguments loads no weights; take model.weights=random.")
    return module


def load_adapted(checkpoint_path: str | Path) -> pl.LightningModule:
    """Rebuild an adapted model from its checkpoint alone, without any download, in eval mode on the CPU.

    Raises:
        ProjectError: the file is no checkpoint of an adapted model, or another anomalib version made it.
    """
    checkpoint = torch.load(checkpoint_path, map_location="cpu", weights_only=True, mmap=True)
    stored = checkpoint.get("hyper_parameters", {})
    if stored.get("adapter") != "anomalib":
        raise ProjectError(f"{checkpoint_path} is not a checkpoint of an anomalib model of this project.")
    module = _build(stored, lambda _: None, rebuild=True)
    module.on_load_checkpoint(checkpoint)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ProjectError(
            f"{checkpoint_path} was written with anomalib {stored['anomalib']} and does not fit anomalib "
            f"{version('anomalib')}: {' '.join(str(error).split())[:300]}. Install the version that trained it."
        ) from error
    return module.eval()


def _build(options: dict[str, Any], find: Find, *, rebuild: bool) -> pl.LightningModule:
    name, args, backbone_args = options["name"], options["args"], options["backbone_args"]
    cls = model_class(name)
    preprocess, transform = read_preprocessing(cls, options["image_size"], options["mean"], options["std"])
    given = check_arguments(cls, copy.deepcopy(args), (preprocess.height, preprocess.width))
    parameters = inspect.signature(cls.__init__).parameters
    components = {"pre_processor": PreProcessor(transform), **dict.fromkeys(COMPONENTS[1:], False)}
    components = {key: value for key, value in components.items() if key in parameters}
    with weights_from(find, backbone_args) as reports, downloads_of(cls, skip=rebuild), layers_must_exist():
        try:
            module = adapted_class(cls)(**given, **components)
        except ImportError as error:
            raise ProjectError(f"anomalib's {name} needs a package that is not installed: {error}") from error
        except (ValueError, TypeError, KeyError, IndexError, AssertionError, RuntimeError) as error:
            reason = str(error) or traceback.extract_tb(error.__traceback__)[-1].line  # a bare assert has no words
            raise ProjectError(f"anomalib's {name} refuses its arguments {args}: {reason}") from error
        module.post_processor = module.evaluator = module.visualizer = None
        module.find_weights, module.loaded_weights, module.rebuilt = find, reports, rebuild
        module.after_construction()
    module.preprocess, module.monitor = preprocess, options["monitor"]
    module.one_class = module.learning_type == LearningType.ONE_CLASS and not getattr(module, "supervised", False)
    check_patches(module, preprocess)
    module.hparams.clear()
    kept = {key: plain(options[key], key) for key in ("name", "mean", "std", "backbone_args", "args", "monitor")}
    size = [preprocess.height, preprocess.width]
    module.save_hyperparameters({**kept, "image_size": size, "adapter": "anomalib", "anomalib": version("anomalib")})
    return module
