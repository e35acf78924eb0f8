"""Checkpoints of the original LLaVA 1.5 code (KoLLaVA among them) as folders that transformers reads.

python -m src.models.caption.convert_llava from=folder tower=folder out=folder chat=auto

The original keeps a language model with a two-layer projector inside it, and names its CLIP tower; here the three
become one LlavaForConditionalGeneration. Weights of the tower that the checkpoint holds itself are preferred.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.errors import ProjectError, nearest

OPTIONS = ("from", "tower", "out", "chat")
IMAGE = "<image>"
# Original names → those of LlavaForConditionalGeneration's own state dict; the first rule that matches counts.
_NAMES = (
    (r"^model\.mm_projector\.0\.", "model.multi_modal_projector.linear_1."),
    (r"^model\.mm_projector\.2\.", "model.multi_modal_projector.linear_2."),
    (r"^model\.vision_tower\.vision_tower\.(vision_model\.)?", "model.vision_tower."),
    (r"^lm_head\.", "lm_head."),
    (r"^model\.", "model.language_model."),
)
CHATS = {
    "vicuna": (
        "{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}"
        "<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
        "{% if m['role'] == 'assistant' %}{{ eos_token }}{% else %} {% endif %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        "<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}


def main(arguments: list[str]) -> int:
    """Read `key=value` arguments and convert; the exit status."""
    values = {"chat": "auto"}
    try:
        for argument in arguments:
            key, equals, value = argument.partition("=")
            if not equals or key not in OPTIONS:
                raise ProjectError(
                    f"{argument!r}: write key=value with one of {', '.join(OPTIONS)}.{nearest(key, OPTIONS)}"
                )
            values[key] = value
        if missing := [key for key in OPTIONS if key not in values]:
            raise ProjectError(f"{missing[0]}= is missing: the folders are from=, tower= and out=.")
        convert(Path(values["from"]), Path(values["tower"]), Path(values["out"]), chat=values["chat"])
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(values["out"])
    return 0


def convert(source: Path, tower: Path, out: Path, *, chat: str = "auto") -> None:
    """Write the checkpoint in `source` as a LlavaForConditionalGeneration with its processor into `out`.

    Args:
        source: an original LLaVA folder (LlavaLlamaForCausalLM with an `mlp2x_gelu` projector).
        tower: the folder of the CLIP model that it names as `mm_vision_tower`.
        chat: how it is asked: vicuna | chatml; auto is chatml where the tokenizer knows its marks. The sentence that
            the original puts before every conversation is left out.

    Raises:
        ProjectError: the folder is of another format, weights are missing, or `out` is not empty.
    """
    from transformers import AutoTokenizer, CLIPImageProcessor, LlavaForConditionalGeneration, LlavaProcessor

    raw = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if out.exists() and any(out.iterdir()):
        raise ProjectError(f"{out} is not empty: give another folder.")
    if chat not in ("auto", *CHATS):
        raise ProjectError(f"chat={chat!r} is not one of auto, {', '.join(CHATS)}.{nearest(chat, CHATS)}")
    if raw.get("mm_projector_type") != "mlp2x_gelu":
        raise ProjectError(
            f"{source} has the projector {raw.get('mm_projector_type')!r}, which is not LLaVA 1.5's mlp2x_gelu."
        )
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    config, sides = _config(raw, tower, image)
    state = {}
    for name, value in _tensors(source).items():
        for pattern, new in _NAMES:
            if re.match(pattern, name):
                state[re.sub(pattern, new, name)] = value
                break
    state.update({key: value for key, value in _tower(tower).items() if key not in state})
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        state[name] = _one_more(state[name], image)
    model = LlavaForConditionalGeneration(config).to(state["lm_head.weight"].dtype)
    inner = "model.vision_tower.vision_model."
    if any(name.startswith(inner) for name in model.state_dict()):  # as some versions of transformers name it
        state = {name.replace("model.vision_tower.", inner): value for name, value in state.items()}
    missing = model.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise ProjectError(f"{source} and {tower} lack {len(missing)} weights of LLaVA, {missing[0]} among them.")
    if chat == "auto":
        chat = "chatml" if "<|im_end|>" in tokenizer.get_vocab() else "vicuna"
    if chat == "chatml":
        tokenizer.eos_token = "<|im_end|>"
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": sides}, crop_size={"height": sides, "width": sides}),
        tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHATS[chat],
    )
    model.save_pretrained(out)
    processor.save_pretrained(out)


def _config(raw: Mapping[str, Any], tower: Path, image: int) -> tuple[Any, int]:
    """LLaVA's configuration in transformers, and the pictures' side in pixels."""
    from transformers import CLIPConfig, CLIPVisionConfig, LlamaConfig, LlavaConfig

    seen = json.loads((tower / "config.json").read_text(encoding="utf-8"))
    kind = CLIPVisionConfig if seen.get("model_type") == "clip_vision_model" else None
    vision = kind.from_pretrained(tower) if kind else CLIPConfig.from_pretrained(tower).vision_config
    own = {key: value for key, value in raw.items() if not key.startswith("mm_") and key in LlamaConfig().to_dict()}
    for key in ("model_type", "architectures", "transformers_version", "vocab_size"):
        own.pop(key, None)
    if own.get("rope_parameters") is None and "rope_theta" in raw:
        own["rope_parameters"] = {"rope_type": "default", "rope_theta": raw["rope_theta"]}
    text = LlamaConfig(**own, vocab_size=max(int(raw["vocab_size"]), image + 1))
    config = LlavaConfig(
        text_config=text,
        vision_config=vision,
        image_token_index=image,
        vision_feature_layer=raw.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy="default" if raw.get("mm_vision_select_feature", "patch") == "patch" else "full",
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
    )
    return config, int(vision.image_size)


def _tensors(folder: Path) -> dict[str, Any]:
    """Every tensor of a checkpoint's weight files."""
    import torch
    from safetensors.torch import load_file

    from src.hub_models import weight_files

    state: dict[str, Any] = {}
    for file in weight_files(folder):
        if file.suffix == ".safetensors":
            state.update(load_file(file))
        else:
            state.update(torch.load(file, map_location="cpu", weights_only=True))
    return state


def _tower(folder: Path) -> dict[str, Any]:
    """The CLIP tower's tensors under LLaVA's names, from a folder of the whole CLIP or of its picture half."""
    from transformers import CLIPVisionModel

    model, info = CLIPVisionModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    if info["missing_keys"]:
        raise ProjectError(f"{folder} is no CLIP: it lacks {sorted(info['missing_keys'])[0]}. Give the tower's folder.")
    return {
        "model.vision_tower." + name.removeprefix("vision_model."): value for name, value in model.state_dict().items()
    }


def _one_more(embeddings: Any, index: int) -> Any:
    """Rows for tokens up to `index`: the mean of the others, as they never occur in a caption."""
    import torch

    lacking = index + 1 - len(embeddings)
    if lacking <= 0:
        return embeddings
    mean = embeddings.float().mean(dim=0, keepdim=True).to(embeddings.dtype)
    return torch.cat([embeddings, mean.repeat(lacking, 1)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
