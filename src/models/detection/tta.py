"""Test-time augmentation of detectors: mirrored and rescaled views of a batch, and their boxes fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from src.boxes.fusion import fuse
from src.boxes.types import Detections
from src.errors import ProjectError

Inverse = Callable[[Tensor], Tensor]


def views(
    images: Tensor, *, flip: bool = False, scales: Sequence[float] = (1.0,), stride: int = 32
) -> list[tuple[Tensor, Inverse]]:
    """Each scale of `images` (B×3×H×W, normalised), with `flip` also mirrored left to right.

    A scale other than 1 changes the tensor's size: the detector must take its sizes from the tensor. An inverse
    maps (M, 4) xyxy boxes in pixels of the view to pixels of `images`.

    Raises:
        ProjectError: no scale, or one outside 0.25 to 4.
    """
    if not len(scales):
        raise ProjectError("tta.scales is empty; [1.0] looks at the pictures as they are")
    out: list[tuple[Tensor, Inverse]] = []
    for scale in dict.fromkeys(scales):
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0.25 <= scale <= 4:
            raise ProjectError(f"tta.scales must be numbers from 0.25 to 4, not {scale!r}")
        scaled, unscale = scale_batch(images, scale, stride=stride)
        out.append((scaled, unscale))
        if flip:
            mirrored, unflip = flip_batch(scaled)
            out.append((mirrored, _chain(unflip, unscale)))
    return out


def flip_batch(images: Tensor) -> tuple[Tensor, Inverse]:
    """B×3×H×W mirrored left to right, and the inverse for (M, 4) xyxy boxes."""
    width = images.shape[3]

    def inverse(boxes: Tensor) -> Tensor:
        x1, y1, x2, y2 = boxes.unbind(dim=1)
        return torch.stack([width - x2, y1, width - x1, y2], dim=1)

    return images.flip(3), inverse


def scale_batch(images: Tensor, scale: float, *, stride: int = 32) -> tuple[Tensor, Inverse]:
    """B×3×H×W resized (bilinear, antialiased), and the inverse for (M, 4) xyxy boxes.

    The new sides are the multiples of `stride` nearest to scale × side, as pyramids want them; each side is
    taken back by its own factor.
    """
    height, width = images.shape[2:]
    if scale == 1:
        return images, lambda boxes: boxes
    size = [max(stride, round(side * scale / stride) * stride) for side in (height, width)]
    resized = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
    back = (width / size[1], height / size[0]) * 2
    return resized, lambda boxes: boxes * boxes.new_tensor(back)


def merge_views(
    parts: Sequence[tuple[Sequence[dict[str, Tensor]], Inverse]], *, canvas: tuple[int, int], iou: float
) -> list[dict[str, Tensor]]:
    """What a detector found in each view, with the view's inverse → its answers for the batch.

    Boxes are fused across views (`src.boxes.fusion.fuse`, weighted): a box that few views show loses score.
    `canvas` is (height, width). Answers have `boxes`, `scores`, `labels` on the CPU, surest first; masks are
    dropped, for an averaged box has none.
    """
    height, width = canvas
    edges = torch.tensor([width, height, width, height])
    answers = []
    for number in range(len(parts[0][0])):
        found = []
        for detected, inverse in parts:
            one = detected[number]
            boxes = inverse(one["boxes"].float()).cpu().clamp(min=0).minimum(edges)
            found.append(Detections(boxes.numpy(), one["scores"].float().cpu().numpy(), one["labels"].cpu().numpy()))
        whole = fuse(found, size=(width, height), iou=iou)
        answers.append(
            {
                "boxes": torch.tensor(whole.boxes, dtype=torch.float32),
                "scores": torch.tensor(whole.scores, dtype=torch.float32),
                "labels": torch.tensor(whole.labels),
            }
        )
    return answers


def _chain(first: Inverse, second: Inverse) -> Inverse:
    return lambda boxes: second(first(boxes))
