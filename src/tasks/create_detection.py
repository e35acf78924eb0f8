"""From a detector's plain configuration to a task ready to train: options checked, weights found, classes fixed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.data.transforms import PreprocessSpec
from src.errors import ProjectError
from src.tasks.create import image_size, split_options
from src.tasks.detection import DetectionTask
from src.tasks.found_weights import find_weights
from src.tasks.networks import network_class
from src.weights import ResolvedWeights


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
    kind = network_class(network["_target_"])
    needs_english = hasattr(kind, "checkpoints") and getattr(kind, "needs_names", True)
    found = find_weights(
        network,
        model["weights"],
        weights_dir=weights_dir,
        bundled=bundled,
        class_names=english_names(classes) if needs_english else classes,
    )
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
