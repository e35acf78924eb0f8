"""Randomness as a function: an epoch's order and a sample's augmentation key are f(seed, epoch, id)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
from torch.utils.data import Sampler

# Separate streams, so that a picture's augmentation says nothing about its place in the epoch or its captions.
ORDER, AUGMENT, CAPTIONS, SHOTS = 1, 2, 3, 4
REPEAT = 1 << 32  # added to the epoch for each time that an epoch shows a sample again: other augmentation, same epoch


def hash_ids(ids: Sequence[str]) -> np.ndarray:
    """64 bits an id (uint64), the same in every process and on every machine."""
    digests = b"".join(blake2b(str(i).encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def draw_keys(hashes: np.ndarray, seed: int, epoch: int, stream: int) -> np.ndarray:
    """A pseudo-random uint64 per id hash: splitmix64's finaliser over (seed, epoch, stream, id)."""
    counter = np.array([seed % 2**64, epoch, stream], dtype=np.uint64)
    state = np.zeros(1, dtype=np.uint64)
    for word in counter:
        state = _mix(state ^ word)
    return _mix(_mix(hashes ^ state))


def first_shots(hashes: np.ndarray, kinds: Sequence[str], *, limits: dict[str, int], seed: int) -> np.ndarray:
    """(N,) bool: of each kind in `limits` so many rows, drawn by f(seed, id); all rows of the other kinds.

    Of one seed a larger number keeps what a smaller one drew.
    """
    keys = draw_keys(hashes, seed, 0, SHOTS)
    names = np.array(kinds, dtype=object)
    keep = np.ones(len(names), dtype=bool)
    for kind, limit in limits.items():
        members = np.flatnonzero(names == kind)
        keep[members[np.argsort(keys[members], kind="stable")[limit:]]] = False
    return keep


def _mix(values: np.ndarray) -> np.ndarray:
    """splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"), vectorised."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class EpochSampler(Sampler):
    """Shuffled training order. Yields (epoch, index), so that workers need not be told the epoch.

    Rank r of w takes every w-th sample: global batch b holds the same samples whatever the number of GPUs, at
    equal total batch size. The order is padded with its own head to a multiple of w, for ranks must make
    equally many steps. The order follows from the ids alone: not from the order of the rows.

    With `classes` (a code a row) an epoch, as long as ever, holds equally many samples of each class: of a small class
    each sample several times, of a large one a part, another one each epoch.
    """

    def __init__(
        self,
        hashes: np.ndarray,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        classes: np.ndarray | None = None,
    ) -> None:
        self._hashes, self._seed, self._classes = hashes, seed, classes
        self._rank, self._world_size = rank, world_size
        self._epoch, self._consumed = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls it as an epoch begins, also after `__iter__`: the same epoch changes nothing."""
        if epoch != self._epoch:
            self._epoch, self._consumed = epoch, 0

    def resume(self, epoch: int, consumed: int) -> None:
        """Begin the next iteration inside `epoch`, after `consumed` samples (of all ranks together)."""
        self._epoch, self._consumed = epoch, consumed

    def order(self, epoch: int) -> np.ndarray:
        """Row indices of the whole epoch, all ranks, unpadded."""
        return self._drawn(epoch)[1]

    def _drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(epoch with repeats marked, row) of each sample of the epoch."""
        keys = draw_keys(self._hashes, self._seed, epoch, ORDER)
        if self._classes is None:
            return np.full(len(keys), epoch), np.argsort(keys, kind="stable")
        present = np.unique(self._classes)
        places = np.arange(len(present)) + epoch  # who gets the remainder changes from epoch to epoch
        quotas = len(keys) // len(present) + (places % len(present) < len(keys) % len(present))
        epochs, rows, order = [], [], []
        for code, quota in zip(present, quotas.tolist(), strict=True):
            members = np.flatnonzero(self._classes == code)
            for repeat in range(-(-quota // len(members))):
                again = epoch + repeat * REPEAT
                drawn = draw_keys(self._hashes[members], self._seed, again, ORDER)
                chosen = np.argsort(drawn, kind="stable")[: quota - repeat * len(members)]
                epochs.append(np.full(len(chosen), again))
                rows.append(members[chosen])
                order.append(_mix(drawn[chosen]))  # not the key that chose: the chosen ones' are all small
        place = np.argsort(np.concatenate(order), kind="stable")
        return np.concatenate(epochs)[place], np.concatenate(rows)[place]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, consumed = self._epoch, self._consumed
        self._consumed = 0
        total = len(self) * self._world_size
        drawn = (np.resize(part, total)[consumed + self._rank :: self._world_size] for part in self._drawn(epoch))
        for when, index in zip(*drawn, strict=True):
            yield int(when), int(index)

    def __len__(self) -> int:
        """Samples of a full epoch on this rank (also in a resumed one, whose iteration is shorter)."""
        return -(-len(self._hashes) // self._world_size)


class ShardSampler(Sampler):
    """Rows in order, shared among ranks without padding: each row exactly once over all ranks."""

    def __init__(self, n: int, *, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, n, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)
