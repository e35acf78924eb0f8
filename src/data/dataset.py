"""Rows of the manifest as samples, and samples as uint8 batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from src.data.cache import ImageStore, MaskStore
from src.data.images import check_mask_size, lay_mask, read_mask, read_resized
from src.data.sampler import AUGMENT, draw_keys, hash_ids
from src.data.transforms import Augmentation, PreprocessSpec


class ImageDataset(Dataset):
    """Samples of manifest rows (columns `id`, `path`; `label` and `mask` where there are any).

    A sample: `image` uint8 3×H×W at the spec's size, `id`, `original_size` int64 (height, width), `label`
    int64 (0 normal, 1 anomalous, −1 unknown); with `with_masks` also `mask` uint8 1×H×W {0, 1}, zeros where a
    row has none.

    Index it by row, or by (epoch, row) as `EpochSampler` does: augmentation is f(seed, epoch, id), nothing
    else. `cache` and `masks` are the stores of `src.data.cache`; without them files are read at each access.

    Raises (on access, without a cache):
        ImageError: the file cannot be read.
        ProjectError: a mask of another size than its image.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        spec: PreprocessSpec,
        *,
        augment: Augmentation | None = None,
        seed: int = 0,
        cache: ImageStore | None = None,
        with_masks: bool = False,
        masks: MaskStore | None = None,
    ) -> None:
        self.ids: list[str] = rows["id"].astype(str).tolist()
        self.paths: list[str] = rows["path"].astype(str).tolist()
        self.labels = label_array(rows)
        self.hashes = hash_ids(self.ids)
        self._mask_paths = mask_paths(rows) if with_masks else None
        self._spec, self.augment, self._seed = spec, augment, seed
        self._cache, self._masks = cache, masks
        self._keys: tuple[int, np.ndarray] = (-1, np.empty(0, np.uint64))

    @property
    def cache_mode(self) -> str:
        """Where pictures come from: "ram", "disk" or "none"."""
        return self._cache.mode if self._cache else "none"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        epoch, row = index if isinstance(index, tuple) else (0, index)
        path = self.paths[row]
        image, size = self._cache.read(path) if self._cache else read_resized(path, self._spec)
        targets = {"image": image}
        if self._mask_paths is not None:
            targets["mask"] = self._read_mask(row, size)
        if self.augment is not None:
            targets = self.augment(key=self._key(epoch, row), **targets)
        sample = {
            "image": torch.from_numpy(np.ascontiguousarray(targets["image"])).permute(2, 0, 1),
            "id": self.ids[row],
            "original_size": torch.tensor(size),
            "label": torch.tensor(self.labels[row]),
        }
        if "mask" in targets:
            sample["mask"] = torch.from_numpy(np.ascontiguousarray(targets["mask"]))[None]
        return sample

    def _key(self, epoch: int, row: int) -> int:
        if self._keys[0] != epoch:  # all rows at once: numpy takes as long for one as for a hundred
            self._keys = epoch, draw_keys(self.hashes, self._seed, epoch, AUGMENT)
        return int(self._keys[1][row])

    def _read_mask(self, row: int, size: tuple[int, int]) -> np.ndarray:
        path = self._mask_paths[row]
        if path is None:
            return np.zeros((self._spec.height, self._spec.width), np.uint8)
        if self._masks is not None:
            return self._masks.read(path)
        mask = read_mask(path)
        check_mask_size(mask.shape, size, mask=path, image=self.paths[row])
        return lay_mask(mask, self._spec)


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples → batch: `image` uint8 B×3×H×W, `id` list of str, `original_size` int64 B×2, `label` int64 B.

    Also `mask` uint8 B×1×H×W where samples have one. Images stay channels-last: nothing is transposed.
    """
    batch: dict[str, Any] = {"id": [sample["id"] for sample in samples]}
    for name in samples[0]:
        if name == "image":
            pixels = torch.stack([sample["image"].permute(1, 2, 0) for sample in samples])
            batch["image"] = pixels.permute(0, 3, 1, 2)
        elif name != "id":
            batch[name] = torch.stack([sample[name] for sample in samples])
    return batch


def label_array(rows: pd.DataFrame) -> np.ndarray:
    """The rows' labels, int64, −1 where unknown."""
    if "label" not in rows:
        return np.full(len(rows), -1, np.int64)
    return rows["label"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)


def mask_paths(rows: pd.DataFrame) -> list[str | None]:
    """The rows' mask files, None where a row has none (empty, null)."""
    if "mask" not in rows:
        return [None] * len(rows)
    return [str(path) if isinstance(path, str) and path else None for path in rows["mask"]]
