"""Rows of a detection manifest as samples: a picture, its boxes in canvas pixels, its tags."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from src.data.cache import ImageStore
from src.data.dataset import ImageRows, channels_first
from src.data.geometry import boxes_to_canvas, place
from src.data.scene import Scene, cut_boxes
from src.data.transforms import Augmentation, PreprocessSpec

EMPTY_BOXES, EMPTY_LABELS = np.empty((0, 4), np.float64), np.empty(0, np.int64)


class DetectionDataset(ImageRows):
    """Samples of manifest rows: columns `id`, `path`; `boxes`, `labels`, `ignored`, `tags` where known.

    A sample: `image` uint8 3×H×W at the spec's size, `id`, `original_size` int64 (height, width), `boxes`
    float32 (N, 4) xyxy in canvas pixels, `labels` int64 (N,), `tags` int64 (K,) classes known to be in the
    picture, sorted (those of its boxes among them), `has_boxes` bool (False: boxes unknown, not absent),
    `window` int64 (4,) x1, y1, x2, y2 where the sample lies in its picture: a tile's window, else all of it. A
    tile's `original_size` is its window's, and so are its boxes' coordinates. Boxes of ignored regions are left out.

    Augmentation, and which pictures a mosaic takes, are f(seed, epoch, id, the set of rows). Partners come
    from rows whose boxes are known; a row whose boxes are not is never mixed. From `close_mosaic_epoch` on
    nothing is mixed, so that training ends on pictures as they are (YOLOX: Ge et al. 2021, section 2.1).

    Raises:
        ProjectError: a transform cannot move boxes.
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
        close_mosaic_epoch: int | None = None,
    ) -> None:
        super().__init__(rows, spec, augment=augment, seed=seed, cache=cache)
        if augment is not None:
            augment.check_boxes()
        self._close = close_mosaic_epoch
        self._targets = [_targets(*values) for values in zip(*(_column(rows, n) for n in COLUMNS), strict=True)]
        self._laid: dict[int, tuple] = {}
        known = np.array([has_boxes for _, _, _, has_boxes in self._targets], bool)
        by_hash = np.argsort(self.hashes, kind="stable")  # so that the rows' order does not matter
        self._partners = by_hash[known[by_hash]]

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        epoch, row = index if isinstance(index, tuple) else (0, index)
        scene, size = self._scene(row)
        has_boxes = self._targets[row][3]
        if self.augment is not None:
            mixes = has_boxes and (self._close is None or epoch < self._close)
            scene = self.augment.scene(
                scene, key=self._key(epoch, row), partner=self._partner if mixes else None
            )
        return {
            "image": channels_first(scene.image),
            "id": self.ids[row],
            "original_size": torch.tensor(size),
            "boxes": torch.tensor(scene.boxes, dtype=torch.float32),  # a copy: the rows keep theirs
            "labels": torch.tensor(scene.labels),
            "tags": torch.from_numpy(np.union1d(scene.tags, scene.labels)),
            "has_boxes": torch.tensor(has_boxes),
            "window": torch.tensor(self.windows[row] or (0, 0, size[1], size[0])),
        }

    def _partner(self, draw: int) -> Scene:
        return self._scene(int(self._partners[draw % len(self._partners)]))[0]

    def _scene(self, row: int) -> tuple[Scene, tuple[int, int]]:
        """The row's picture as it is, and its original (height, width)."""
        image, size = self._read(row)
        if row not in self._laid:
            self._laid[row] = self._lay(row, size)
        return Scene(image, *self._laid[row]), size

    def _lay(self, row: int, size: tuple[int, int]) -> tuple:
        """A scene's fields but for the pixels, on the canvas."""
        original, labels, tags, _ = self._targets[row]
        height, width = self._spec.height, self._spec.width
        boxes = boxes_to_canvas(original, size, self._spec).astype(np.float32)
        # An object whole in its picture keeps its box however small the canvas makes it.
        cut, visible, stays = cut_boxes(boxes, np.ones(len(boxes), np.float32), width, height, min_side=0)
        placed = place(size, self._spec)
        right, bottom = placed.left + placed.scaled_width, placed.top + placed.scaled_height
        region = (max(0, placed.left), max(0, placed.top), min(width, right), min(height, bottom))
        return cut[stays], labels[stays], visible[stays], tags, region


COLUMNS = ("boxes", "labels", "ignored", "tags")


def _column(rows: pd.DataFrame, name: str) -> list:
    """A column's values, None where unknown: joining tables turns None into NaN."""
    if name not in rows:
        return [None] * len(rows)
    return [None if isinstance(value, float) else value for value in rows[name]]


def _targets(boxes: Any, labels: Any, ignored: Any, tags: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """(N, 4) boxes in original pixels, (N,) labels, tags that no box stands for, whether boxes are known."""
    tags = EMPTY_LABELS if tags is None else np.asarray(tags, np.int64).reshape(-1)
    if boxes is None:
        return EMPTY_BOXES, EMPTY_LABELS, np.unique(tags), False
    boxes, labels = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(labels, np.int64).reshape(-1)
    stays = np.ones(len(boxes), bool) if ignored is None else ~np.asarray(ignored, bool).reshape(-1)
    return boxes[stays], labels[stays], np.setdiff1d(tags, labels[stays]), True
