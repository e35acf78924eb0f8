"""Mirroring a captioned picture: left and right change places in the picture and in its captions."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from src.captions.sides import swap_sides

NAME = "MirrorWithWords"
# of the library: what puts the left side of a picture to the right and knows nothing of captions
PLAIN = ("HorizontalFlip", "D4", "SquareSymmetry", "Transpose", "RandomRotate90")


class MirrorWithWords:
    """With probability `p`, mirrors `image` and `mask` and swaps the sides that `captions` name."""

    def __init__(self, *, p: float = 0.5) -> None:
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
            raise ValueError(f"p must be a number, 0 to 1, not {p!r}")
        self.p = float(p)

    def __call__(self, generator: random.Random, targets: dict[str, Any]) -> dict[str, Any]:
        if generator.random() >= self.p:
            return targets
        mirrored = {name: np.ascontiguousarray(targets[name][:, ::-1]) for name in ("image", "mask") if name in targets}
        if "captions" in targets:
            mirrored["captions"] = [swap_sides(text) for text in targets["captions"]]
        return targets | mirrored
