"""What captioners built from transformers networks have in common: parts that train, adapters, saving, writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from src.captions.decoding import Candidate, Decoding
from src.errors import ProjectError, nearest
from src.models.caption.generation import Prompt, write_captions
from src.models.caption.lora import add_lora, merge_lora
from src.models.caption.parts import check_parts, modules_of, part_of, parts_of
from src.models.features import LoadReport
from src.models.parameter_groups import grouped

ATTENTION = ("sdpa", "eager", "flash_attention_2")
MOST_UNKNOWN = 0.2  # share of unknown tokens in captions, above which nothing useful is learnt


class HubCaptioner(nn.Module):
    """A transformers network that writes captions; subclasses build `model` and say how it is asked.

    Attributes: model; tokenizer; report, the LoadReport of the checkpoint or None; frozen_source, {"checkpoint",
    "path", "sha256"} of the weights that training leaves as they are, by the constructor's argument that takes their
    folder, or None where the whole network is to be saved.
    """

    zero_shot = False
    kind = "gradient"
    filled_in = ("config", "files", "source")  # constructor arguments that `prepare` completes
    _words_known = False
    cross_attention = False  # whether the decoder's cross-attention is a part of its own

    model: Any
    tokenizer: Any
    report: LoadReport | None
    frozen_source: dict[str, dict[str, Any]] | None
    files: dict[str, str]

    def _finish(
        self,
        *,
        freeze: Sequence[str],
        lora: Mapping[str, Any] | None,
        gradient_checkpointing: bool,
        attention: str,
        source: Mapping[str, Mapping[str, str]] | None,
    ) -> None:
        """Freeze, add adapters and set attention, once `model` and `tokenizer` stand."""
        known = parts_of(self.model, cross_attention=self.cross_attention)
        check_parts(freeze, known, option="freeze")
        self.freeze = list(freeze)
        if attention not in ATTENTION:
            raise ProjectError(
                f"model.attention={attention!r} is not one of {', '.join(ATTENTION)}.{nearest(attention, ATTENTION)}"
            )
        _set_attention(self.model, attention)
        for name, parameter in self.model.named_parameters():
            if part_of(name, cross_attention=self.cross_attention) in self.freeze:
                parameter.requires_grad_(False)
        self.adapted: list[str] = []
        if lora is not None:
            self.adapted = add_lora(self.model, lora, frozen=self.freeze, cross_attention=self.cross_attention)
        if gradient_checkpointing:
            _recompute(self.model)
        # `generate` fills options that we leave open from the checkpoint's own (forced ends, penalties, top-k).
        self._published = getattr(self.model, "generation_config", None)
        for module in self.model.modules():
            if getattr(module, "generation_config", None) is not None:
                module.generation_config = GenerationConfig()
        still = not all(parameter.requires_grad for parameter in self.model.parameters())
        self.frozen_source = {key: dict(value) for key, value in source.items()} if source and still else None
        self.train(self.training)

    # -- training ---------------------------------------------------------------------------------------------------
    def train(self, mode: bool = True) -> HubCaptioner:
        """Frozen parts stay in eval mode: no dropout disturbs what cannot answer it."""
        super().train(mode)
        for module in modules_of(self.model, self.freeze, cross_attention=self.cross_attention):
            module.eval()
        return self

    def loss(self, images: Tensor, captions: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """{"loss_caption"}: mean cross-entropy of the answers' tokens and of their end marks.

        images: float B×3×H×W, normalised. captions: one or more references of each image, all learnt.
        """
        rows = [index for index, texts in enumerate(captions) for _ in texts]
        texts = [text for group in captions for text in group]
        if not texts:
            return {"loss_caption": sum(p.sum() for p in self.parameters() if p.requires_grad) * 0.0}
        self._check_words(texts)
        inputs = self.training_inputs(images, rows, texts)
        labels = inputs.pop("labels")
        logits = self.forward_logits(inputs)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)
        return {"loss_caption": loss}

    def _check_words(self, texts: Sequence[str]) -> None:
        """Raises ProjectError where the first captions are mostly unknown to the tokenizer, which would learn nothing
        but its mark for that."""
        unknown = self.tokenizer.unk_token_id
        if self._words_known or unknown is None:
            return
        tokens = [token for text in texts for token in self.answer_tokens(text)]
        share = sum(token == unknown for token in tokens) / max(1, len(tokens))
        if share > MOST_UNKNOWN:
            raise ProjectError(
                f"the tokenizer of {self.name} does not know {share:.0%} of the pieces of these captions, such as "
                f"{texts[0]!r}. Choose a network that writes their language: model=koblip, qwen_vl or vit_kogpt2."
            )
        self._words_known = True

    @property
    def name(self) -> str:
        """What messages call the network: its checkpoint."""
        return str(getattr(self, "checkpoint", None) or getattr(self, "decoder", None))

    def training_inputs(self, images: Tensor, rows: Sequence[int], texts: Sequence[str]) -> dict[str, Any]:
        """The network's inputs to learn text i for image rows[i], and `labels`: position t of a row holds the token
        that its logits must give, −100 where nothing is learnt (prompt, image tokens, padding)."""
        raise NotImplementedError

    def forward_logits(self, inputs: dict[str, Any]) -> Tensor:
        """(rows, positions, vocabulary) of `training_inputs`, less its labels."""
        return self.model(**inputs, use_cache=False).logits

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups of what trains: biases and norms do not decay."""
        return grouped(self, lr=lr, weight_decay=weight_decay, factor=1.0, pretrained=lambda *_: False)

    # -- writing ----------------------------------------------------------------------------------------------------
    def prompt(self, images: Tensor) -> Prompt:
        """What the network writes on from for these images."""
        raise NotImplementedError

    @torch.inference_mode()
    def generate(
        self, images: Tensor, decoding: Decoding, *, seeds: Sequence[int] | None = None
    ) -> list[list[Candidate]]:
        """1 to `decoding.candidates` captions an image, best first; see `generation.write_captions`."""
        if not len(images):
            return []
        training = self.training
        self.eval()
        try:
            prompt = self.prompt(images)
            most = self.room(prompt.length, decoding.max_tokens)
            decoding = replace(decoding, max_tokens=most, min_tokens=min(decoding.min_tokens, most))
            return write_captions(prompt, decoding, self.decode, seeds=seeds)
        finally:
            self.train(training)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a caption's tokens, without special ones, in single spaces."""
        return " ".join(self.tokenizer.decode(list(tokens), skip_special_tokens=True).split())

    def answer_tokens(self, text: str) -> list[int]:
        """Tokens of a caption as it stands behind the prompt, without marks of beginning and end."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def room(self, taken: int, wanted: int) -> int:
        """Of `wanted` tokens behind `taken`, how many the decoder has positions for; at least one."""
        text = self.text_config()
        most = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
        return wanted if not isinstance(most, int) else max(1, min(wanted, most - taken))

    def text_config(self) -> Any:
        """The configuration of the half that writes."""
        return self.model.config.get_text_config()

    def learnt_tokens(self, text: str, taken: int) -> list[int]:
        """Tokens of a caption to learn behind `taken` others, cut where the decoder's positions end."""
        tokens = self.answer_tokens(text)
        return tokens[: self.room(taken, len(tokens))]

    def banned(self, ends: Sequence[int], *more: int | None) -> list[int]:
        """Tokens that no caption may hold: special ones, and `more`."""
        tokens = {*self.tokenizer.all_special_ids, *more}
        size = self.vocabulary_size()
        return sorted(t for t in tokens if t is not None and t not in ends and t < size)

    def vocabulary_size(self) -> int:
        return int(self.model.get_output_embeddings().weight.shape[0])

    # -- saving -----------------------------------------------------------------------------------------------------
    def trainable_state(self) -> dict[str, Tensor]:
        """Tensors that training changes; with the checkpoint that `frozen_source` names they are the whole network."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Fill in what `trainable_state` saved, into a network that was built with the same options and checkpoint.

        Raises:
            ProjectError: the names or shapes are not this network's.
        """
        own = {name: p for name, p in self.named_parameters() if p.requires_grad}
        if odd := sorted(set(own) ^ set(state)):
            raise ProjectError(
                f"the saved weights are not those that this network trains: {len(odd)} names differ, {odd[0]} among "
                "them. model.lora and model.freeze must be those of the run that saved them."
            )
        with torch.no_grad():
            for name, parameter in own.items():
                if parameter.shape != state[name].shape:
                    shapes = f"{tuple(state[name].shape)} saved, {tuple(parameter.shape)} here"
                    raise ProjectError(f"the saved weights do not fit: {name} is {shapes}.")
                parameter.copy_(state[name])

    def merge_lora(self) -> int:
        """Add the adapters to the weights and take them out; returns how many layers had one."""
        merged = merge_lora(self.model)
        if merged:
            self.adapted, self.frozen_source = [], None
        return merged

    def export(self, folder: str | Path) -> Path:
        """Save a folder that transformers' `from_pretrained` reads: merged weights, configuration, processor files."""
        self.merge_lora()
        target, ours = Path(folder), self.model.generation_config
        self.model.generation_config = self._published or ours
        self.model.save_pretrained(target)
        self.model.generation_config = ours
        for name, text in self.files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return target


def pad_rows(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> Tensor:
    """Rows of different lengths as one (rows, longest) tensor, filled up on the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long, device=device)


def first_known(*tokens: int | None) -> int:
    """The first that is not None."""
    return next(int(token) for token in tokens if token is not None)


def _recompute(model: Any) -> None:
    """Recompute activations in the backward pass, by whichever name this transformers has for it."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _set_attention(model: Any, attention: str) -> None:
    """Networks that cannot choose keep their own attention, except that flash attention is refused, not ignored."""
    if attention == "sdpa":
        return  # what transformers takes by itself where a network has it
    able = [m for m in model.modules() if hasattr(m, "set_attn_implementation") and m._can_set_attn_implementation()]
    if not able and attention == "flash_attention_2":
        raise ProjectError(f"model.attention={attention}: {type(model).__name__} has no such choice; use sdpa.")
    try:
        for module in able:
            module.set_attn_implementation(attention)
    except (ImportError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise ProjectError(f"model.attention={attention}: {first} Use model.attention=sdpa.") from error
