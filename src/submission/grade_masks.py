"""Grading masks and maps of the task anomaly by the solution's masks, one image in memory at a time."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.boxes.run_length import coco_to_mask
from src.competition import Competition
from src.data.images import read_mask
from src.metrics.masks import MaskCounts, mask_panel
from src.metrics.pixel import PIXEL_METRICS, count_pixels
from src.metrics.ranking import UndefinedMetric
from src.metrics.registry import Metric
from src.submission.formats import FORMATS
from src.submission.formats.map_folder import MapFolder
from src.submission.formats.table import context_of
from src.submission.validate import read_values

if TYPE_CHECKING:
    import pandas as pd


def grade_masks(
    path: str | Path, solution: "pd.DataFrame", spec: Competition, known: dict[str, Any], metric: Metric
) -> dict[str, Any]:
    """`metric` and the panel of a valid file: `seg_f1`, `dice`, `iou` of its masks, the pixel metrics of its maps.

    A normal image without a mask in the solution has no anomalous pixel; an anomalous one without a mask counts for
    nothing here. `n_normal` and `n_anomalous` are the images that count. Where the solution has no mask at all (test
    folders that name kinds, data.mask: null) nothing can be graded: `metric` is None.

    Raises:
        ProjectError: a true mask has another size than its image.
    """
    truth = _Truth(solution)
    ids = solution["id"].tolist()
    panel: dict[str, Any] = {"n_normal": len(truth.normal), "n_anomalous": len(truth.paths)}
    if not truth.paths:
        return {"metric": None, **panel}
    if spec.submission.format == "rle":
        panel.update(mask_panel(_count_runs(path, ids, spec, known, truth)))
        return {"metric": panel.get(metric.name), **panel}
    grammar, context = FORMATS["map_folder"], context_of(spec, ids=ids, **known)
    assert isinstance(grammar, MapFolder)
    if "mask" in grammar.parts(context):
        counts = MaskCounts()
        for sample_id, _, mask in grammar.stream(path, ids, context, parts=("mask",)):
            true = truth.mask(sample_id, mask.shape)
            if true is not None:
                counts.add(mask, true, where=f"of '{sample_id}'")
        panel.update(mask_panel(counts))
    if "map" in grammar.parts(context):
        pairs = (
            None if true is None else (plane, true)
            for sample_id, _, plane in grammar.stream(path, ids, context, parts=("map",))
            for true in (truth.mask(sample_id, plane.shape),)
        )
        pixels = count_pixels(pairs)
        for name, function in PIXEL_METRICS.items():
            try:
                panel[name] = function(pixels)
            except UndefinedMetric:
                panel[name] = None
    return {"metric": panel.get(metric.name), **panel}


class _Truth:
    """The true mask of each image, read when it is asked for."""

    def __init__(self, solution: "pd.DataFrame") -> None:
        columns = zip(solution["id"], solution["label"], solution["mask"], strict=True)
        self.paths: dict[str, str] = {}
        self.normal: set[str] = set()
        for sample_id, label, path in columns:
            if isinstance(path, str):
                self.paths[sample_id] = path
            elif label == 0:
                self.normal.add(sample_id)

    def mask(self, sample_id: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """(H, W) bool; None where it is not known."""
        if sample_id in self.normal:
            return np.zeros(shape, dtype=bool)
        return read_mask(self.paths[sample_id]) != 0 if sample_id in self.paths else None


def _count_runs(
    path: str | Path, ids: list[str], spec: Competition, known: dict[str, Any], truth: _Truth
) -> MaskCounts:
    counts = MaskCounts()
    values = read_values(path, spec, ids, **known)
    for sample_id in ids:
        size = known["sizes"].get(sample_id)  # unknown for an image that cannot be read: its mask is then empty
        true = truth.mask(sample_id, (1, 1) if size is None else (size[1], size[0]))
        if true is None:
            continue
        union = np.zeros(true.shape if size is None else (size[1], size[0]), dtype=bool)
        for text in values[sample_id].masks or ():
            union |= coco_to_mask(text, size)
        counts.add(union, true, where=f"of '{sample_id}'")
    return counts
