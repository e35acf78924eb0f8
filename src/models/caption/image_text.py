"""Captions by image-text-to-text networks of the hub: BLIP, BLIP-2, InstructBLIP, LLaVA, Qwen-VL, SmolVLM, others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from src.errors import ProjectError, nearest
from src.hub_models import build_model, checkpoint_folder, load_config, resolve_checkpoint
from src.models.caption.generation import Prompt
from src.models.caption.hub_captioner import HubCaptioner, first_known
from src.models.caption.hub_text import image_settings, load_processor, processor_texts
from src.models.caption.image_text_families import family_of
from src.models.caption.quantized import load_quantized
from src.models.features import LoadReport
from src.weights import ResolvedWeights

HALF = (0.5, 0.5, 0.5)


class ImageTextCaptioner(HubCaptioner):
    """A vision-language network of the hub, fine-tuned to answer a picture with a caption.

    Args:
        image_size: (height, width) of the canvas in pixels.
        checkpoint: the hub repository that configuration, processor and weights are of.
        config: the full plain configuration, as `prepare` writes it. In a YAML: keys that replace the checkpoint's.
        prompt: the instruction in front of an answer; for BLIP, words that every caption begins with. None is none.
        freeze: parts that keep their weights: vision, language, qformer, projector, as the network has them.
        lora: {rank, alpha, dropout, targets, vision} of low-rank adapters, see `lora.lora_options`; None trains the
            weights themselves.
        quantization: 4bit | 8bit | None: the base in bitsandbytes' formats, on a CUDA device, below LoRA.
        gradient_checkpointing: recompute activations in the backward pass: less memory, more time.
        attention: sdpa | eager | flash_attention_2.
        image_options: what the checkpoint's processor is told about pictures, such as {max_pixels: 401408} (Qwen-VL) or
            {do_image_splitting: false} (SmolVLM); for networks that take pictures of one size it has no say.
        special_tokens: names → tokens ({pad_token: "<pad>"}), for tokenizers whose files do not say them.
        image_mean, image_std, files, source: filled by `prepare`: normalisation, the processor's files as texts, and
            where the weights came from.
        weights: the checkpoint's folder; None leaves random values, to be filled by a state dict.

    Raises ProjectError for a checkpoint or option that does not fit.
    """

    filled_in = ("files", "source", "image_mean", "image_std")

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        checkpoint: str = "Salesforce/blip-image-captioning-base",
        config: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        freeze: Sequence[str] = (),
        lora: Mapping[str, Any] | None = None,
        quantization: str | None = None,
        gradient_checkpointing: bool = False,
        attention: str = "sdpa",
        image_options: Mapping[str, Any] | None = None,
        special_tokens: Mapping[str, str] | None = None,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        files: Mapping[str, str] | None = None,
        source: Mapping[str, Mapping[str, str]] | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if not config or not config.get("model_type") or not files:
            raise ProjectError(
                f"{checkpoint} was not prepared: ImageTextCaptioner.prepare fills config and files first."
            )
        self.image_size, self.checkpoint = tuple(int(side) for side in image_size), checkpoint
        self.prompt_text, self.image_options = prompt, dict(image_options or {})
        self.special_tokens = dict(special_tokens or {})
        self.image_mean, self.image_std = image_mean, image_std
        self.files = dict(files)
        self.family = family_of(config)
        model_class = network_class(str(config["model_type"]))
        if quantization is None:
            self.model, self.report = self.build(model_class, config, weights)
        else:
            self.model, self.report = load_quantized(model_class, config, weights, quantization, lora=lora)
        self.processor = load_processor(self.files)
        self.tokenizer = self.processor.tokenizer
        self.pad = first_known(
            self.tokenizer.pad_token_id, self.model.config.get_text_config().pad_token_id, self.tokenizer.eos_token_id
        )
        self.family.set_up(self)
        self._finish(
            freeze=freeze,
            lora=lora,
            gradient_checkpointing=gradient_checkpointing,
            attention=attention,
            source=source,
        )

    def build(
        self, model_class: type[nn.Module], config: Mapping[str, Any], weights: str | None
    ) -> tuple[nn.Module, LoadReport | None]:
        """The transformers network, in full precision, and what its checkpoint gave."""
        return build_model(model_class, config, weights)

    # -- the hub ----------------------------------------------------------------------------------------------------
    @classmethod
    def checkpoints(cls, options: Mapping[str, Any], weights: str) -> dict[str, tuple[str, str]]:
        """Constructor arguments that are checkpoints' folders: {argument: (repository, weights word or path)}."""
        return {"weights": (str(options["checkpoint"]), weights)}

    @classmethod
    def find(
        cls,
        options: Mapping[str, Any],
        weights: str,
        *,
        weights_dir: Path | None,
        bundled: bool,
        warn: Callable[[str], Any] = print,
    ) -> dict[str, ResolvedWeights]:
        """The checkpoint's folder as `weights`. Random weights still need a tokenizer: with `random`, `texts` is the
        folder of a checkpoint that is on this machine, unless the options hold the files."""
        repo = str(options["checkpoint"])
        found = resolve_checkpoint(repo, weights, weights_dir=weights_dir, bundled=False, warn=warn)
        if found.path is not None or options.get("files"):
            return {"weights": found}
        folder = checkpoint_folder(repo, weights_dir)
        if folder is None:
            raise ProjectError(
                f"model.weights=random: {repo} is not on this machine, and without its files there is no tokenizer. "
                f"Fetch it (python -m src.weights fetch {repo}) or choose model=encoder_decoder, which learns its own."
            )
        return {"weights": found, "texts": ResolvedWeights("file", str(folder), f"tokenizer of {folder.name}", None)}

    @classmethod
    def prepare(
        cls, options: Mapping[str, Any], folders: Mapping[str, str | None], class_names: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The options with all that rebuilding needs: the full configuration, normalisation, processor files."""
        folder = folders.get("weights") or folders.get("texts")
        given = dict(options.get("config") or {})
        if folder is None:
            config = load_config(str(given.get("model_type", "")), given)
            files = dict(options["files"])
        else:
            refuse_original_llava(Path(folder), str(options["checkpoint"]))
            config = load_config(folder, given)
            files = processor_texts(folder, options.get("special_tokens"))
        network_class(str(config["model_type"]))
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if family_of(config).fixed:
            said = image_settings(folder) if folder else {}
            mean, std = said.get("image_mean") or HALF, said.get("image_std") or HALF
        return {**options, "config": config, "files": files, "image_mean": list(mean), "image_std": list(std)}

    @staticmethod
    def first_values(options: Mapping[str, Any], folders: Mapping[str, str | None]) -> dict[str, Any]:
        """What the first construction alone gets."""
        return {"weights": folders.get("weights")}

    @staticmethod
    def normalization(options: Mapping[str, Any]) -> dict[str, Sequence[float]]:
        """`mean` and `std` of prepared options: the checkpoint's own, or none where its processor normalises."""
        return {"mean": options["image_mean"], "std": options["image_std"]}

    # -- the family -------------------------------------------------------------------------------------------------
    def training_inputs(self, images: Tensor, rows: Sequence[int], texts: Sequence[str]) -> dict[str, Any]:
        return self.family.training_inputs(self, images, rows, texts)

    def forward_logits(self, inputs: dict[str, Any]) -> Tensor:
        return self.family.forward_logits(self, inputs)

    def prompt(self, images: Tensor) -> Prompt:
        return self.family.prompt(self, images)

    def vocabulary_size(self) -> int:
        text = getattr(self.model, "text_decoder", None) or self.model
        return int(text.get_output_embeddings().weight.shape[0])


def network_class(model_type: str) -> type[nn.Module]:
    """The transformers class that answers a picture and a text with a text, for a model type.

    Raises:
        ProjectError: transformers has none; the message names the nearest and says what takes its place.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES

    if model_type == "vision-encoder-decoder":
        raise ProjectError(
            "this checkpoint is an encoder-decoder: use model=vit_kogpt2 with model.checkpoint=owner/name."
        )
    if model_type not in NAMES:
        raise ProjectError(
            f"{model_type!r} is no image-text-to-text model of the installed transformers.{nearest(model_type, NAMES)}"
        )
    return getattr(transformers, NAMES[model_type])


def refuse_original_llava(folder: Path, checkpoint: str) -> None:
    """Raises ProjectError for checkpoints of the original LLaVA code, whose weights have other names and no vision
    tower inside: transformers would read the language model alone."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "mm_vision_tower" in config or "mm_projector_type" in config:
        tower = config.get("mm_vision_tower", "its vision tower")
        raise ProjectError(
            f"{checkpoint} is in the format of the original LLaVA code ({', '.join(config.get('architectures') or [])}"
            f"; vision tower {tower} apart), which transformers does not read. Convert it on a machine with the hub: "
            f"python -m src.models.caption.convert_llava from={folder} tower=<folder of {tower}> out=<folder>, then "
            "set model.weights to that folder."
        )
