"""Box-safe parts for Albumentations: boxes that know how much of their object is left, and scale jitter.

The library itself judges each crop alone, so that three mild crops may leave a sliver with a box, and its
erasing transforms round all boxes of the picture to whole pixels. Here each box carries the visible share of
its object through the whole pipeline.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from src.data.scene import cut_boxes, paste, plain_canvas, scale_range

VISIBLE, BOX_COLUMNS = 4, 6  # of a box inside the pipeline: x1, y1, x2, y2, visible share, the object's number


def compose(library: Any, steps: Sequence[Any], min_visible: float, min_side: float) -> Any:
    """An Albumentations pipeline whose `bboxes` are N×6: xyxy canvas pixels, visible share, number."""
    from albumentations.core.bbox_utils import BboxParams, BboxProcessor

    class VisibleBoxes(BboxProcessor):
        def check_and_convert(self, data: np.ndarray, shape: Any, direction: str = "to") -> np.ndarray:
            height, width = _size(shape)
            scale = np.array([width, height, width, height], data.dtype)
            moved = data[:, :4] / scale if direction == "to" else data[:, :4] * scale
            return np.concatenate([moved, data[:, 4:]], axis=1)

        def filter(self, data: np.ndarray, shape: Any) -> np.ndarray:
            if not len(data):
                return data
            height, width = _size(shape)
            scale = np.array([width, height, width, height], data.dtype)
            boxes, visible, stays = cut_boxes(
                data[:, :4] * scale,
                data[:, VISIBLE],
                width,
                height,
                min_visible=min_visible,
                min_side=min_side,
            )
            return np.concatenate([boxes / scale, visible[:, None], data[:, VISIBLE + 1 :]], axis=1)[stays]

    class BoxCompose(library.Compose):
        def __init__(self) -> None:
            with warnings.catch_warnings():  # that a list of colour changes alone moves no boxes
                warnings.filterwarnings("ignore", message="Got processor for bboxes")
                super().__init__(list(steps), bbox_params=BboxParams(format="pascal_voc"))
            # The library builds its own processor there and has no place to name another.
            processor = VisibleBoxes(self.processors["bboxes"].params)
            self.processors["bboxes"] = processor
            self.check_each_transform = (processor,)
            self._set_check_args_for_transforms(self.transforms)
            self._set_processors_for_transforms(self.transforms)

    return BoxCompose()


def hide(boxes: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """N×6 boxes in canvas pixels, less what `hidden` (H×W bool) covers: shares lowered, boxes drawn in.

    A box wholly covered is removed. One that is partly covered keeps the smallest box around what is left.
    """
    kept = []
    for row in boxes:
        x1, y1 = (int(v) for v in np.floor(row[:2]))
        x2, y2 = (int(v) for v in np.ceil(row[2:4]))
        seen = ~hidden[max(0, y1) : y2, max(0, x1) : x2]
        if seen.all():
            kept.append(row)
        elif seen.any():
            columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
            x1, y1, new = max(0, x1), max(0, y1), row.copy()
            new[:4] = (
                max(row[0], x1 + columns[0]),
                max(row[1], y1 + rows[0]),
                min(row[2], x1 + columns[-1] + 1),
                min(row[3], y1 + rows[-1] + 1),
            )
            new[VISIBLE] *= seen.mean()
            kept.append(new)
    return np.array(kept, boxes.dtype).reshape(-1, boxes.shape[1])


@lru_cache(maxsize=1)
def own_classes(library: Any) -> dict[str, type]:
    """Transforms of this module, and the library's erasing ones with their boxes mended, by name."""
    from albumentations.augmentations.dropout.transforms import BaseDropout

    found = {name: getattr(library, name) for name in dir(library)}
    classes = {k: v for k, v in found.items() if isinstance(v, type)}
    erasing = {k: _erasing(v) for k, v in classes.items() if issubclass(v, BaseDropout) and v is not BaseDropout}
    return {**erasing, "PixelDropout": _erasing(library.PixelDropout), "ScaleJitter": _scale_jitter(library)}


def _erasing(transform: type) -> type:
    class Erasing(transform):
        def apply_to_bboxes(self, bboxes: np.ndarray, **params: Any) -> np.ndarray:
            height, width = params["shape"][:2]
            hidden = np.zeros((height, width), bool)
            for x1, y1, x2, y2 in np.asarray(params.get("holes", ())).reshape(-1, 4).astype(int):
                hidden[y1:y2, x1:x2] = True
            dropped = params.get("drop_mask")
            if dropped is not None:  # per channel: hidden where every channel is
                hidden |= dropped.astype(bool).reshape(height, width, -1).all(axis=2)
            scale = np.ones(bboxes.shape[1], bboxes.dtype)
            scale[:4] = width, height, width, height
            return hide(bboxes * scale, hidden) / scale

    Erasing.__name__ = Erasing.__qualname__ = transform.__name__
    return Erasing


def _scale_jitter(library: Any) -> type:
    class ScaleJitter(library.DualTransform):
        """Resize by a random factor, then crop or pad to the old size at a random place.

        Large-scale jitter (Ghiasi et al. 2021, "Simple Copy-Paste", section 3) on the canvas: enlarging
        cannot bring back detail that the canvas has lost. `scale` is the range of the factor, `fill` the
        colour of the padding.
        """

        def __init__(
            self, scale: Sequence[float] = (0.5, 1.5), fill: Sequence[int] = (0, 0, 0), p: float = 1.0
        ) -> None:
            super().__init__(p=p)
            self.scale, self.fill = scale_range(scale), tuple(fill)

        def get_params_dependent_on_data(self, params: dict, data: dict) -> dict[str, Any]:
            height, width = params["shape"][:2]
            factor = self.py_random.uniform(*self.scale)
            size = max(1, round(width * factor)), max(1, round(height * factor))
            left, top = (
                round(self.py_random.random() * (old - new)) for old, new in zip((width, height), size, strict=True)
            )
            return {"target": (left, top, *size)}

        def apply(self, img: np.ndarray, target: tuple, **params: Any) -> np.ndarray:
            return paste(plain_canvas(img.shape, self.fill), img, target)

        def apply_to_mask(self, mask: np.ndarray, target: tuple, **params: Any) -> np.ndarray:
            return paste(np.zeros_like(mask), mask, target, nearest=True)

        def apply_to_bboxes(self, bboxes: np.ndarray, target: tuple, **params: Any) -> np.ndarray:
            height, width = params["shape"][:2]
            left, top, new_width, new_height = target
            out = bboxes.copy()
            out[:, :4] *= np.array([new_width / width, new_height / height] * 2)
            out[:, :4] += np.array([left / width, top / height] * 2)
            return out

    return ScaleJitter


def _size(shape: Any) -> tuple[int, int]:
    """(height, width) of either shape that the library hands about."""
    return (shape["height"], shape["width"]) if isinstance(shape, dict) else (shape[0], shape[1])
