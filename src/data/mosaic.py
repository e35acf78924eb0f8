"""Augmentation that joins pictures: mosaics of four, and MixUp. Partners are drawn, so they follow from the key."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from src.data.scene import Scene, cut_boxes, paste, plain_canvas, scale_range


class Draw(NamedTuple):
    """`partners`: for each other picture a 63-bit draw of which, and the key of its own augmentation."""

    partners: list[tuple[int, int]]
    values: tuple[Any, ...] = ()


class Mixing(ABC):
    """A step that needs `n_partners` other pictures. `size` (height, width), `fill` the colour of padding."""

    n_partners = 1

    def __init__(self, *, size: tuple[int, int], fill: Sequence[int], p: float) -> None:
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
            raise ValueError(f"p must be a number, 0 to 1, not {p!r}")
        self.height, self.width = size
        self.fill, self.p = tuple(fill), float(p)

    def draw(self, generator: random.Random) -> Draw | None:
        """What this application needs to know, all at once; None where the step is left out this time."""
        if generator.random() >= self.p:
            return None
        partners = [(generator.getrandbits(63), generator.getrandbits(64)) for _ in range(self.n_partners)]
        return Draw(partners, self._values(generator))

    def _values(self, generator: random.Random) -> tuple[Any, ...]:
        return ()

    @abstractmethod
    def mix(self, scenes: Sequence[Scene], values: tuple, *, min_visible: float, min_side: float) -> Scene:
        """One scene of the sample's own, which comes first, and its partners."""


class Mosaic4(Mixing):
    """Four pictures around a random centre (YOLOv4: Bochkovskiy et al. 2020, section 3.3).

    All are resized by one factor drawn from `scale`. Of a picture that is larger than its cell a random part is
    seen; one that is smaller touches the centre, and padding is left outside. The centre lies at least a fifth
    of a side from the edges, and nearer the middle where small pictures need it to fill the canvas.
    """

    n_partners = 3

    def __init__(
        self, *, size: tuple[int, int], fill: Sequence[int], scale: Sequence[float] = (0.5, 1.5), p: float = 0.5
    ) -> None:
        super().__init__(size=size, fill=fill, p=p)
        self.scale = scale_range(scale)

    def _values(self, generator: random.Random) -> tuple:
        factor = generator.uniform(*self.scale)
        margin = min(0.5, max(0.2, 1 - factor))
        centre = [generator.uniform(margin, 1 - margin) for _ in range(2)]
        offsets = [(generator.random(), generator.random()) for _ in range(4)]
        return factor, centre, offsets, generator.sample(range(4), 4)

    def mix(self, scenes: Sequence[Scene], values: tuple, *, min_visible: float, min_side: float) -> Scene:
        """See the class. `values`: factor, centre, places within the cells (all shares), who goes where."""
        factor, centre, offsets, order = values
        middle_x, middle_y = round(centre[0] * self.width), round(centre[1] * self.height)
        canvas = plain_canvas((self.height, self.width, 3), self.fill)
        parts = []
        for corner, (number, (along_x, along_y)) in enumerate(zip(order, offsets, strict=True)):
            scene = scenes[number]
            x1, y1, x2, y2 = scene.region
            width, height = max(1, round((x2 - x1) * factor)), max(1, round((y2 - y1) * factor))
            cell_x, cell_width = (middle_x, self.width - middle_x) if corner % 2 else (0, middle_x)
            cell_y, cell_height = (middle_y, self.height - middle_y) if corner >= 2 else (0, middle_y)
            left = _along(cell_width, width, along_x, at_end=corner % 2 == 0)
            top = _along(cell_height, height, along_y, at_end=corner < 2)
            view = canvas[cell_y : cell_y + cell_height, cell_x : cell_x + cell_width]
            paste(view, scene.image[y1:y2, x1:x2], (left, top, width, height))
            step = np.array([width / (x2 - x1), height / (y2 - y1)] * 2, np.float32)
            boxes = (scene.boxes - np.array([x1, y1] * 2, np.float32)) * step + np.array([left, top] * 2, np.float32)
            cut, visible, stays = cut_boxes(
                boxes, scene.visible, cell_width, cell_height, min_visible=min_visible, min_side=min_side
            )
            cut += np.array([cell_x, cell_y] * 2, np.float32)
            parts.append((cut[stays], scene.labels[stays], visible[stays]))
        boxes, labels, visible = (np.concatenate(values) for values in zip(*parts, strict=True))
        tags = np.unique(np.concatenate([scene.tags for scene in scenes]))
        return Scene(canvas, boxes, labels, visible, tags, (0, 0, self.width, self.height))


def _along(cell: int, side: int, share: float, *, at_end: bool) -> int:
    """Where a picture of `side` begins in its cell: a random part of a larger one, a smaller one at the centre."""
    if side > cell:
        return -round(share * (side - cell))
    return cell - side if at_end else 0


class MixUp(Mixing):
    """Two pictures at half strength each, with the objects of both (YOLOX: Ge et al. 2021, section 2.1)."""

    def __init__(self, *, size: tuple[int, int], fill: Sequence[int], p: float = 0.15) -> None:
        super().__init__(size=size, fill=fill, p=p)

    def mix(self, scenes: Sequence[Scene], values: tuple, *, min_visible: float, min_side: float) -> Scene:
        """See the class. Nothing is cut, so the limits have no say."""
        first, second = scenes
        regions = np.array([first.region, second.region])
        return Scene(
            image=cv2.addWeighted(first.image, 0.5, second.image, 0.5, 0),
            boxes=np.concatenate([first.boxes, second.boxes]),
            labels=np.concatenate([first.labels, second.labels]),
            visible=np.concatenate([first.visible, second.visible]),
            tags=np.union1d(first.tags, second.tags),
            region=(*regions[:, :2].min(axis=0).tolist(), *regions[:, 2:].max(axis=0).tolist()),
        )


MIXING: dict[str, type[Mixing]] = {"Mosaic4": Mosaic4, "MixUp": MixUp}
