"""Parts of a captioner by the names of its parameters: what freezes, and where adapters go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from src.errors import ProjectError, nearest

# Names of modules in transformers' captioners, per part; a parameter belongs to the first row that its path names.
_NAMES = {
    "projector": ("multi_modal_projector", "connector", "merger", "deepstack_merger_list", "language_projection",
                  "enc_to_dec_proj", "image_newline", "embed_vision", "mm_projector"),
    "qformer": ("qformer", "query_tokens"),
    "cross_attention": ("crossattention", "encoder_attn", "encoder_attn_layer_norm", "ln_cross_attn"),
    "vision": ("vision_model", "vision_tower", "visual", "vision_encoder", "image_encoder", "encoder"),
    "language": ("language_model", "text_model", "text_decoder", "lm_head", "decoder"),
}  # fmt: skip


def part_of(name: str, *, cross_attention: bool = False) -> str | None:
    """The part that a parameter or module of this dotted name belongs to; None where no row of the table fits.

    cross_attention: whether that is a part of its own (decoders that were given it anew) or the language's.
    """
    path = name.split(".")
    for part in ("projector", "qformer"):
        if any(piece in _NAMES[part] for piece in path):
            return part
    for piece in path:  # the outermost one decides: encoders hold modules called "decoder" and the reverse
        if piece in _NAMES["vision"]:
            return "vision"
        if piece in _NAMES["language"]:
            crossed = cross_attention and any(inner in _NAMES["cross_attention"] for inner in path)
            return "cross_attention" if crossed else "language"
    return None


def parts_of(model: nn.Module, *, cross_attention: bool = False) -> list[str]:
    """The parts that this network has, in the order of its parameters."""
    found = (part_of(name, cross_attention=cross_attention) for name, _ in model.named_parameters())
    return [part for part in dict.fromkeys(found) if part is not None]


def check_parts(names: Iterable[str], known: Sequence[str], *, option: str) -> None:
    """Raises ProjectError for a part that the network does not have."""
    for name in names:
        if name not in known:
            raise ProjectError(
                f"model.{option}: {name!r} is no part of this network.{nearest(str(name), known)} "
                f"Its parts: {', '.join(known)}."
            )


def modules_of(model: nn.Module, parts: Sequence[str], *, cross_attention: bool = False) -> list[nn.Module]:
    """The outermost modules whose every parameter is of these parts."""
    wanted = set(parts)
    found: list[nn.Module] = []
    chosen: list[str] = []
    for name, module in model.named_modules():
        if not name or any(name.startswith(outer + ".") for outer in chosen):
            continue
        inside = {part_of(f"{name}.{inner}", cross_attention=cross_attention) for inner, _ in module.named_parameters()}
        if inside and inside <= wanted:
            found.append(module)
            chosen.append(name)
    return found
