"""A whole timm model with a head for the competition's classes: built, filled from a file, asked at every location."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.anomaly.unfreezing import head_parameters
from src.models.features import LoadReport, check_backbone, load_backbone_weights

OWN_ARGUMENTS = {
    "num_classes": "the classes come from the competition",
    "drop_rate": "set model.dropout",
    "drop_path_rate": "set model.drop_path",
    "features_only": "the whole model is used",
    "out_indices": "the whole model is used",
    "pretrained": "set model.weights",
    "checkpoint_path": "set model.weights",
    "in_chans": "pictures have three channels",
}


def build_timm_classifier(
    backbone: str,
    args: Mapping[str, Any] | None,
    *,
    n_classes: int,
    dropout: float,
    drop_path: float,
    weights: str | None,
) -> tuple[nn.Module, LoadReport | None]:
    """The timm model and the report of its weights file, if one is given.

    A head of another number of classes in the file is left out: the new one begins at zero (Dosovitskiy et al. 2021,
    "An Image is Worth 16x16 Words", section 3.2), for timm's initial values are large in some families, and gradients
    through them spoil pretrained features in the first steps. Vision transformers accept any image size that their
    patches divide, where timm lets them.

    Raises:
        ProjectError: an unknown backbone, arguments that it refuses, or weights that do not fit.
    """
    args = dict(args or {})
    check_backbone(backbone)
    for key, reason in OWN_ARGUMENTS.items():
        if key in args:
            raise ProjectError(f"backbone_args.{key} is set by the project: {reason}.")
    with torch.device("meta"):  # names and shapes only: costs no memory and no time
        full = _create(backbone, args)
    if hasattr(full, "dynamic_img_size"):
        args.setdefault("dynamic_img_size", True)
    rates = {name: rate for name, rate in (("drop_rate", dropout), ("drop_path_rate", drop_path)) if rate}
    model = _create(backbone, {**args, **rates, "num_classes": n_classes})
    if not hasattr(model, "forward_head"):
        raise ProjectError(f"timm's {backbone} is no classifier with features and a head. Choose another backbone.")
    if weights is None:
        return model, None
    head = head_parameters(model)
    for parameter in head.values():
        nn.init.zeros_(parameter)
    report = load_backbone_weights(model, full, backbone, Path(weights), replaceable=head)
    return model, report


def _create(backbone: str, args: Mapping[str, Any]) -> nn.Module:
    import timm

    try:
        return timm.create_model(backbone, pretrained=False, **args)
    except TypeError as error:
        for argument, option in (("drop_path_rate", "drop_path"), ("drop_rate", "dropout")):
            if argument in str(error):
                raise ProjectError(f"timm's {backbone} has no {argument}: set model.{option}=0.") from error
        raise ProjectError(f"timm's {backbone} refuses backbone_args={dict(args)}: {error}.") from error


def has_locations(model: nn.Module) -> bool:
    """Whether the model pools a map of features evenly, so that its head may judge each place alone."""
    from timm.layers import SelectAdaptivePool2d

    pool = getattr(model, "global_pool", None)
    if not isinstance(pool, nn.Module):
        pool = getattr(getattr(model, "head", None), "global_pool", None)
    return isinstance(pool, SelectAdaptivePool2d) and not pool.is_identity()


def takes_any_size(model: nn.Module) -> bool:
    """Whether pictures of any size are judged alike: convolutions and even pooling, no positions and no windows."""
    return has_locations(model) and not model.pretrained_cfg.get("fixed_input_size", False)


def with_locations(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits (B, C) of the pictures, and (B, C, h, w) of each place of the last feature map; None without such a map.

    The head sees each place as a map of 1×1. For average pooling and a linear head the places' mean is the picture's
    logit (class activation maps: Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", sect. 2).
    """
    features = model.forward_features(images)
    logits = model.forward_head(features)
    if features.ndim != 4 or not has_locations(model):
        return logits, None
    channels_last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")
    places = features if channels_last else features.permute(0, 2, 3, 1)  # (B, h, w, D)
    batch, height, width, depth = places.shape
    single = places.reshape(-1, 1, 1, depth) if channels_last else places.reshape(-1, depth, 1, 1)
    return logits, model.forward_head(single).view(batch, height, width, -1).permute(0, 3, 1, 2)
