"""From a detector's plain configuration to a task ready to train: options checked, weights found, classes fixed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.data.transforms import IMAGENET_MEAN, IMAGENET_STD, PreprocessSpec
from src.errors import ProjectError
from src.tasks.create import image_size, split_options
from src.tasks.detection import DetectionTask
from src.tasks.networks import network_class, network_options
from src.weights import ResolvedWeights, resolve_weights


def create_detection_task(
    model: dict[str, Any],
    *,
    classes: Sequence[str],
    monitor: str,
    weights_dir: Path,
    bundled: bool,
    tta: dict[str, Any] | None = None,
    tiles: dict[str, Any] | None = None,
) -> tuple[DetectionTask, ResolvedWeights]:
    """Build the detection task that a model configuration describes.

    A network whose class has `prepare` (those of the hub's model families) fills its options from the resolved
    checkpoint and the class names, so that the task rebuilds without either.

    Args:
        model: the flat model configuration (conf/model/detection/<name>.yaml with overrides).
        classes: class names in the order of the labels, as the competition writes them (Korean or English).
        monitor: metric that picks the best epoch.
        weights_dir: looked in before the hub.
        bundled: whether the competition is a bundled sample, the one case in which `auto` may fall back to `random`.
    """
    height, width = image_size(model["image_size"])
    network, preprocess, optimization = split_options(model)
    target = network["_target_"]
    accepted = network_options(target)
    resolved, mean, std = _weights(network, model["weights"], weights_dir=weights_dir, bundled=bundled)
    network = {**network, "num_classes": len(classes), "image_size": [height, width]}
    if "class_names" in accepted:
        from src.lexicon import english_of

        network["class_names"] = [english_of(name)[0] for name in classes]
    if hasattr(network_class(target), "prepare"):
        network = network_class(target).prepare(network, resolved)
    spec = PreprocessSpec(
        height=height,
        width=width,
        resize=preprocess["resize"],
        interpolation=preprocess["interpolation"],
        mean=tuple(preprocess["mean"] or mean),
        std=tuple(preprocess["std"] or std),
    )
    task = DetectionTask(
        network=network,
        preprocess=spec.to_dict(),
        optimization=optimization,
        classes=list(classes),
        monitor=monitor,
        tta=tta,
        tiles=tiles,
        weights=resolved.path,
    )
    return task, resolved


def _weights(
    network: dict[str, Any], weights: str, *, weights_dir: Path, bundled: bool
) -> tuple[ResolvedWeights, Sequence[float], Sequence[float]]:
    """The weights of a timm backbone or of a hub checkpoint, and the mean and deviation that they were trained with."""
    if weights == "builtin":
        raise ProjectError(
            "model.weights=builtin: the built-in filters are features for anomaly models. For a detector choose "
            "pretrained, random, or a path."
        )
    if "checkpoint" in network:
        from src.hub_models import default_preprocess, resolve_checkpoint

        resolved = resolve_checkpoint(network["checkpoint"], weights, weights_dir=weights_dir, bundled=bundled)
        usual = default_preprocess(network["architecture"])
        return resolved, usual["mean"], usual["std"]
    if "backbone" in network:
        from src.models.features import default_normalization

        resolved = resolve_weights(
            network["backbone"], weights, weights_dir=weights_dir, bundled=bundled, fallback="random"
        )
        return resolved, *default_normalization(network["backbone"])
    if weights not in ("auto", "random"):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise ProjectError(f"model.weights={weights}: there is no such file. Give a state dict's path, or auto.")
        return ResolvedWeights("file", str(path), str(path), None), IMAGENET_MEAN, IMAGENET_STD
    return ResolvedWeights("random", None, "random weights", None), IMAGENET_MEAN, IMAGENET_STD
