"""Configurations of transformers as plain dicts, and networks built from them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.errors import ProjectError, nearest

if TYPE_CHECKING:
    from torch import nn

    from src.models.features import LoadReport

CONFIG_FILE = "config.json"


def load_config(source: str | Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The full configuration of a checkpoint's folder, or of a model type's defaults, as a plain dict.

    Args:
        source: a folder with `config.json`, or a model type of transformers ("grounding-dino", "owlv2", "rt_detr_v2").
        overrides: keys to replace; nested dicts are merged, and one that names another `model_type` replaces.

    Raises:
        ProjectError: an unknown model type or key (with the nearest known one), values that the type refuses.
    """
    folder = Path(source)
    raw: dict[str, Any] = {}
    if (folder / CONFIG_FILE).is_file():
        raw = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        model_type = raw.get("model_type", "")
    else:
        model_type = str(source)
    config_class = _config_class(model_type)
    merged = _merge(raw, dict(overrides or {}))
    merged.pop("model_type", None)
    if overrides:  # some types have no defaults to compare with
        _check_keys(config_class(), dict(overrides), merged, "config")
    try:
        config = config_class.from_dict(merged)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ProjectError(f"{model_type} refuses its configuration: {error}") from error
    except Exception as error:  # huggingface_hub's strict dataclasses have an error class of their own
        if "Strict" not in type(error).__name__:
            raise
        raise ProjectError(f"{model_type} refuses its configuration: {error}") from error
    return plain_config(config)


def plain_config(config: Any) -> dict[str, Any]:
    """A transformers configuration as a dict of JSON's types, whole, with its `model_type`."""
    return {**json.loads(config.to_json_string(use_diff=False)), "model_type": config.model_type}


def part_config(config: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """The configuration of one network out of a checkpoint that holds several; any other as it is.

    SAM 3 is published as one video checkpoint with a detector (`sam3`) and a tracker (`sam3_tracker`) inside.
    """
    inner = config.get({"sam3": "detector_config", "sam3_tracker": "tracker_config"}.get(model_type, ""))
    if config.get("model_type") == model_type or not isinstance(inner, Mapping):
        return dict(config)
    values = {key: value for key, value in inner.items() if key != "model_type"}
    return plain_config(_config_class(model_type).from_dict(values))


def build_config(config: Mapping[str, Any]) -> Any:
    """The transformers configuration that `load_config` or `plain_config` wrote as a dict."""
    values = copy.deepcopy(dict(config))  # some classes take inner dicts apart
    return _config_class(values.pop("model_type", "")).from_dict(values)


def _config_class(model_type: str) -> Any:
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        raise ProjectError(
            f"{model_type!r} is no model type of the installed transformers.{nearest(model_type, CONFIG_MAPPING)}"
        )
    return CONFIG_MAPPING[model_type]


def _merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        same = isinstance(value, Mapping) and isinstance(old, Mapping)
        if same and value.get("model_type", old.get("model_type")) == old.get("model_type"):
            merged[key] = _merge(old, value)
        else:
            merged[key] = dict(value) if isinstance(value, Mapping) else value
    return merged


def _check_keys(default: Any, overrides: Mapping[str, Any], merged: Mapping[str, Any], where: str) -> None:
    """A configuration swallows keys that it does not know; a misspelt one must not pass."""
    known = {*default.to_dict(), *default.attribute_map, "model_type"}
    for key, value in overrides.items():
        if key not in known:
            raise ProjectError(f"model.{where}.{key}: {default.model_type} has no such key.{nearest(key, known)}")
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            model_type = merged[key].get("model_type")
            nested = _config_class(model_type)() if model_type else getattr(default, key, None)
            if hasattr(nested, "attribute_map"):
                _check_keys(nested, value, merged[key], f"{where}.{key}")


def build_model(
    model_class: type,
    config: Mapping[str, Any],
    weights: str | None,
    *,
    may_differ: Sequence[str] = (),
) -> tuple[nn.Module, LoadReport | None]:
    """Build a transformers network from its plain configuration, with the weights of a checkpoint's folder.

    Args:
        model_class: a class of transformers, such as GroundingDinoForObjectDetection.
        config: what `load_config` gave.
        weights: a checkpoint's folder; None leaves random values, to be filled by a state dict.
        may_differ: beginnings of parameter names that may be missing from the checkpoint or have another shape there
            (a classifier of other classes); they keep random values, and the report names them.

    Raises:
        ProjectError: other parameters are missing or differ in shape: the checkpoint is of another network.
    """
    import torch

    from src.models.features import LoadReport

    built = build_config(config)
    if weights is None:
        return model_class(built), None
    try:
        model, info = model_class.from_pretrained(
            weights,
            config=built,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0][:300]
        raise ProjectError(f"{weights} could not be loaded as {model_class.__name__}: {first}") from error
    mismatched = [str(row[0]) for row in info["mismatched_keys"]]
    missing = sorted(info["missing_keys"])
    report = LoadReport(
        path=str(weights),
        loaded=len(model.state_dict()) - len(missing) - len(mismatched),
        missing=tuple(missing),
        mismatched=tuple(sorted(mismatched)),
        unexpected=tuple(sorted(info["unexpected_keys"])),
    )
    faults = [name for name in (*missing, *mismatched) if not name.startswith(tuple(may_differ) or ("\0",))]
    if faults:
        raise ProjectError(
            f"the checkpoint {weights} does not fit {model_class.__name__}: {len(faults)} parameters are missing or "
            f"of another shape, {faults[0]} among them. Give model.checkpoint and model.weights of one network, and "
            "leave model.config empty unless its keys were overridden for that checkpoint as well."
        )
    return model.train(), report
