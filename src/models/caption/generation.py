"""Captions of a transformers network: decoding options as arguments of its `generate`, its answer as candidates.

Beam search, greedy choice and nucleus sampling run inside transformers, under this project's rules (stepping.py), so
that an option means the same for every captioner. Contrastive search, which transformers 5 no longer holds, runs in
this project's own search over the inputs that `generate` prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from src.captions.decoding import Candidate, Decoding
from src.models.caption.contrastive_search import contrastive_search
from src.models.caption.stepping import Rules, Step, Stepper, different


@dataclass(frozen=True)
class Prompt:
    """What a network writes on from.

    writer: the module whose `generate` is called. inputs: its keyword arguments. images: how many are described.
    length: tokens of the prompt that rows of the answer begin with. start, pad: token ids. ends: ids that end a
    caption; banned: ids that are never written.
    """

    writer: nn.Module
    inputs: Mapping[str, Any]
    images: int
    length: int
    start: int | None
    pad: int
    ends: Sequence[int]
    banned: Sequence[int] = ()


def write_captions(
    prompt: Prompt,
    decoding: Decoding,
    decode: Callable[[Sequence[int]], str],
    *,
    seeds: Sequence[int] | None = None,
) -> list[list[Candidate]]:
    """1 to `decoding.candidates` different captions an image, best first; scores are mean log-probabilities a token,
    the end mark counted, temperature and top-p apart.

    decode: ids of a caption without its end → text. seeds: one an image, for nucleus; else its place in the batch.
    """
    if decoding.method == "contrastive":
        found = _contrastive(prompt, decoding)
        return [different([(decode(tokens), score)], 1) for tokens, score in found]
    if decoding.method == "beam" and max(decoding.beams, decoding.candidates) > 1:
        rows, scores, each = _beam(prompt, decoding)
    else:
        rows, scores, each = _one_by_one(prompt, decoding, seeds)
    result = []
    for first in range(0, len(rows), each):
        group = [(decode(row), score) for row, score in zip(rows[first : first + each], scores[first:], strict=False)]
        if decoding.method == "nucleus":
            group.sort(key=lambda pair: -pair[1])
        result.append(different(group, decoding.candidates))
    return result


def _beam(prompt: Prompt, decoding: Decoding) -> tuple[list[list[int]], list[float], int]:
    beams = max(decoding.beams, decoding.candidates)
    options = {"num_beams": beams, "num_return_sequences": beams, "length_penalty": decoding.length_penalty}
    config = _config(prompt, decoding, **options, output_scores=True)
    answer = _call(prompt, config, logits_processor=LogitsProcessorList([_Ruled(prompt, decoding)]))
    rows, lengths = _captions(answer.sequences, prompt)
    # transformers ranks by the sum of log-probabilities / length ** length_penalty; a score here is their mean
    power = decoding.length_penalty - 1.0
    totals = answer.sequences_scores.float().tolist()
    return rows, [value * length**power for value, length in zip(totals, lengths, strict=True)], beams


def _one_by_one(
    prompt: Prompt, decoding: Decoding, seeds: Sequence[int] | None
) -> tuple[list[list[int]], list[float], int]:
    each, draws = 1, None
    if decoding.method == "nucleus":
        each = decoding.candidates
        seeds = range(prompt.images) if seeds is None else seeds
        shape = (decoding.max_tokens + 1, each)
        drawn = [np.random.default_rng([decoding.seed, int(seed) % 2**64]).random(shape) for seed in seeds]
        draws = torch.from_numpy(np.concatenate(drawn, axis=1))
    chooser = _Chooser(prompt, decoding, draws)
    # The chooser leaves one token possible, so transformers' own draw has no say; but only when it draws does it write
    # several rows an image.
    options = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0} if each > 1 else {}
    config = _config(prompt, decoding, num_return_sequences=each, **options)
    answer = _call(prompt, config, logits_processor=LogitsProcessorList([chooser]))
    rows, lengths = _captions(answer.sequences, prompt)
    values = torch.stack(chooser.taken, dim=1).tolist()
    return rows, [sum(row[:length]) / length for row, length in zip(values, lengths, strict=True)], each


def _contrastive(prompt: Prompt, decoding: Decoding) -> list[tuple[Sequence[int], float]]:
    answers: list[tuple[Sequence[int], float]] = []

    def loop(
        model: nn.Module,
        input_ids: Tensor,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        generation_config: Any = None,
        **inputs: Any,
    ) -> Tensor:
        stepper = PreparedStepper(model, input_ids, inputs, ends=prompt.ends, banned=prompt.banned)
        answers.extend(tuple(group[0]) for group in contrastive_search(stepper, decoding))
        return input_ids

    _call(prompt, _config(prompt, decoding), custom_generate=loop)
    return answers


def _config(prompt: Prompt, decoding: Decoding, **options: Any) -> GenerationConfig:
    """Options of `generate`, none of them the checkpoint's own."""
    return GenerationConfig(
        max_new_tokens=decoding.max_tokens + 1,  # the end mark is one of them
        pad_token_id=prompt.pad,
        eos_token_id=list(prompt.ends),
        bos_token_id=prompt.start,
        decoder_start_token_id=prompt.start,
        return_dict_in_generate=True,
        **options,
    )


def _call(prompt: Prompt, config: GenerationConfig, **more: Any) -> Any:
    return prompt.writer.generate(**prompt.inputs, generation_config=config, **more)


def _captions(sequences: Tensor, prompt: Prompt) -> tuple[list[list[int]], list[int]]:
    """Tokens of each row behind the prompt, without the end, and how many were written with it."""
    rows, lengths = [], []
    for row in sequences[:, prompt.length :].tolist():
        ends = [place for place, token in enumerate(row) if token in prompt.ends]
        rows.append(row[: ends[0]] if ends else row)
        lengths.append(ends[0] + 1 if ends else max(1, len(row)))
    return rows, lengths


class _Ruled(LogitsProcessor):
    """The project's rules for what may come next; they see what was written, not the prompt, whose words are free."""

    def __init__(self, prompt: Prompt, decoding: Decoding) -> None:
        self.rules, self.skip = Rules(decoding, prompt), prompt.length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self.rules(scores, input_ids[:, self.skip :])[1]


class _Chooser(_Ruled):
    """Chooses each row's next token, leaves it alone possible, and keeps its log-probability.

    With draws (steps, rows) from [0, 1): nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751), whose rows depend
    on neither their neighbours nor the device's random state; without, the most probable token.
    """

    def __init__(self, prompt: Prompt, decoding: Decoding, draws: Tensor | None) -> None:
        super().__init__(prompt, decoding)
        self.draws, self.temperature, self.top_p = draws, decoding.temperature, decoding.top_p
        self.taken: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        plain, worth = self.rules(scores, input_ids[:, self.skip :])
        token = worth.argmax(dim=-1) if self.draws is None else self._draw(worth)
        self.taken.append(plain.gather(1, token[:, None])[:, 0])
        return torch.full_like(scores, -torch.inf).scatter(1, token[:, None], 0.0)

    def _draw(self, worth: Tensor) -> Tensor:
        chance, order = (worth / self.temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        chance = chance.masked_fill(chance.cumsum(dim=-1) - chance >= self.top_p, 0.0)
        heights = chance.cumsum(dim=-1)
        draws = self.draws[len(self.taken)].to(heights)
        place = torch.searchsorted(heights, (draws * heights[:, -1])[:, None], right=True)
        last = (chance > 0).sum(dim=-1, keepdim=True) - 1  # rounding must not step outside the nucleus
        return order.gather(1, place.minimum(last))[:, 0]


class PreparedStepper(Stepper):
    """A transformers network that writes on from the inputs that its `generate` prepared."""

    def __init__(
        self, model: Any, input_ids: Tensor, inputs: Mapping[str, Any], *, ends: Sequence[int], banned: Sequence[int]
    ) -> None:
        self.model, self.ids, self.inputs = model, input_ids, dict(inputs)
        self.images, self.ends, self.banned = len(input_ids), ends, banned

    def begin(self) -> Step:
        step = self._forward(is_first_iteration=True)
        # The cache holds the pictures from here on.
        self.inputs = {name: value for name, value in self.inputs.items() if not name.startswith(("pixel", "image_"))}
        return step

    def advance(self, tokens: Tensor, rows: Tensor) -> Step:
        count = len(self.ids)
        held = "cache" if "cache" in self.inputs else "past_key_values"  # as older versions of transformers call it
        self.inputs[held].reorder_cache(rows)
        self.inputs = {name: _rows(value, rows, count) for name, value in self.inputs.items()}
        self.ids = torch.cat([self.ids[rows], tokens[:, None]], dim=1)
        return self._forward(next_sequence_length=1)

    def _forward(self, **how: Any) -> Step:
        prepared = self.model.prepare_inputs_for_generation(self.ids, **how, **self.inputs)
        answer = self.model(**prepared, output_hidden_states=True, return_dict=True)
        crossed = self.model.config.is_encoder_decoder
        self.inputs = self.model._update_model_kwargs_for_generation(answer, self.inputs, is_encoder_decoder=crossed)
        hidden = (answer.decoder_hidden_states if crossed else answer.hidden_states)[-1]
        return Step(answer.logits[:, -1], hidden[:, -1])


def _rows(value: Any, rows: Tensor, count: int) -> Any:
    """The same input for other rows of the batch, where it has one entry a row."""
    if isinstance(value, Tensor):
        if value.ndim and value.shape[0] == count:
            return value[rows]
        if value.ndim == 3 and value.shape[1] == count:  # positions of several axes: (axes, rows, tokens)
            return value[:, rows]
        return value
    if isinstance(value, Mapping):  # an encoder's outputs
        for name in value:
            value[name] = _rows(value[name], rows, count)
    return value
