"""The weights that a network is first built from, whichever kind of source its class names: timm's or the hub's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.errors import ProjectError
from src.tasks.networks import network_class
from src.weights import ResolvedWeights, has_published_shape, refuse_unpublished, resolve_weights


@dataclass(frozen=True)
class Found:
    """A network's whole options, what its first construction gets, where that came from, and its usual mean and std."""

    options: dict[str, Any]
    initial: dict[str, Any]
    resolved: ResolvedWeights
    usual: dict[str, Any]


def find_weights(
    network: dict[str, Any],
    weights: str,
    *,
    weights_dir: Path,
    bundled: bool,
    class_names: Sequence[str] = (),
) -> Found:
    """Find the weights of a timm backbone or of hub checkpoints; options that depend on them are completed.

    A network without backbone and checkpoint needs none.

    Raises:
        WeightsNotFound, ProjectError: as `resolve_weights` and `resolve_checkpoint` do.
    """
    kind = network_class(network["_target_"])
    takes_builtin = getattr(kind, "takes_builtin", False)  # compares pictures by features that it does not train
    if weights == "builtin" and not takes_builtin:
        raise ProjectError(
            "model.weights=builtin: the built-in filters are features for models that compare pictures. For this model "
            "choose pretrained, random, or a path."
        )
    if hasattr(kind, "checkpoints"):
        from src.hub_models import prepare_network

        prepared = prepare_network(
            kind, network, weights=weights, weights_dir=weights_dir, bundled=bundled, class_names=list(class_names)
        )
        first, *others = prepared.resolved.values()
        resolved = replace(first, source="; ".join([first.source, *(other.source for other in others)]))
        return Found(prepared.options, prepared.initial, resolved, kind.normalization(prepared.options))
    if "backbone" not in network:
        none = ResolvedWeights("random", None, "this model uses no pretrained network", None)
        return Found(network, {}, none, kind.normalization(network))
    if weights in ("auto", "pretrained") and not has_published_shape(network.get("backbone_args")):
        if weights != "auto" or not bundled:
            refuse_unpublished(network["backbone"], network["backbone_args"])
        print("weights   this thin backbone has no pretrained ones: on the bundled sample it is trained from nothing")
        resolved = ResolvedWeights("random", None, "random values, trained from scratch", None)
    else:
        fallback = "builtin" if takes_builtin else "random"
        resolved = resolve_weights(
            network["backbone"], weights, weights_dir=weights_dir, bundled=bundled, fallback=fallback
        )
        if resolved.kind == "builtin":
            network = {**network, "backbone": "filter_bank", "backbone_args": {}}
    return Found(network, {"weights": resolved.path}, resolved, _normalization(kind, network))


def _normalization(kind: Any, network: dict[str, Any]) -> dict[str, Any]:
    """Mean and deviation by the network's class, where it says them, else by its timm backbone."""
    if hasattr(kind, "normalization"):
        return kind.normalization(network)
    from src.models.features import default_normalization

    mean, std = default_normalization(network["backbone"])
    return {"mean": mean, "std": std}
