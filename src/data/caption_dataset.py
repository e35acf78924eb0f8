"""Rows of a caption manifest as samples: a picture and the sentences about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from src.captions.sides import side_word
from src.data.cache import ImageStore
from src.data.dataset import ImageRows, channels_first
from src.data.mirror import NAME as MIRROR
from src.data.sampler import CAPTIONS, draw_keys
from src.data.transforms import Augmentation, PreprocessSpec
from src.errors import ProjectError


class CaptionDataset(ImageRows):
    """Samples of manifest rows: columns `id`, `path`; `captions` where known.

    A sample: `image` uint8 3×H×W at the spec's size, `id`, `original_size` int64 (height, width), `captions` list of
    str: all of the row's in their order, [] where it has none; with `captions_per_image` = k at most that many, the
    next k in turn each epoch, beginning at one drawn for the id, so that after as many epochs all were seen equally
    often. Which, and the augmentation, are f(seed, epoch, id).

    Raises:
        ProjectError: `captions_per_image` below 1; an augmentation that needs boxes, or that mirrors pictures whose
            captions name a side and leaves the captions as they are.
        ImageError (on access, without a cache): the file cannot be read.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        spec: PreprocessSpec,
        *,
        augment: Augmentation | None = None,
        seed: int = 0,
        cache: ImageStore | None = None,
        captions_per_image: int | None = None,
    ) -> None:
        super().__init__(rows, spec, augment=augment, seed=seed, cache=cache)
        if captions_per_image is not None and captions_per_image < 1:
            raise ProjectError(f"captions_per_image must be 1 or more, or null for all, not {captions_per_image}.")
        self.captions = captions_of(rows)
        self._count = captions_per_image
        self._starts = draw_keys(self.hashes, seed, 0, CAPTIONS)
        if augment is not None:
            self._check(augment)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        epoch, row = index if isinstance(index, tuple) else (0, index)
        image, size = self._read(row)
        targets = {"image": image, "captions": self._chosen(epoch, row)}
        if self.augment is not None:
            targets = self.augment(key=self._key(epoch, row), **targets)
        return {
            "image": channels_first(targets["image"]),
            "id": self.ids[row],
            "original_size": torch.tensor(size),
            "captions": targets["captions"],
        }

    def _chosen(self, epoch: int, row: int) -> list[str]:
        texts = self.captions[row]
        if self._count is None or self._count >= len(texts):
            return list(texts)
        first = int(self._starts[row]) + epoch * self._count
        return [texts[(first + step) % len(texts)] for step in range(self._count)]

    def _check(self, augment: Augmentation) -> None:
        if augment.needs_boxes:
            named = ", ".join(augment.needs_boxes)
            raise ProjectError(f"augment: {named} needs boxes, and a picture with captions has none. Remove it.")
        if not augment.plain_mirrors:
            return
        for identifier, texts in zip(self.ids, self.captions, strict=True):
            for text in texts:
                word = side_word(text)
                if word is not None:
                    raise ProjectError(
                        f"augment: {augment.plain_mirrors[0]} exchanges left and right in the picture alone, and the "
                        f"captions name sides, as '{word}' of the image '{identifier}'. Replace it by "
                        f"{{name: {MIRROR}, p: 0.5}}, which changes the words too."
                    )


def captions_of(rows: pd.DataFrame) -> list[list[str]]:
    """The rows' captions; [] where there are none (None, or the NaN that joining tables makes of it)."""
    if "captions" not in rows:
        return [[] for _ in range(len(rows))]
    return [list(texts) if isinstance(texts, list | tuple | np.ndarray) else [] for texts in rows["captions"]]
