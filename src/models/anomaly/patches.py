"""A growing store of patch features with a hard size limit: past it, a uniformly random sample is kept."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class PatchStore:
    """Rows of width D, at most `limit` of them; each row ever added is kept with the same probability.

    Reservoir sampling (Vitter 1985, algorithm R) with a seeded generator: the kept rows depend on the seed and on
    the order of the rows, not on how they are batched.
    """

    def __init__(self, width: int, *, limit: int, dtype: torch.dtype, device: torch.device, seed: int) -> None:
        self.limit, self.seen = max(1, limit), 0
        self._generator = torch.Generator().manual_seed(seed)
        self._rows = torch.empty(0, width, dtype=dtype, device=device)
        self._filled = 0

    def __len__(self) -> int:
        return self._filled

    def reserve(self, rows: int) -> None:
        """Make room for so many rows in all, so that adding never copies."""
        rows = min(rows, self.limit)
        if rows > len(self._rows):
            grown = self._rows.new_empty(rows, self._rows.shape[1])
            grown[: self._filled] = self._rows[: self._filled]
            self._rows = grown

    def add(self, rows: Tensor) -> None:
        """Add N×D rows."""
        fresh = rows[: max(0, self.limit - self._filled)]
        if len(fresh):
            needed = self._filled + len(fresh)
            if needed > len(self._rows):
                self.reserve(max(needed, len(self._rows) * 3 // 2))
            self._rows[self._filled : needed] = fresh.to(self._rows)
            self._filled = needed
        late = rows[len(fresh) :]
        if len(late):
            order = np.arange(self.seen + len(fresh), self.seen + len(rows))
            draws = torch.rand(len(late), generator=self._generator, dtype=torch.float64).numpy()
            slots = (draws * (order + 1)).astype(np.int64)
            source = np.flatnonzero(slots < self.limit)
            # A slot that is drawn twice keeps the later row, as one by one.
            kept_slots, last = np.unique(slots[source][::-1], return_index=True)
            source = source[::-1][last]
            target = torch.from_numpy(kept_slots).to(self._rows.device)
            self._rows[target] = late[torch.from_numpy(source.copy()).to(late.device)].to(self._rows)
        self.seen += len(rows)

    def take(self) -> Tensor:
        """The kept rows; the store is empty afterwards."""
        rows = self._rows[: self._filled]
        self._rows = self._rows.new_empty(0, self._rows.shape[1])
        self._filled = 0
        return rows
