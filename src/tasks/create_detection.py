"""From a detector's plain configuration to a task ready to train: options checked, weights found, classes fixed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.data.transforms import PreprocessSpec
from src.errors import ProjectError
from src.tasks.create import image_size, split_options
from src.tasks.detection import DetectionTask
from src.tasks.networks import network_class
from src.weights import ResolvedWeights, has_published_shape, refuse_unpublished, resolve_weights


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

    A network whose class names `checkpoints` (those of the hub's model families) fills its options from them and the
    class names, so that the task rebuilds without either.

    Args:
        model: the flat model configuration (conf/model/detection/<name>.yaml with overrides).
        classes: class names in the order of the labels, as the competition writes them (Korean or English).
        monitor: metric that picks the best epoch.
        weights_dir: looked in before the hub.
        bundled: whether the competition is a bundled sample, the one case in which `auto` may fall back to `random`.
    """
    height, width = image_size(model["image_size"])
    network, preprocess, optimization = split_options(model)
    found = _find(network, model["weights"], classes, weights_dir=weights_dir, bundled=bundled)
    usual = found.usual
    spec = PreprocessSpec(
        height=height,
        width=width,
        resize=preprocess["resize"],
        interpolation=preprocess["interpolation"],
        mean=tuple(preprocess["mean"] or usual["mean"]),
        std=tuple(preprocess["std"] or usual["std"]),
    )
    task = DetectionTask(
        network={**found.options, "num_classes": len(classes), "image_size": [height, width]},
        preprocess=spec.to_dict(),
        optimization=optimization,
        classes=list(classes),
        monitor=monitor,
        tta=tta,
        tiles=tiles,
        initial=found.initial,
    )
    return task, found.resolved


@dataclass(frozen=True)
class _Found:
    """A network's whole options, what its first construction gets, where that came from, and its usual mean and std."""

    options: dict[str, Any]
    initial: dict[str, Any]
    resolved: ResolvedWeights
    usual: dict[str, Any]


def _find(
    network: dict[str, Any], weights: str, classes: Sequence[str], *, weights_dir: Path, bundled: bool
) -> _Found:
    """Find the weights of a timm backbone or of hub checkpoints; options that depend on them are completed."""
    if weights == "builtin":
        raise ProjectError(
            "model.weights=builtin: the built-in filters are features for anomaly models. For a detector choose "
            "pretrained, random, or a path."
        )
    kind = network_class(network["_target_"])
    if hasattr(kind, "checkpoints"):
        from src.hub_models import prepare_network

        prepared = prepare_network(
            kind,
            network,
            weights=weights,
            weights_dir=weights_dir,
            bundled=bundled,
            class_names=english_names(classes) if getattr(kind, "needs_names", True) else list(classes),
        )
        first, *others = prepared.resolved.values()
        resolved = replace(first, source="; ".join([first.source, *(other.source for other in others)]))
        return _Found(prepared.options, prepared.initial, resolved, kind.normalization(prepared.options))
    if weights in ("auto", "pretrained") and not has_published_shape(network.get("backbone_args")):
        if weights != "auto" or not bundled:
            refuse_unpublished(network["backbone"], network["backbone_args"])
        print("weights   this thin backbone has no pretrained ones: on the bundled sample it is trained from nothing")
        resolved = ResolvedWeights("random", None, "random values, trained from scratch", None)
    else:
        resolved = resolve_weights(
            network["backbone"], weights, weights_dir=weights_dir, bundled=bundled, fallback="random"
        )
    return _Found(network, {"weights": resolved.path}, resolved, _normalization(kind, network))


def _normalization(kind: Any, network: dict[str, Any]) -> dict[str, Any]:
    """Mean and deviation by the network's class, where it says them, else by its timm backbone."""
    if hasattr(kind, "normalization"):
        return kind.normalization(network)
    from src.models.features import default_normalization

    mean, std = default_normalization(network["backbone"])
    return {"mean": mean, "std": std}


def english_names(classes: Sequence[str]) -> list[str]:
    """The English term of each class name, by the lexicon; English names stay.

    Raises:
        ProjectError: a Korean name that the lexicon does not know.
    """
    from src.lexicon import english_of

    terms = {name: english_of(name, among=list(classes)) for name in classes}
    unknown = [name for name, found in terms.items() if not found]
    if unknown:
        raise ProjectError(
            f"the lexicon has no English word for the class '{unknown[0]}'. Name the classes in English "
            "(competition.data.classes), or add it to src/lexicon."
        )
    return [found[0] for found in terms.values()]
