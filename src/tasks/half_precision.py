"""The precision that large networks run at by default."""

import torch


def half_precision(accelerator: str) -> str:
    """Half precision by what the card can do: bf16 from Ampere on, fp16 on a T4, full precision elsewhere."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "32-true"
