"""The early refusal of weights that are nowhere here, for models with a timm backbone or a checkpoint of the hub."""

from pathlib import Path
from typing import Any


def refuse_missing_weights(model: dict[str, Any], weights_dir: Path) -> None:
    """Refuse a model whose pretrained weights cannot be had, before anything heavy is imported.

    Raises:
        WeightsNotFound: nothing is here and nothing is reachable; the message names the ways out.
        ProjectError: weights are asked for that nobody publishes.
    """
    halves = [half for half in ("encoder", "decoder") if model.get(half)]  # a network of two checkpoints
    if model.get("checkpoint") or halves:
        from src.hub_models import refuse_checkpoint_early

        if model.get("checkpoint"):
            wanted = {model["checkpoint"]: model["weights"]}
        else:
            wanted = {model[half]: model[f"{half}_weights"] or model["weights"] for half in halves}
        for name, weights in wanted.items():
            refuse_checkpoint_early(name, weights, weights_dir=weights_dir)
    elif "backbone" in model:
        from src.weights import has_published_shape, refuse_early, refuse_unpublished

        if model["weights"] in ("auto", "pretrained") and not has_published_shape(model["backbone_args"]):
            refuse_unpublished(model["backbone"], model["backbone_args"], instead=f"{model['name']}_pretrained")
        refuse_early(model["backbone"], model["weights"], weights_dir=weights_dir)
