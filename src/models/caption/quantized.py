"""A captioner's base in 4 or 8 bits (bitsandbytes), which LoRA trains on top of (QLoRA, Dettmers et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from src.errors import ProjectError, nearest
from src.hub_models import build_config

if TYPE_CHECKING:
    from torch import nn

    from src.models.features import LoadReport

FORMATS = ("4bit", "8bit")


def load_quantized(
    model_class: Any,
    config: Mapping[str, Any],
    weights: str | None,
    quantization: str,
    *,
    lora: Mapping[str, Any] | None,
) -> tuple[nn.Module, LoadReport | None]:
    """The network with its linear layers quantised, on the current CUDA device.

    4bit is NF4 with double quantisation; both compute in bfloat16 where the card can, else float16.

    Raises:
        ProjectError: no CUDA, no bitsandbytes, no LoRA to train, or no checkpoint to quantise.
    """
    from src.models.features import LoadReport

    if quantization not in FORMATS:
        raise ProjectError(
            f"model.quantization={quantization!r} is not one of null, {', '.join(FORMATS)}."
            f"{nearest(str(quantization), FORMATS)}"
        )
    if lora is None:
        raise ProjectError("model.quantization: quantised weights do not train; add model.lora={rank: 16}.")
    if not torch.cuda.is_available():
        raise ProjectError(f"model.quantization={quantization} needs a CUDA device; set model.quantization=null.")
    if find_spec("bitsandbytes") is None:
        raise ProjectError(f"model.quantization={quantization} needs bitsandbytes: pip install bitsandbytes")
    if weights is None:
        raise ProjectError("model.quantization: there is no checkpoint to quantise; random values cannot be.")
    from transformers import BitsAndBytesConfig

    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if quantization == "4bit":
        how = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    else:
        how = BitsAndBytesConfig(load_in_8bit=True)
    model, info = model_class.from_pretrained(
        weights,
        config=build_config(config),
        local_files_only=True,
        dtype=dtype,
        quantization_config=how,
        device_map={"": torch.cuda.current_device()},
        output_loading_info=True,
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ProjectError(f"the checkpoint {weights} lacks {len(missing)} weights, {missing[0]} among them.")
    return model.train(), LoadReport(path=str(weights), loaded=len(model.state_dict()))
