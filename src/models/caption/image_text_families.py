"""The families of image-text-to-text networks in transformers: how each is asked, and what it learns of an answer.

A family turns images and texts into a network's inputs; training, adapters and decoding are the same for all
(hub_captioner.py). Fixed families take pictures of one size, normalised by the task; the others get pictures in the
unit range, which the checkpoint's own processor resizes, tiles and normalises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from src.errors import ProjectError
from src.models.caption.generation import Prompt
from src.models.caption.hub_captioner import HubCaptioner, pad_rows

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")


class Family:
    """One kind of network. `fixed`: whether its pictures are normalised by the task."""

    fixed = True

    def training_inputs(
        self, network: HubCaptioner, images: Tensor, rows: Sequence[int], texts: Sequence[str]
    ) -> dict[str, Any]:
        raise NotImplementedError

    def forward_logits(self, network: HubCaptioner, inputs: dict[str, Any]) -> Tensor:
        return network.model(**inputs, use_cache=False).logits

    def prompt(self, network: HubCaptioner, images: Tensor) -> Prompt:
        raise NotImplementedError

    def set_up(self, network: HubCaptioner) -> None:
        """Compute what every batch needs, once; raises ProjectError for a canvas that the network cannot take."""


class Blip(Family):
    """BLIP (Li et al. 2022, arXiv:2201.12086): a BERT decoder that sees the picture; a prompt begins its text."""

    def set_up(self, network: HubCaptioner) -> None:
        text = network.model.config.text_config
        words = network.answer_tokens(network.prompt_text) if network.prompt_text else []
        network.start = [int(text.bos_token_id), *words]
        network.end, network.ends = int(text.sep_token_id), [int(text.sep_token_id)]

    def _pictures(self, network: HubCaptioner, images: Tensor) -> Tensor:
        vision = network.model.config.vision_config
        other = tuple(images.shape[-2:]) != (vision.image_size, vision.image_size)
        images = images.to(network.model.dtype)
        return network.model.vision_model(pixel_values=images, interpolate_pos_encoding=other).last_hidden_state

    def training_inputs(
        self, network: HubCaptioner, images: Tensor, rows: Sequence[int], texts: Sequence[str]
    ) -> dict[str, Any]:
        device = images.device
        answers = [network.learnt_tokens(text, len(network.start)) for text in texts]
        inputs = [[*network.start, *answer] for answer in answers]
        hidden = [-100] * (len(network.start) - 1)
        labels = [[*hidden, *answer, network.end] for answer in answers]
        return {
            "input_ids": pad_rows(inputs, network.pad, device),
            "attention_mask": pad_rows([[1] * len(row) for row in inputs], 0, device),
            "encoder_hidden_states": self._pictures(network, images)[list(rows)],
            "labels": pad_rows(labels, -100, device),
        }

    def forward_logits(self, network: HubCaptioner, inputs: dict[str, Any]) -> Tensor:
        return network.model.text_decoder(**inputs, use_cache=False).logits

    def prompt(self, network: HubCaptioner, images: Tensor) -> Prompt:
        pictures = self._pictures(network, images)
        ids = torch.tensor([network.start] * len(images), dtype=torch.long, device=images.device)
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "encoder_hidden_states": pictures,
            "encoder_attention_mask": ids.new_ones(pictures.shape[:2]),
        }
        return Prompt(
            writer=network.model.text_decoder,
            inputs=inputs,
            images=len(images),
            length=len(network.start),
            start=network.start[0],
            pad=network.pad,
            ends=network.ends,
            banned=network.banned(network.ends, network.start[0]),
        )


class Prompted(Family):
    """Networks whose language model reads image tokens and an instruction, then answers; by their own processor."""

    fixed = False
    chat = True

    def set_up(self, network: HubCaptioner) -> None:
        processor, tokenizer = network.processor, network.tokenizer
        network.rendered, network.end = self._render(network)
        configured = getattr(network.model.generation_config, "eos_token_id", None)
        configured = configured if isinstance(configured, list) else [configured]
        ends = [network.end, tokenizer.eos_token_id, *configured]
        network.ends = [int(token) for token in dict.fromkeys(ends) if token is not None]
        text = network.model.config.get_text_config()
        network.crossed = bool(getattr(text, "is_encoder_decoder", False))
        network.image_tokens = sorted(
            {
                int(token)
                for token in (
                    getattr(network.model.config, "image_token_id", None),
                    getattr(network.model.config, "video_token_id", None),
                    getattr(processor, "image_token_id", None),
                )
                if token is not None
            }
        )
        if self.fixed:
            self._ask_once(network)

    def _render(self, network: HubCaptioner) -> tuple[str, int]:
        """The text in front of an answer, with a placeholder for the picture, and the token that ends an answer."""
        processor, tokenizer = network.processor, network.tokenizer
        if not self.chat:
            return network.prompt_text or "", int(tokenizer.eos_token_id)
        if not getattr(processor, "chat_template", None) and not getattr(tokenizer, "chat_template", None):
            raise ProjectError(
                f"{network.checkpoint} ({network.model.config.model_type}) has no chat template, so its way of being "
                "asked is not known. Choose a checkpoint that was tuned to follow instructions."
            )
        question = {"role": "user", "content": [{"type": "image"}]}
        if network.prompt_text:
            question["content"].append({"type": "text", "text": network.prompt_text})
        mark = "ANSWER"
        answered = [question, {"role": "assistant", "content": [{"type": "text", "text": mark}]}]
        render = processor.apply_chat_template
        asked = render([question], add_generation_prompt=True, tokenize=False)
        behind = render(answered, tokenize=False).rpartition(mark)[2].strip()
        tokens = tokenizer(behind, add_special_tokens=False)["input_ids"] if behind else []
        ends = bool(tokens) and tokens[0] in tokenizer.all_special_ids
        return asked, int(tokens[0] if ends else tokenizer.eos_token_id)

    def _process(self, network: HubCaptioner, images: Sequence[Tensor]) -> dict[str, Any]:
        """The processor's answer for pictures of bytes (3, H, W)."""
        begins = network.tokenizer.bos_token
        twice = self.chat and bool(begins) and network.rendered.startswith(begins)
        found = network.processor(
            text=[network.rendered] * len(images),
            images=[[image] for image in images] if self._nested(network) else list(images),
            padding=True,
            padding_side="left",
            return_tensors="pt",
            add_special_tokens=not twice,
            **network.image_options,
        )
        return dict(found)

    def _nested(self, network: HubCaptioner) -> bool:
        return False

    def _ask_once(self, network: HubCaptioner) -> None:
        """Fixed pictures: the prompt's tokens are always the same."""
        height, width = network.image_size
        found = self._process(network, [torch.zeros(3, height, width, dtype=torch.uint8)])
        pixels = found.pop("pixel_values")
        if tuple(pixels.shape[-2:]) != (height, width):
            size = pixels.shape[-2] if pixels.shape[-2] == pixels.shape[-1] else list(pixels.shape[-2:])
            raise ProjectError(
                f"{network.checkpoint} takes pictures of {pixels.shape[-2]}×{pixels.shape[-1]} pixels, but "
                f"model.image_size is {height}×{width}. Set model.image_size={size}."
            )
        network.asked = {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def inputs(self, network: HubCaptioner, images: Tensor) -> dict[str, Any]:
        """The network's inputs that ask about these pictures, one row a picture."""
        device, dtype = images.device, network.model.dtype
        if self.fixed:
            asked = {name: value.to(device).expand(len(images), -1) for name, value in network.asked.items()}
            return {**asked, "pixel_values": images.to(dtype)}
        # Back to the bytes that they were: a processor resizes, and cuts off what overshoots, in bytes.
        found = self._process(network, list((images.float() * 255).round().clamp(0, 255).to(torch.uint8)))
        moved = {name: value.to(device) for name, value in found.items() if isinstance(value, Tensor)}
        return {name: value.to(dtype) if value.is_floating_point() else value for name, value in moved.items()}

    def training_inputs(
        self, network: HubCaptioner, images: Tensor, rows: Sequence[int], texts: Sequence[str]
    ) -> dict[str, Any]:
        device = images.device
        inputs = self.inputs(network, images[list(rows)])
        taken = 1 if network.crossed else inputs["input_ids"].shape[1]
        answers = [[*network.learnt_tokens(self._joined(network, text), taken), network.end] for text in texts]
        if network.crossed:
            start = int(network.model.config.get_text_config().decoder_start_token_id)
            inputs["decoder_input_ids"] = pad_rows([[start, *row[:-1]] for row in answers], network.pad, device)
            inputs["labels"] = pad_rows(answers, -100, device)
            return inputs
        ids = inputs["input_ids"]
        written = pad_rows([row[:-1] for row in answers], network.pad, device)
        read = pad_rows([[1] * (len(row) - 1) for row in answers], 0, device)
        inputs["input_ids"] = torch.cat([ids, written], dim=1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], read], dim=1)
        for name in TOKEN_TYPES:
            if name in inputs:
                inputs[name] = torch.cat([inputs[name], torch.zeros_like(written)], dim=1)
        hidden = torch.full((len(texts), ids.shape[1] - 1), -100, dtype=torch.long, device=device)
        inputs["labels"] = torch.cat([hidden, pad_rows(answers, -100, device)], dim=1)
        return inputs

    def _joined(self, network: HubCaptioner, text: str) -> str:
        """The answer as it stands behind the prompt: a space between words, none behind a line's end or a mark."""
        before = "" if network.crossed else network.rendered
        marks = tuple(token for token in network.tokenizer.all_special_tokens if token)
        return text if not before or before[-1].isspace() or before.endswith(marks) else f" {text}"

    def prompt(self, network: HubCaptioner, images: Tensor) -> Prompt:
        inputs = self.inputs(network, images)
        text = network.model.config.get_text_config()
        start = text.decoder_start_token_id if network.crossed else network.tokenizer.bos_token_id
        return Prompt(
            writer=network.model,
            inputs=inputs,
            images=len(images),
            length=1 if network.crossed else inputs["input_ids"].shape[1],
            start=start,
            pad=network.pad,
            ends=network.ends,
            banned=network.banned(network.ends, start, *network.image_tokens),
        )


class Queries(Prompted):
    """BLIP-2 (Li et al. 2023, arXiv:2301.12597) and InstructBLIP (Dai et al. 2023, arXiv:2305.06500): a Q-Former's
    answers about the picture stand in front of the prompt, which InstructBLIP's Q-Former reads as well."""

    fixed = True
    chat = False

    def set_up(self, network: HubCaptioner) -> None:
        """Checkpoints of before 2024 name neither the token that stands for a query nor how many there are."""
        config, processor = network.model.config, network.processor
        if processor.num_query_tokens is None:
            processor.num_query_tokens = config.num_query_tokens
        if config.image_token_index is None:
            config.image_token_index = int(network.tokenizer.convert_tokens_to_ids("<image>"))
            if config.image_token_index >= network.model.get_input_embeddings().weight.shape[0]:
                network.model.resize_token_embeddings(config.image_token_index + 1)
        super().set_up(network)

    def inputs(self, network: HubCaptioner, images: Tensor) -> dict[str, Any]:
        size = network.model.config.vision_config.image_size
        other = tuple(images.shape[-2:]) != (size, size)
        return {**super().inputs(network, images), "interpolate_pos_encoding": other}

    def _ask_once(self, network: HubCaptioner) -> None:
        found = self._process(
            network, [torch.zeros(3, 8, 8, dtype=torch.uint8)]
        )  # its tokens do not depend on the picture's size
        network.asked = {k: v for k, v in found.items() if isinstance(v, Tensor) and k != "pixel_values"}


class Llava(Prompted):
    """LLaVA 1.5 (Liu et al. 2023, arXiv:2310.03744): one picture of the CLIP tower's size."""

    fixed = True


class Nested(Prompted):
    """Idefics and SmolVLM, whose processors take a list of pictures for each text."""

    def _nested(self, network: HubCaptioner) -> bool:
        return True


FAMILIES: dict[str, Family] = {
    "blip": Blip(),
    "blip-2": Queries(),
    "instructblip": Queries(),
    "llava": Llava(),
    "vipllava": Llava(),
    "idefics2": Nested(),
    "idefics3": Nested(),
    "smolvlm": Nested(),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a configuration; any other that answers chats is asked through its processor."""
    return FAMILIES.get(str(config.get("model_type")), Prompted())
