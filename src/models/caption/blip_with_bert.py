"""BLIP that writes another language: its text half starts from a BERT of that language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import ProjectError
from src.hub_models import build_model, load_config, resolve_checkpoint
from src.models.caption.hub_text import load_processor, load_tokenizer, processor_texts, tokenizer_texts
from src.models.caption.image_text import ImageTextCaptioner
from src.models.features import LoadReport
from src.weights import ResolvedWeights

BEGIN = "[DEC]"  # the token that a caption begins with, which BERT's tokenizers do not have
_SAME = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_OF_VOCABULARY = ("text_decoder.bert.embeddings.", "text_decoder.cls.predictions.")


class BlipWithBert(ImageTextCaptioner):
    """BLIP with the words, embeddings, layers and word head of a BERT; its eyes and its cross-attention are BLIP's own.

    BLIP's text decoder is a BERT with cross-attention, which Li et al. 2022 (arXiv:2201.12086, section 4.1) started
    from English BERT. The same start from a Korean one gives it Korean; cross-attention must then learn to serve it.

    Args as for ImageTextCaptioner, and:
        bert: the hub repository of a BERT as large as BLIP's text half.
        bert_weights: auto | pretrained | a folder; None is model.weights.
        bert_folder: its folder; None leaves random values, to be filled by a state dict.
    """

    filled_in = (*ImageTextCaptioner.filled_in, "bert_folder")

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        checkpoint: str = "Salesforce/blip-image-captioning-base",
        bert: str = "klue/bert-base",
        bert_weights: str | None = None,
        config: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        freeze: Sequence[str] = (),
        lora: Mapping[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        attention: str = "sdpa",
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        files: Mapping[str, str] | None = None,
        source: Mapping[str, Mapping[str, str]] | None = None,
        weights: str | None = None,
        bert_folder: str | None = None,
    ) -> None:
        self.bert, self.bert_weights, self._bert_folder = bert, bert_weights, bert_folder
        super().__init__(
            image_size=image_size,
            checkpoint=checkpoint,
            config=config,
            prompt=prompt,
            freeze=freeze,
            lora=lora,
            gradient_checkpointing=gradient_checkpointing,
            attention=attention,
            image_mean=image_mean,
            image_std=image_std,
            files=files,
            source=source,
            weights=weights,
        )

    def build(
        self, model_class: type[nn.Module], config: Mapping[str, Any], weights: str | None
    ) -> tuple[nn.Module, LoadReport | None]:
        model, report = build_model(model_class, config, weights, may_differ=_OF_VOCABULARY)
        if self._bert_folder is not None:
            take_over_bert(model.text_decoder, self._bert_folder, begin=int(config["text_config"]["bos_token_id"]))
        return model, report

    @classmethod
    def checkpoints(cls, options: Mapping[str, Any], weights: str) -> dict[str, tuple[str, str]]:
        """Constructor arguments that are checkpoints' folders: {argument: (repository, weights word or path)}."""
        bert = str(options.get("bert_weights") or weights)
        return {"weights": (str(options["checkpoint"]), weights), "bert_folder": (str(options["bert"]), bert)}

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
        """The folders of both checkpoints."""
        found = {
            argument: resolve_checkpoint(repo, word, weights_dir=weights_dir, bundled=False, warn=warn)
            for argument, (repo, word) in cls.checkpoints(options, weights).items()
        }
        if any(one.path is None for one in found.values()):
            raise ProjectError("BLIP with a BERT is made of two checkpoints: model.weights=random is not for it.")
        return found

    @classmethod
    def prepare(
        cls, options: Mapping[str, Any], folders: Mapping[str, str | None], class_names: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The options with BLIP's configuration for the BERT's words, and a processor of the two."""
        completed = super().prepare(options, {"weights": folders["weights"]}, class_names)
        config = dict(completed["config"])
        if config["model_type"] != "blip":
            raise ProjectError(f"model.checkpoint={options['checkpoint']} is a {config['model_type']}, no BLIP.")
        other, text = load_config(str(folders["bert_folder"])), dict(config["text_config"])
        if other["model_type"] != "bert" or any(other[key] != text[key] for key in _SAME):
            sizes = ", ".join(f"{key} {text[key]}" for key in _SAME)
            raise ProjectError(f"model.bert={options['bert']} does not fit: a BERT is needed with {sizes}.")
        files = joint_processor(completed["files"], str(folders["bert_folder"]))
        tokenizer = load_tokenizer(files)
        text |= {
            "vocab_size": len(tokenizer),
            "max_position_embeddings": other["max_position_embeddings"],
            "bos_token_id": tokenizer.convert_tokens_to_ids(BEGIN),
            "eos_token_id": tokenizer.sep_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        return {**completed, "config": {**config, "text_config": text}, "files": files}

    @staticmethod
    def first_values(options: Mapping[str, Any], folders: Mapping[str, str | None]) -> dict[str, Any]:
        """What the first construction alone gets."""
        return {"weights": folders["weights"], "bert_folder": folders["bert_folder"]}


def joint_processor(files: Mapping[str, str], bert: str) -> dict[str, str]:
    """The texts of a processor with BLIP's pictures and the BERT's words, and a token to begin with."""
    import tempfile

    from transformers import BlipProcessor

    tokenizer = load_tokenizer(tokenizer_texts(bert))
    tokenizer.add_tokens([BEGIN], special_tokens=True)
    processor = BlipProcessor(load_processor(files).image_processor, tokenizer)
    with tempfile.TemporaryDirectory() as temporary:
        processor.save_pretrained(temporary)
        return processor_texts(temporary)


@torch.no_grad()
def take_over_bert(decoder: nn.Module, folder: str, *, begin: int) -> None:
    """Fill BLIP's text decoder, but for its cross-attention, with a BERT's weights.

    BLIP has no segments: the first segment's embedding, which a BERT adds to every token of a lone text, goes into the
    positions. The token `begin`, which the BERT lacks, starts from its [CLS].
    """
    from transformers import AutoTokenizer, BertForMaskedLM

    bert = BertForMaskedLM.from_pretrained(folder, local_files_only=True)
    first = AutoTokenizer.from_pretrained(folder, local_files_only=True).cls_token_id
    given = bert.state_dict()
    given["bert.embeddings.position_embeddings.weight"] = (
        given["bert.embeddings.position_embeddings.weight"] + given["bert.embeddings.token_type_embeddings.weight"][0]
    )
    own, taken = decoder.state_dict(), {}
    for name, value in own.items():
        if "crossattention" in name or name.endswith("position_ids"):
            continue
        if name not in given:
            raise ProjectError(f"{folder}: its BERT has no {name}.")
        taken[name] = _with_begin(given[name], value, begin, first)
    decoder.load_state_dict(taken, strict=False)


def _with_begin(given: Tensor, own: Tensor, begin: int, first: int) -> Tensor:
    """Weights of the BERT's words in the shape of BLIP's, whose one word more is `begin`."""
    if given.shape == own.shape:
        return given
    lacking = max(0, len(own) - len(given))
    filled = torch.cat([given, given[first : first + 1].repeat(lacking, *[1] * (given.ndim - 1))])[: len(own)]
    filled[begin] = given[first]
    return filled
