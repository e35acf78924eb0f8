"""Boxes of several folds or runs as one table: weighted boxes fusion per image, scores calibrated between runs."""

from collections.abc import Sequence

import pandas as pd

from src.boxes.calibration import ScoreCalibration
from src.boxes.fusion import fuse
from src.boxes.nms import nms
from src.errors import ProjectError
from src.flows.detection_panel import detections_of, pair, sizes_of


def fused(
    frames: Sequence[pd.DataFrame],
    *,
    iou: float,
    method: str = "wbf",
    weights: Sequence[float] | None = None,
    calibrations: Sequence[ScoreCalibration] | None = None,
) -> pd.DataFrame:
    """One table from several of the same images, boxes fused per image; a single table is returned as it is.

    Raises:
        ProjectError: rows that one table has and another lacks, or a wrong number of weights.
    """
    if len(frames) == 1:
        return frames[0]
    if weights is not None and len(weights) != len(frames):
        raise ProjectError(f"{len(frames)} runs but {len(weights)} weights: give one weight a run.")
    first = frames[0]
    parts = []
    for index, frame in enumerate(frames):
        indexed = frame.set_index("id", drop=False)
        if set(indexed.index) != set(first["id"]):
            odd = sorted(set(indexed.index) ^ set(first["id"]))[:5]
            raise ProjectError(f"the tables hold different images, as {', '.join(map(repr, odd))}. Predict again.")
        # One box an object from each: a repeated, unsure one would pull the average of its cluster down.
        found = [nms(each, iou=iou) for each in detections_of(indexed.loc[first["id"]])]
        parts.append([calibrations[index].apply(each) for each in found] if calibrations else found)
    rows = []
    for position, (identifier, fold, size) in enumerate(zip(first["id"], first["fold"], sizes_of(first), strict=True)):
        whole = fuse([part[position] for part in parts], size=size, method=method, iou=iou, weights=weights)
        row = {"boxes": whole.boxes.tolist(), "scores": whole.scores.tolist(), "labels": whole.labels.tolist()}
        rows.append({"id": identifier, "fold": fold, "width": size[0], "height": size[1], **row, "masks": None})
    result = pd.DataFrame(rows, columns=list(first.columns))
    result.attrs = dict(first.attrs)
    return result


def fusion_method(name: str | None) -> str:
    """How boxes of several runs become one: `rank` and `mean` are for scores, so they are no choice here."""
    if name in (None, "wbf", "nms", "soft_nms"):
        return name or "wbf"
    raise ProjectError(f"blend={name} blends scores; for boxes choose blend=wbf, nms or soft_nms.")


def calibration_of(rows: pd.DataFrame, train: pd.DataFrame, n_classes: int) -> ScoreCalibration:
    """From a run's scores to the chance of being right, fitted on its own OOF rows."""
    paired = pair(rows, train)
    return ScoreCalibration.fit(paired.found, paired.boxes or [], n_classes)
