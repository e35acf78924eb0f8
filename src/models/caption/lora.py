"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) inside a captioner, by peft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from src.errors import ProjectError, nearest
from src.models.caption.parts import part_of

OPTIONS = {"rank": 16, "alpha": 32, "dropout": 0.05, "targets": "auto", "vision": False}


def lora_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options with defaults filled in.

    rank, alpha: of the update, which is scaled by alpha / rank; dropout of its input. targets: auto, or the last names
    of linear layers ("q_proj"). vision: whether the image encoder is given adapters as well.

    Raises:
        ProjectError: an unknown option, or a value out of range.
    """
    for name in values:
        if name not in OPTIONS:
            raise ProjectError(
                f"model.lora.{name} is not an option.{nearest(name, OPTIONS)} Known: {', '.join(OPTIONS)}."
            )
    options = {**OPTIONS, **values}
    if isinstance(options["rank"], bool) or not isinstance(options["rank"], int) or options["rank"] < 1:
        raise ProjectError(f"model.lora.rank={options['rank']!r}: give a whole number of at least 1.")
    if not float(options["alpha"]) > 0:
        raise ProjectError(f"model.lora.alpha={options['alpha']!r}: give a number above 0.")
    if not 0 <= float(options["dropout"]) < 1:
        raise ProjectError(f"model.lora.dropout={options['dropout']!r}: give a number from 0 to below 1.")
    targets = options["targets"]
    if targets != "auto" and (isinstance(targets, str) or not targets):
        raise ProjectError(f"model.lora.targets={targets!r}: write auto, or a list such as [q_proj, v_proj].")
    return options


def add_lora(
    model: nn.Module, options: Mapping[str, Any], *, frozen: Sequence[str] = (), cross_attention: bool = False
) -> list[str]:
    """Put adapters into the model's linear layers, in place; returns the names of the layers that got one.

    targets auto: every linear projection inside an attention module. Adapters go into the language model (and the
    image encoder, if `vision`), never into a part in `frozen`. The layers' own weights, and the rest of a part that
    got adapters, keep still. cross_attention: as for `parts.part_of`; where it is a part it learns whole.

    Raises:
        ProjectError: no layer fits.
    """
    from peft import LoraConfig, inject_adapter_in_model

    options = lora_options(options)
    parts = [part for part in ("language", "vision") if part not in frozen]
    parts = [part for part in parts if part != "vision" or options["vision"]]
    layers = {
        name: layer
        for name, layer in linear_layers(model).items()
        if part_of(name, cross_attention=cross_attention) in parts
    }
    if options["targets"] == "auto":
        chosen = [name for name in layers if _in_attention(name)]
    else:
        ends = {name.rpartition(".")[2] for name in layers}
        for target in options["targets"]:
            if target not in ends:
                raise ProjectError(
                    f"model.lora.targets: no linear layer of {' and '.join(parts) or 'a trained part'} is called "
                    f"{target!r}.{nearest(str(target), ends)} There are {', '.join(sorted(ends))}."
                )
        chosen = [name for name in layers if name.rpartition(".")[2] in options["targets"]]
    if not chosen:
        raise ProjectError(
            f"model.lora finds no layer for adapters in {' and '.join(parts) or 'any part that is not frozen'}: "
            "name them by model.lora.targets, or leave the language model out of model.freeze."
        )
    for name, parameter in model.named_parameters():
        if part_of(name, cross_attention=cross_attention) in parts:
            parameter.requires_grad_(False)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    config = LoraConfig(
        r=options["rank"],
        lora_alpha=options["alpha"],
        lora_dropout=float(options["dropout"]),
        target_modules=chosen,
        fan_in_fan_out=type(layers[chosen[0]]).__name__ == "Conv1D",
    )
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if name in trained:  # peft freezes all but the adapters; projectors learn beside them
            parameter.requires_grad_(True)
    return chosen


def merge_lora(model: nn.Module) -> int:
    """Add the adapters to the weights that they change and take them out, in place; returns how many there were."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    merged = 0
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.get_base_layer())
            merged += 1
    if merged and hasattr(model, "peft_config"):
        del model.peft_config
    return merged


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Names → linear layers, GPT-2's transposed ones and quantised ones among them."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }


def _in_attention(name: str) -> bool:
    return any("attn" in piece or "attention" in piece for piece in name.lower().split(".")[:-1])
