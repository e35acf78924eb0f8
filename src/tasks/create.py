"""From a model's plain configuration to a task ready to train: options checked, weights found, preprocessing fixed."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from src.class_set import ClassSet
from src.data.transforms import PreprocessSpec
from src.errors import ProjectError, nearest
from src.weights import WORDS, ResolvedWeights, resolve_weights

PREPROCESS_KEYS = ("image_size", "resize", "interpolation", "mean", "std")
OPTIMIZATION_KEYS = ("optimizer", "lr", "weight_decay", "schedule", "warmup", "amsgrad")
OTHER_KEYS = ("name", "weights", "max_epochs", "ema", "gradient_clip", "start_from", "classes", "sampling", "mixing")
SAMPLINGS = ("balanced", "natural")


def split_options(model: dict[str, Any]) -> tuple[dict, dict, dict]:
    """Split a model's flat configuration into the network's, the preprocessing's and the optimiser's options."""
    network = {k: v for k, v in model.items() if k not in (*PREPROCESS_KEYS, *OPTIMIZATION_KEYS, *OTHER_KEYS)}
    preprocess = {k: model[k] for k in PREPROCESS_KEYS if k in model}
    return network, preprocess, {k: model[k] for k in OPTIMIZATION_KEYS if k in model}


def check_model(model: dict[str, Any]) -> None:
    """Refuse a wrong `_target_` or an option that its class does not take, before any data are read."""
    if "adapter" in model:
        if model["adapter"] != "anomalib":
            raise ProjectError(f"model.adapter={model['adapter']!r} is not known. Known: anomalib.")
        return
    if "_target_" not in model:
        raise ProjectError("the model has no _target_. Choose a shipped one (model=patchcore) or name its class.")
    from src.tasks.networks import network_options

    network, _, _ = split_options(model)
    accepted = network_options(network["_target_"])
    for name in set(network) - {"_target_"}:
        if name not in accepted:
            raise ProjectError(f"model.{name}: {model['_target_']} takes no such option.{nearest(name, accepted)}")


def image_size(value: Any) -> tuple[int, int]:
    """`256` or `[height, width]` as (height, width) in pixels."""
    size = (value, value) if isinstance(value, int) else tuple(value)
    if len(size) != 2 or not all(isinstance(v, int) and v >= 16 for v in size):
        raise ProjectError(f"model.image_size={value!r}: give a number of pixels, or [height, width], of at least 16.")
    return size  # type: ignore[return-value]


def create_task(
    model: dict[str, Any],
    *,
    monitor: str,
    weights_dir: Path,
    bundled: bool,
    classes: ClassSet | None = None,
    class_counts: Sequence[int] = (),
    categories: Sequence[str] | None = None,
    tta: dict[str, Any] | None = None,
) -> tuple[pl.LightningModule, ResolvedWeights]:
    """Build the task that a model configuration describes.

    Args:
        model: the flat model configuration (conf/model/<task>/<name>.yaml with overrides).
        monitor: metric that picks the best epoch.
        weights_dir: looked in before the hub.
        bundled: whether the competition is a bundled sample, the one case in which `auto` may fall back to `builtin`.
        classes: what a supervised model learns; None for other models. class_counts: how many training images of each
            class take part (few shots counted, those that a fold holds out not yet taken off).
        categories: names of the categories that get a network each; None for one network.
        tta: test-time views as {"flip", "rot90", "scales"}, or None.
    """
    height, width = image_size(model["image_size"])
    if "adapter" in model:
        return _create_adapted(model, (height, width), monitor=monitor, weights_dir=weights_dir, tta=tta)
    from src.models.anomaly.views import Views, check_views
    from src.tasks.anomaly import AnomalyTask
    from src.tasks.networks import network_options

    network, preprocess, optimization = split_options(model)
    resolved = _weights_of(network, model, weights_dir=weights_dir, bundled=bundled)
    if resolved.kind == "builtin":
        network = with_builtin_features(network)
    given = {"image_size": [height, width]}
    if classes is not None:
        given["class_names"], given["normal_classes"] = list(classes.names), list(classes.normal)
        given["class_counts"] = list(class_counts)
    accepted = network_options(network["_target_"])
    network |= {name: value for name, value in given.items() if name in accepted}
    own = normalization_of(network)
    kept = {
        name: own[name] if preprocess[name] is None or resolved.kind == "builtin" else preprocess[name]
        for name in ("mean", "std")
    }
    spec = PreprocessSpec(
        height=height,
        width=width,
        resize=preprocess["resize"],
        interpolation=preprocess["interpolation"],
        mean=tuple(kept["mean"]),
        std=tuple(kept["std"]),
    )
    views = Views.from_config(tta or {})
    task = AnomalyTask(
        network=network,
        preprocess=spec.to_dict(),
        optimization=optimization,
        monitor=monitor,
        class_set=None if classes is None else asdict(classes),
        mixing=None if classes is None else model.get("mixing"),
        tta=None if views is None else views.to_dict(),
        categories=categories,
        weights=resolved.path,
    )
    if views is not None:
        check_views(task.network, (height, width), views)
    if model.get("ema") and getattr(task.network, "memorizes", False) and getattr(task.network, "fitted", ()):
        raise ProjectError(
            f"model.ema: {model['name']} remembers its training images, and a memory cannot be averaged. "
            "Set model.ema=null."
        )
    return task, resolved


def _weights_of(network: dict[str, Any], model: dict[str, Any], *, weights_dir: Path, bundled: bool) -> ResolvedWeights:
    """Where the backbone's weights come from; a network without one trains from nothing."""
    if "backbone" not in network or "weights" not in model:
        return ResolvedWeights("random", None, "this model uses no pretrained network", None)
    if network["backbone"] == "filter_bank":
        return ResolvedWeights("builtin", None, "built-in filter bank (fixed filters, nothing learned)", None)
    return resolve_weights(network["backbone"], model["weights"], weights_dir=weights_dir, bundled=bundled)


def normalization_of(network: dict[str, Any]) -> dict[str, Sequence[float]]:
    """`mean` and `std` where the configuration gives none: the network's own, or its backbone's."""
    from src.models.features import default_normalization
    from src.tasks.networks import network_class

    cls = network_class(network["_target_"])
    if hasattr(cls, "normalization"):
        return cls.normalization(network)
    mean, std = default_normalization(network["backbone"])
    return {"mean": mean, "std": std}


def _create_adapted(
    model: dict[str, Any], size: tuple[int, int], *, monitor: str, weights_dir: Path, tta: dict[str, Any] | None
) -> tuple[pl.LightningModule, ResolvedWeights]:
    """An anomalib class by name. It may want one pretrained network, two, or none: each is found as it asks."""
    from src.models.anomaly.views import Views

    if Views.from_config(tta or {}) is not None:
        raise ProjectError("tta: anomalib's classes answer pictures as they are. Leave tta.flip and tta.rot90 false.")
    from src.tasks.anomalib_adapter import build_adapted

    found: list[ResolvedWeights] = []

    def find(backbone: str) -> str | None:
        found.append(resolve_weights(backbone, model["weights"], weights_dir=weights_dir, bundled=False))
        if found[-1].kind == "builtin":
            raise ProjectError(
                f"model.weights=builtin: anomalib's {model['name']} cannot use the built-in features. "
                "Give weights by path, or model.weights=random, or choose model=patchcore, padim, fastflow or cfa."
            )
        return found[-1].path

    task = build_adapted(
        model["name"],
        image_size=size,
        weights=find,
        mean=model["mean"],
        std=model["std"],
        backbone_args=model["backbone_args"] or {},
        args=model["args"] or {},
        monitor=monitor,
    )
    if not found and model["weights"] not in WORDS:
        raise ProjectError(f"model.weights={model['weights']}: anomalib's {model['name']} loads no pretrained network.")
    none = ResolvedWeights("random", None, "this model uses no pretrained network", None)
    return task, found[0] if found else none


def with_builtin_features(network: dict[str, Any]) -> dict[str, Any]:
    """The same network on the features that this project ships: backbone, layers and backbone arguments replaced.

    The filters' responses have units of their own, so networks that can are told to standardise them.
    """
    from src.models.filter_bank import LAYERS
    from src.tasks.networks import network_options

    replaced = {**network, "backbone": "filter_bank", "backbone_args": {}}
    own = {"layers": list(reversed(LAYERS)), "standardize": True}
    if network["backbone"] == "filter_bank" and set(network.get("layers", ["?"])) <= set(LAYERS):
        del own["layers"]  # chosen among its own
    accepted = network_options(network["_target_"])
    return replaced | {name: value for name, value in own.items() if name in accepted}
