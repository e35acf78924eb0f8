"""Captions by a vision encoder and a language decoder of the hub that attends to it: ViT with KoGPT2 or KoBART, say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import ProjectError
from src.hub_models import build_config, build_model, load_config, plain_config, resolve_checkpoint
from src.models.caption.generation import Prompt
from src.models.caption.hub_captioner import HubCaptioner, first_known, pad_rows
from src.models.caption.hub_text import image_settings, load_tokenizer, tokenizer_texts
from src.models.features import LoadReport
from src.weights import ResolvedWeights

HALF = (0.5, 0.5, 0.5)
MODEL_TYPE = "vision-encoder-decoder"


class VisionEncoderDecoderCaptioner(HubCaptioner):
    """Any vision encoder of transformers that gives a row of tokens, and any decoder that can attend to one.

    Either two checkpoints, whose joint (cross-attention, where the decoder's checkpoint has none) is learnt anew, or
    one that was trained whole. Li et al. 2021 (TrOCR, arXiv:2109.10282) build such networks from pretrained halves.

    Args:
        image_size: (height, width) of the canvas in pixels.
        checkpoint: a whole encoder-decoder on the hub, or None for `encoder` and `decoder`.
        encoder, decoder: hub repositories of the halves.
        encoder_weights, decoder_weights: auto | pretrained | random | a folder, of each half; None is model.weights.
        config: the full plain configuration, as `prepare` writes it. In a YAML: keys that replace the checkpoint's,
            {encoder: {...}, decoder: {...}}.
        freeze: parts that keep their weights: vision, language, cross_attention, projector.
        lora: {rank, alpha, dropout, targets, vision} of low-rank adapters, see `lora.lora_options`; cross-attention
            that is new learns whole beside them.
        gradient_checkpointing: recompute activations in the backward pass: less memory, more time.
        attention: sdpa | eager | flash_attention_2.
        special_tokens: names → tokens ({pad_token: "<pad>"}), for tokenizers whose files do not say them.
        image_mean, image_std, files, source: filled by `prepare`.
        weights, encoder_folder, decoder_folder: folders of checkpoints; None leaves random values.

    Raises ProjectError for checkpoints or options that do not fit.
    """

    filled_in = ("files", "source", "image_mean", "image_std", "encoder_folder", "decoder_folder")
    cross_attention = True

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        checkpoint: str | None = None,
        encoder: str = "google/vit-base-patch16-224-in21k",
        decoder: str = "skt/kogpt2-base-v2",
        encoder_weights: str | None = None,
        decoder_weights: str | None = None,
        config: Mapping[str, Any] | None = None,
        freeze: Sequence[str] = (),
        lora: Mapping[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        attention: str = "sdpa",
        special_tokens: Mapping[str, str] | None = None,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        files: Mapping[str, str] | None = None,
        source: Mapping[str, Mapping[str, str]] | None = None,
        weights: str | None = None,
        encoder_folder: str | None = None,
        decoder_folder: str | None = None,
    ) -> None:
        super().__init__()
        if not config or config.get("model_type") != MODEL_TYPE or not files:
            raise ProjectError(
                "the encoder-decoder was not prepared: VisionEncoderDecoderCaptioner.prepare fills config and files."
            )
        from transformers import VisionEncoderDecoderModel

        self.image_size = tuple(int(side) for side in image_size)
        self.checkpoint, self.encoder, self.decoder = checkpoint, encoder, decoder
        self.encoder_weights, self.decoder_weights = encoder_weights, decoder_weights
        self.special_tokens = dict(special_tokens or {})
        self.image_mean, self.image_std = image_mean, image_std
        self.files = dict(files)
        if encoder_folder is None and decoder_folder is None:
            self.model, self.report = build_model(VisionEncoderDecoderModel, config, weights, may_differ=POOLERS)
        else:
            self.model, self.report = join(config, encoder_folder, decoder_folder)
        self.tokenizer = load_tokenizer(self.files)
        own = self.model.config.decoder
        self.pad = first_known(self.tokenizer.pad_token_id, own.pad_token_id, self.tokenizer.eos_token_id)
        self.end = first_known(self.tokenizer.eos_token_id, self.tokenizer.sep_token_id, own.eos_token_id)
        self.start = first_known(
            getattr(self.model.config, "decoder_start_token_id", None),
            getattr(own, "decoder_start_token_id", None),
            self.tokenizer.bos_token_id,
            self.tokenizer.cls_token_id,
            self.end,
        )
        self.model.config.decoder_start_token_id, self.model.config.pad_token_id = self.start, self.pad
        self.model.config.eos_token_id = self.end
        largest = max(self.pad, self.end, self.start, len(self.tokenizer) - 1)
        if largest >= self.vocabulary_size():
            raise ProjectError(
                f"the tokenizer has {len(self.tokenizer)} tokens, the decoder {self.vocabulary_size()}: they are "
                "not of one checkpoint. If its special tokens were added, name the ones it has by model.special_tokens."
            )
        self._finish(
            freeze=freeze,
            lora=lora,
            gradient_checkpointing=gradient_checkpointing,
            attention=attention,
            source=source,
        )

    # -- the hub ----------------------------------------------------------------------------------------------------
    @classmethod
    def checkpoints(cls, options: Mapping[str, Any], weights: str) -> dict[str, tuple[str, str]]:
        """Constructor arguments that are checkpoints' folders: {argument: (repository, weights word or path)}."""
        if options.get("checkpoint"):
            return {"weights": (str(options["checkpoint"]), weights)}
        words = {half: str(options.get(f"{half}_weights") or weights) for half in ("encoder", "decoder")}
        return {f"{half}_folder": (str(options[half]), word) for half, word in words.items()}

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
        """The folder of the whole checkpoint as `weights`, or those of the halves."""
        found = {
            argument: resolve_checkpoint(repo, word, weights_dir=weights_dir, bundled=False, warn=warn)
            for argument, (repo, word) in cls.checkpoints(options, weights).items()
        }
        last = list(found)[-1]
        if found[last].path is None and not options.get("files"):
            raise ProjectError(
                "random weights have no tokenizer: give the decoder's checkpoint (model.decoder_weights), or choose "
                "model=encoder_decoder, which learns its own."
            )
        return found

    @classmethod
    def prepare(
        cls, options: Mapping[str, Any], folders: Mapping[str, str | None], class_names: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The options with all that rebuilding needs: the joint configuration, normalisation, the tokenizer's files."""
        given = dict(options.get("config") or {})
        if folders.get("weights"):
            config = whole_config(folders["weights"], given)
            text = picture = folders["weights"]
        elif "model_type" in given:
            config, text, picture = whole_config(None, given), None, None
        else:
            picture, text = folders.get("encoder_folder"), folders.get("decoder_folder")
            config = joint_config(picture, text, given)
        files = tokenizer_texts(text, options.get("special_tokens")) if text else dict(options["files"])
        said = image_settings(picture)
        mean, std = said.get("image_mean") or HALF, said.get("image_std") or HALF
        return {**options, "config": config, "files": files, "image_mean": list(mean), "image_std": list(std)}

    @staticmethod
    def normalization(options: Mapping[str, Any]) -> dict[str, Sequence[float]]:
        """`mean` and `std` (RGB, unit range) of prepared options: what the encoder's checkpoint expects."""
        return {"mean": options["image_mean"], "std": options["image_std"]}

    # -- pictures and words -----------------------------------------------------------------------------------------
    def _see(self, images: Tensor) -> Tensor:
        """Normalised pictures → the encoder's tokens (B, N, D)."""
        size = getattr(self.model.config.encoder, "image_size", None)
        sides = (size, size) if isinstance(size, int) else tuple(size or images.shape[-2:])
        how = {"interpolate_pos_encoding": True} if tuple(images.shape[-2:]) != sides else {}
        try:
            seen = self.model.encoder(pixel_values=images.to(self.model.dtype), return_dict=True, **how)
        except (ValueError, TypeError) as error:
            raise ProjectError(
                f"the encoder ({self.model.config.encoder.model_type}) does not take pictures of "
                f"{images.shape[-2]}×{images.shape[-1]} pixels: {error}. Set model.image_size={sides[0]}."
            ) from error
        if seen.last_hidden_state.ndim != 3:
            raise ProjectError(
                f"the encoder {self.encoder} gives maps, not tokens. Choose a vision transformer: vit, deit, beit, "
                "swin, dinov2, clip_vision_model, siglip_vision_model."
            )
        return seen.last_hidden_state

    def training_inputs(self, images: Tensor, rows: Sequence[int], texts: Sequence[str]) -> dict[str, Any]:
        answers = [[*self.learnt_tokens(text, 1), self.end] for text in texts]
        read = [[self.start, *answer[:-1]] for answer in answers]
        return {
            "encoder_outputs": (self._see(images)[list(rows)],),
            "decoder_input_ids": pad_rows(read, self.pad, images.device),
            "decoder_attention_mask": pad_rows([[1] * len(row) for row in read], 0, images.device),
            "labels": pad_rows(answers, -100, images.device),
        }

    def prompt(self, images: Tensor) -> Prompt:
        from transformers.modeling_outputs import BaseModelOutput

        return Prompt(
            writer=self.model,
            inputs={"encoder_outputs": BaseModelOutput(last_hidden_state=self._see(images))},
            images=len(images),
            length=1,
            start=self.start,
            pad=self.pad,
            ends=[self.end],
            banned=self.banned([self.end], self.start),
        )

    def export(self, folder: str | Path) -> Path:
        """As HubCaptioner.export, with an image processor of this canvas and normalisation."""
        from transformers import ViTImageProcessor

        target = super().export(folder)
        size = dict(zip(("height", "width"), self.image_size, strict=True))
        ViTImageProcessor(size=size, image_mean=self.image_mean, image_std=self.image_std).save_pretrained(target)
        return target

    def text_config(self) -> Any:
        return self.model.config.decoder

    def vocabulary_size(self) -> int:
        return int(self.model.decoder.get_output_embeddings().weight.shape[0])


POOLERS = ("encoder.pooler", "pooler", "encoder.head", "head")  # unused heads that some checkpoints lack


def whole_config(folder: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a whole encoder-decoder's folder, `given` {encoder, decoder} in place of its values."""
    import json

    raw = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")) if folder else dict(given)
    if raw.get("model_type") != MODEL_TYPE:
        raise ProjectError(
            f"model.checkpoint: {folder} is a {raw.get('model_type')}, no {MODEL_TYPE}. Name its two halves by "
            "model.encoder and model.decoder, and leave model.checkpoint empty."
        )
    if folder:
        for half in ("encoder", "decoder"):
            raw[half] = {**raw[half], **dict(given.get(half) or {})}
    return plain_config(build_config(raw))


def joint_config(encoder: str | None, decoder: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an encoder and a decoder joined by cross-attention."""
    from transformers import VisionEncoderDecoderConfig

    overrides = {half: dict(given.get(half) or {}) for half in ("encoder", "decoder")}
    halves = {}
    for half, folder in (("encoder", encoder), ("decoder", decoder)):
        source = folder or overrides[half].get("model_type")
        if source is None:
            raise ProjectError(f"model.config.{half}.model_type: random weights need the {half}'s model type.")
        halves[half] = build_config(load_config(source, overrides[half]))
    halves["decoder"].is_decoder = True
    halves["decoder"].add_cross_attention = True
    if getattr(halves["decoder"], "is_encoder_decoder", False):  # BART's decoder alone; caches count layers by this
        halves["decoder"].is_encoder_decoder = False
        halves["decoder"].num_hidden_layers = halves["decoder"].decoder_layers
    seen = halves["encoder"]
    if hasattr(seen, "vision_config"):  # CLIP, SigLIP and the like: their picture half
        halves["encoder"] = seen.vision_config
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(halves["encoder"], halves["decoder"])
    config.tie_word_embeddings = False
    return plain_config(config)


def join(
    config: Mapping[str, Any], encoder_folder: str | None, decoder_folder: str | None
) -> tuple[nn.Module, LoadReport | None]:
    """The network from the checkpoints of its halves; cross-attention that the decoder's lacks is drawn at random."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING, VisionEncoderDecoderModel

    built = build_config(config)
    for half, kind, mapping in (
        ("encoder", built.encoder, MODEL_MAPPING),
        ("decoder", built.decoder, MODEL_FOR_CAUSAL_LM_MAPPING),
    ):
        if type(kind) not in mapping:
            raise ProjectError(f"model.{half}: transformers has no {half} of type {kind.model_type!r} for captions.")
    encoder_class, decoder_class = MODEL_MAPPING[type(built.encoder)], MODEL_FOR_CAUSAL_LM_MAPPING[type(built.decoder)]
    encoder, seen = build_model(encoder_class, config["encoder"], encoder_folder, may_differ=POOLERS)
    decoder, read = _load_decoder(decoder_class, dict(config["decoder"]), decoder_folder)
    built.encoder, built.decoder = encoder.config, decoder.config
    model = VisionEncoderDecoderModel(config=built, encoder=encoder, decoder=decoder)
    reports = [report for report in (seen, read) if report is not None]
    if not reports:
        return model.train(), None
    report = LoadReport(
        path=" and ".join(one.path for one in reports),
        loaded=sum(one.loaded for one in reports),
        missing=tuple(name for one in reports for name in one.missing),
        mismatched=tuple(name for one in reports for name in one.mismatched),
        unexpected=tuple(name for one in reports for name in one.unexpected),
    )
    return model.train(), report


def _load_decoder(
    decoder_class: type[nn.Module], config: dict[str, Any], folder: str | None
) -> tuple[nn.Module, LoadReport | None]:
    if folder is None:
        return build_model(decoder_class, config, None)
    stored = build_config(load_config(folder))
    if getattr(stored, "is_encoder_decoder", False):
        return _half_of(decoder_class, build_config(config), stored, folder)
    return build_model(decoder_class, config, folder, may_differ=_new_parameters(decoder_class, config))


def _half_of(decoder_class: Any, config: Any, whole: Any, folder: str) -> tuple[nn.Module, LoadReport]:
    """The decoder out of a sequence-to-sequence checkpoint (BART), with the cross-attention that it has learnt.

    Loaded whole first: its embeddings are stored once, under the name of the encoder's or of neither half.
    """
    from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

    full, report = build_model(
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(whole)],
        plain_config(whole),
        folder,
        may_differ=("final_logits_bias",),
    )
    model = decoder_class(config)
    inner = full.get_decoder().state_dict()
    own = model.get_decoder()
    missing, unexpected = own.load_state_dict(inner, strict=False)
    if missing or unexpected:
        raise ProjectError(f"{folder}: its decoder is not {decoder_class.__name__}'s: {[*missing, *unexpected][0]}.")
    with torch.no_grad():
        model.get_output_embeddings().weight.copy_(full.get_output_embeddings().weight)
    return model, LoadReport(path=folder, loaded=len(inner), unexpected=report.unexpected if report else ())


def _new_parameters(decoder_class: Any, config: dict[str, Any]) -> list[str]:
    """Names of parameters that the decoder has only because it attends to an encoder."""
    names = []
    for crossed in (True, False):
        with torch.device("meta"):
            names.append(set(decoder_class(build_config({**config, "add_cross_attention": crossed})).state_dict()))
    return sorted(names[0] - names[1])
