"""Texts inside a network's state dict: UTF-8 bytes and offsets in buffers of any length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from src.models.anomaly.maps import SizedByCheckpoint


class TextMemory(SizedByCheckpoint):
    """A list of texts that a checkpoint carries and any state dict replaces, however many and long they are.

    Buffers: characters (bytes,) uint8, all texts in UTF-8 one after the other; offsets (N + 1,) int64, where each
    begins, and the end of the last.
    """

    fitted = ("characters", "offsets")

    def __init__(self, texts: Sequence[str] = ()) -> None:
        super().__init__()
        self.register_buffer("characters", torch.zeros(0, dtype=torch.uint8))
        self.register_buffer("offsets", torch.zeros(1, dtype=torch.int64))
        self._read: tuple[Tensor, list[str]] | None = None  # of which buffer
        if texts:
            self.set(texts)

    def set(self, texts: Sequence[str]) -> None:
        """Keep these texts instead of what was there."""
        encoded = [text.encode("utf-8") for text in texts]
        device = self.offsets.device
        joined = bytearray(b"".join(encoded))  # writable, which a tensor's memory has to be
        characters = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.zeros(0, dtype=torch.uint8)
        lengths = torch.tensor([0, *map(len, encoded)], dtype=torch.int64)
        self.characters, self.offsets = characters.to(device), lengths.cumsum(0).to(device)

    def texts(self) -> list[str]:
        """The N texts in order; the list is the memory's own, not to be changed."""
        if self._read is None or self._read[0] is not self.offsets:
            joined, ends = self.characters.cpu().numpy().tobytes(), self.offsets.tolist()
            self._read = (self.offsets, [joined[start:end].decode("utf-8") for start, end in pairwise(ends)])
        return self._read[1]

    def __len__(self) -> int:
        return len(self.offsets) - 1
