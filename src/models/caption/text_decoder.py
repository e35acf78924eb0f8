"""A small Transformer that writes text while it looks at visual tokens, with keys and values kept between steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.caption.stepping import Step, Stepper


class KeyValue(NamedTuple):
    """Keys and values of one attention layer, each (rows, heads, T, width / heads)."""

    key: Tensor
    value: Tensor


def sine_positions(places: Tensor, width: int) -> Tensor:
    """Places (...,) → (..., width) sines and cosines (Vaswani et al. 2017, section 3.5); width is even."""
    rates = torch.exp(torch.arange(width // 2, device=places.device) * (-math.log(10000.0) / (width // 2)))
    angles = places[..., None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Attention(nn.Module):
    """Multi-head attention of queries to keys and values that may be computed once and kept."""

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def read(self, x: Tensor) -> KeyValue:
        """(B, S, D) → keys and values (B, H, S, D / H)."""
        key, value = self.key_value(x).view(len(x), x.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return KeyValue(key, value)

    def forward(self, x: Tensor, memory: KeyValue, *, causal: bool = False) -> Tensor:
        """(R, T, D), memory of R / K rows → (R, T, D). Each row of memory is for K rows of x that lie together."""
        rows, length, width = x.shape
        groups = len(memory.key)
        query = self.query(x).view(groups, -1, self.heads, width // self.heads).transpose(1, 2)  # (B, H, K·T, d)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, memory.key, memory.value, dropout_p=dropout, is_causal=causal)
        return self.out(y.transpose(1, 2).reshape(rows, length, width))


class FeedForward(nn.Sequential):
    def __init__(self, *, width: int, dropout: float) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width))


class DecoderLayer(nn.Module):
    """Self-attention, attention to the image, feed-forward; norms come first (Xiong et al. 2020)."""

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.own = Attention(width=width, heads=heads, dropout=dropout)
        self.cross = Attention(width=width, heads=heads, dropout=dropout)
        self.feed_forward = FeedForward(width=width, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, image: KeyValue, past: KeyValue | None = None) -> tuple[Tensor, KeyValue]:
        """x (R, T, D): whole captions, or with `past` their next token (T = 1); answers x, keys and values so far."""
        first, second, third = self.norms
        normed = first(x)
        kept = self.own.read(normed)
        if past is not None:
            kept = KeyValue(torch.cat([past.key, kept.key], dim=2), torch.cat([past.value, kept.value], dim=2))
        x = x + self.dropout(self.own(normed, kept, causal=past is None))
        x = x + self.dropout(self.cross(second(x), image))
        return x + self.dropout(self.feed_forward(third(x))), kept


class TextDecoder(nn.Module):
    """Logits of next tokens; input and output embeddings are one matrix (Press & Wolf 2017)."""

    def __init__(self, *, size: int, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(size, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.layers = nn.ModuleList(DecoderLayer(width=width, heads=heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def look(self, visual: Tensor) -> list[KeyValue]:
        """Visual tokens (B, S, D) → what each layer attends to, computed once an image."""
        return [layer.cross.read(visual) for layer in self.layers]

    def forward(
        self, tokens: Tensor, image: Sequence[KeyValue], past: Sequence[KeyValue] | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """Tokens (R, T) of R / B captions an image → hidden states (R, T, D), and keys and values of each layer.

        Whole captions from their beginning, or with `past` each caption's next token alone (T = 1).
        """
        start = past[0].key.shape[2] if past else 0
        places = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        x = self.embedding(tokens) * math.sqrt(self.width) + sine_positions(places, self.width)
        x, kept = self.dropout(x), []
        for i, layer in enumerate(self.layers):
            x, own = layer(x, image[i], past[i] if past else None)
            kept.append(own)
        return self.norm(x), kept

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., D) → logits (..., V)."""
        return F.linear(hidden, self.embedding.weight)


class DecoderStepper(Stepper):
    """The decoder over a batch of images, a token a step."""

    def __init__(self, decoder: TextDecoder, visual: Tensor, *, begin: int, end: int, banned: Sequence[int]) -> None:
        self.decoder, self.images, self.first = decoder, len(visual), begin
        self.ends, self.banned = (end,), tuple(banned)
        self._memory = decoder.look(visual)
        self._past: list[KeyValue] | None = None
        self._image = torch.arange(len(visual), device=visual.device)  # of each row

    def begin(self) -> Step:
        return self._run(torch.full_like(self._image, self.first))

    def advance(self, tokens: Tensor, rows: Tensor) -> Step:
        before = self._image
        self._image = before[rows]
        self._past = [KeyValue(one.key[rows], one.value[rows]) for one in self._past]
        held, left = torch.unique_consecutive(before), torch.unique_consecutive(self._image)
        if len(left) < len(held):
            places = torch.searchsorted(held, left)
            self._memory = [KeyValue(one.key[places], one.value[places]) for one in self._memory]
        return self._run(tokens)

    def _run(self, tokens: Tensor) -> Step:
        hidden, self._past = self.decoder(tokens[:, None], self._memory, self._past)
        hidden = hidden[:, 0]
        return Step(self.decoder.logits(hidden), hidden)
