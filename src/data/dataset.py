"""Rows of the manifest as samples, and samples as uint8 batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from src.data.cache import ImageStore, MaskStore
from src.data.images import check_mask_size, lay_mask, read_mask
from src.data.sampler import AUGMENT, REPEAT, draw_keys, hash_ids
from src.data.tiles import read_placed, windows_of
from src.data.transforms import Augmentation, PreprocessSpec
from src.errors import ProjectError

LISTS = ("id", "boxes", "labels", "tags", "captions", "category")  # of a batch: not stacked


class ImageRows(Dataset):
    """What samples of every task share: ids, files, the cache, and a key a sample, f(seed, epoch, id).

    Index it by row, or by (epoch, row) as `EpochSampler` does. `cache` is a store of `src.data.cache`; without
    it files are read at each access. A row with a `window` is that part of its picture (`src.data.tiles`).
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        spec: PreprocessSpec,
        *,
        augment: Augmentation | None = None,
        seed: int = 0,
        cache: ImageStore | None = None,
    ) -> None:
        self.ids: list[str] = rows["id"].astype(str).tolist()
        self.paths: list[str] = rows["path"].astype(str).tolist()
        self.windows = windows_of(rows)
        self.hashes = hash_ids(self.ids)
        self._spec, self.augment, self._seed, self._cache = spec, augment, seed, cache
        self._keys: tuple[int, np.ndarray] = (-1, np.empty(0, np.uint64))

    @property
    def cache_mode(self) -> str:
        """Where pictures come from: "ram", "disk" or "none"."""
        return self._cache.mode if self._cache else "none"

    def __len__(self) -> int:
        return len(self.ids)

    def _read(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        """A fresh canvas picture H×W×3 uint8, and its original (height, width)."""
        path, window = self.paths[row], self.windows[row]
        return self._cache.read(path, window) if self._cache else read_placed(path, window, self._spec)

    def _key(self, epoch: int, row: int) -> int:
        if epoch >= REPEAT:  # a sample that its epoch shows again
            return int(draw_keys(self.hashes[row : row + 1], self._seed, epoch, AUGMENT)[0])
        if self._keys[0] != epoch:  # all rows at once: numpy takes as long for one as for a hundred
            self._keys = epoch, draw_keys(self.hashes, self._seed, epoch, AUGMENT)
        return int(self._keys[1][row])


class ImageDataset(ImageRows):
    """Samples of manifest rows (columns `id`, `path`; `label` and `mask` where there are any).

    A sample: `image` uint8 3×H×W at the spec's size, `id`, `original_size` int64 (height, width), `label`
    int64 (0 normal, 1 anomalous, −1 unknown); with `with_masks` also `mask` uint8 1×H×W {0, 1}, zeros where a
    row has none; with `classes` (N,) also `class` int64; `category` (str or None) where the rows have any.
    Augmentation is f(seed, epoch, id), nothing else. `masks` is a store of `src.data.cache`.

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
        classes: np.ndarray | None = None,
    ) -> None:
        super().__init__(rows, spec, augment=augment, seed=seed, cache=cache)
        if augment is not None and augment.needs_boxes:
            named = ", ".join(augment.needs_boxes)
            raise ProjectError(f"augment: {named} is for pictures with boxes, and this task has none.")
        self.labels = label_array(rows)
        self._mask_paths = mask_paths(rows) if with_masks else None
        self._masks, self._classes = masks, classes
        self._categories = categories_of(rows)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        epoch, row = index if isinstance(index, tuple) else (0, index)
        image, size = self._read(row)
        targets = {"image": image}
        if self._mask_paths is not None:
            targets["mask"] = self._read_mask(row, size)
        if self.augment is not None:
            targets = self.augment(key=self._key(epoch, row), **targets)
        sample = {
            "image": channels_first(targets["image"]),
            "id": self.ids[row],
            "original_size": torch.tensor(size),
            "label": torch.tensor(self.labels[row]),
        }
        if self._classes is not None:
            sample["class"] = torch.tensor(self._classes[row])
        if self._categories is not None:
            sample["category"] = self._categories[row]
        if "mask" in targets:
            sample["mask"] = torch.from_numpy(np.ascontiguousarray(targets["mask"]))[None]
        return sample

    def _read_mask(self, row: int, size: tuple[int, int]) -> np.ndarray:
        path = self._mask_paths[row]
        if path is None:
            return np.zeros((self._spec.height, self._spec.width), np.uint8)
        if self._masks is not None:
            return self._masks.read(path)
        mask = read_mask(path)
        check_mask_size(mask.shape, size, mask=path, image=self.paths[row])
        return lay_mask(mask, self._spec)


def channels_first(image: np.ndarray) -> torch.Tensor:
    """H×W×3 → 3×H×W, in channels-last memory order: nothing is copied."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples → batch: `image` uint8 B×3×H×W, `id` list of str, every other tensor stacked along a new axis.

    `boxes`, `labels` and `tags`, whose lengths differ from sample to sample, stay lists of tensors, `captions` a list
    of lists of str, and `category` a list of str or None. Images stay channels-last: nothing is transposed.
    """
    batch: dict[str, Any] = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        if name == "image":
            pixels = torch.stack([value.permute(1, 2, 0) for value in values])
            batch["image"] = pixels.permute(0, 3, 1, 2)
        else:
            batch[name] = values if name in LISTS else torch.stack(values)
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


def categories_of(rows: pd.DataFrame) -> list[str | None] | None:
    """The rows' categories, None for all of them where no row has one."""
    if "category" not in rows or rows["category"].isna().all():
        return None
    return [name if isinstance(name, str) and name else None for name in rows["category"]]
