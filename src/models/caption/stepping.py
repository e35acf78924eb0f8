"""What decoding asks of a network that writes token by token, and the rules that every method keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from src.captions.decoding import Candidate, Decoding


class Step(NamedTuple):
    """logits (R, V) of each row's next token. hidden: the last hidden state that gave them (R, D); only contrastive
    search reads it, others accept None. From `begin`, hidden may be (R, T, D): every position of the prompt."""

    logits: Tensor
    hidden: Tensor | None = None


class Stepper(ABC):
    """A network that has read a batch of images, and writes on from there. Used once.

    A row is an unfinished caption. To wrap a transformers model: `begin` runs the prompt (pixel values, input ids) with
    `use_cache=True`; `advance` first reorders the cache, `cache.reorder_cache(rows)` for beams, which also repeats and
    drops rows, and the attention mask's rows alike, then feeds `tokens[:, None]`. `hidden` is
    `hidden_states[-1][:, -1]`.

    Attributes: images, the number of images; ends, the ids that end a caption; banned, ids that are never written
    (padding, beginning, unknown).
    """

    images: int
    ends: Sequence[int]
    banned: Sequence[int] = ()

    @abstractmethod
    def begin(self) -> Step:
        """One row an image: what may come first."""

    @abstractmethod
    def advance(self, tokens: Tensor, rows: Tensor) -> Step:
        """New row i is former row `rows[i]` with `tokens[i]` (both (R,)) behind it; what may come next.

        Rows of an image lie together, equally many an image; images keep their order, and may drop out for good.
        """


class Found(NamedTuple):
    """A finished caption: its tokens without the end, and its mean log-probability a token, the end counted."""

    tokens: tuple[int, ...]
    score: float


class Rules:
    """Which tokens may come next, and what choosing them is worth.

    Where the rules forbid every token the caption ends. A caption of `max_tokens` tokens must end, at its real price,
    so a search prefers sentences that were finished to those that were cut.
    """

    def __init__(self, decoding: Decoding, stepper: Stepper) -> None:
        self.options, self.ends, self.banned = decoding, list(stepper.ends), list(stepper.banned)

    def __call__(self, logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, V) behind tokens (R, T) → log-probabilities (R, V), and the same with penalties; both float32,
        with minus infinity where the rules forbid a token.

        The repetition penalty multiplies log-probabilities of tokens already written (Keskar et al. 2019 divide
        logits, whose zero has no meaning). What is forbidden does not make the rest more probable.
        """
        options, length = self.options, tokens.shape[1]
        plain = logits.float().log_softmax(dim=-1)
        worth = plain
        if options.repetition_penalty != 1.0 and length:
            worth = plain.scatter(1, tokens, plain.gather(1, tokens) * options.repetition_penalty)
        forbidden = torch.zeros_like(plain, dtype=torch.bool)
        forbidden[:, self.banned] = True
        if length >= options.max_tokens:
            forbidden[:] = True
        elif length < options.min_tokens:
            forbidden[:, self.ends] = True
        size = options.no_repeat_ngram
        if size and length >= size:
            grams = tokens.unfold(1, size, 1)  # (R, T - size + 1, size)
            again = (grams[:, :, :-1] == tokens[:, None, length - size + 1 :]).all(dim=-1)
            rows, places = again.nonzero(as_tuple=True)
            forbidden[rows, grams[rows, places, -1]] = True
        stuck = forbidden.all(dim=-1)
        if stuck.any():
            ends = torch.zeros_like(forbidden[0])
            ends[self.ends] = True
            forbidden &= ~(stuck[:, None] & ends)
        return plain.masked_fill(forbidden, -torch.inf), worth.masked_fill(forbidden, -torch.inf)


def rows_of(images: Tensor, count: int) -> Tensor:
    """Rows (I·count,) of these images (I,) when every image has `count` rows."""
    return (images[:, None] * count + torch.arange(count, device=images.device)).flatten()


def different(found: Sequence[tuple[str, float]], limit: int) -> list[Candidate]:
    """The first `limit` different texts, in their order; empty ones only where there is nothing else."""
    kept: dict[str, float] = {}
    for text, score in found:
        kept.setdefault(text.strip(), score)
    if len(kept) > 1:
        kept.pop("", None)
    return [Candidate(text, score) for text, score in list(kept.items())[:limit]]
