"""What every task's predict_step answers, one batch at a time, and the prediction rows that it becomes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from src.boxes.types import Detections
from src.captions.decoding import Candidate


class PredictionBatch(NamedTuple):
    """Raw anomaly answers for a batch, on the CPU, higher is more anomalous.

    `ids` are the sample ids in batch order, `scores` is (B,) float32, `maps` is (B, 1, H, W) float32 at
    the network's input size, or None for a model that draws no map. `probs` are (B, C) of the model's classes, or None.
    """

    ids: list[str]
    scores: Tensor
    maps: Tensor | None
    probs: Tensor | None = None

    def rows(self, keep_map: Callable[[int, np.ndarray], str]) -> list[dict[str, Any]]:
        """Rows of the prediction store without `fold`; `keep_map(index, (H, W) map)` writes a map and names it."""
        return [
            {
                "id": name,
                "score": score,
                "probs": None if self.probs is None else self.probs[index].tolist(),
                "map": None if self.maps is None else keep_map(index, self.maps[index, 0].numpy()),
            }
            for index, (name, score) in enumerate(zip(self.ids, self.scores.tolist(), strict=True))
        ]


class DetectionBatch(NamedTuple):
    """Detections of a batch in pixels of the whole original images.

    `sizes` are (width, height) of what was looked at: the image, or its tile where `windows` are tiles. `windows` are
    (x1, y1, x2, y2) of the original image, None where samples are whole images.
    """

    ids: list[str]
    sizes: list[tuple[int, int]]
    detections: list[Detections]
    windows: list[tuple[int, int, int, int]] | None = None

    def rows(self, keep_map: Callable[[int, np.ndarray], str]) -> list[dict[str, Any]]:
        """Rows of the prediction store without `fold`; with `window` where samples are tiles."""
        found = []
        for index, (name, (width, height), each) in enumerate(zip(self.ids, self.sizes, self.detections, strict=True)):
            row = {"id": name, "width": width, "height": height, **row_of(each)}
            found.append(row if self.windows is None else {**row, "window": self.windows[index]})
        return found


class CaptionBatch(NamedTuple):
    """Candidates of each image, best first, different and none empty.

    `image_scores` are one list an image, a number a candidate, or None without a scorer. `flags` are words about how
    an image's candidates came to be: "retried" where the first decoding gave nothing that could stand.
    """

    ids: list[str]
    candidates: list[list[Candidate]]
    image_scores: list[list[float]] | None
    flags: list[list[str]]

    def rows(self, keep_map: Callable[[int, np.ndarray], str]) -> list[dict[str, Any]]:
        """Rows of the prediction store without `fold`."""
        return [
            {
                "id": name,
                "candidates": [candidate.text for candidate in found],
                "candidate_scores": [float(candidate.score) for candidate in found],
                "image_scores": None if self.image_scores is None else self.image_scores[index],
                "flags": self.flags[index] or None,
            }
            for index, (name, found) in enumerate(zip(self.ids, self.candidates, strict=True))
        ]


def row_of(detections: Detections) -> dict[str, Any]:
    """The columns `boxes`, `scores`, `labels` and `masks` of a prediction row."""
    return {
        "boxes": detections.boxes.tolist(),
        "scores": detections.scores.tolist(),
        "labels": detections.labels.tolist(),
        "masks": None if detections.masks is None else list(detections.masks),
    }
