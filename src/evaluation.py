"""From predictions and truth to the threshold and the figures of metrics.json; the same code for OOF and for grading."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.calibration import Threshold, tune_threshold
from src.metrics.anomaly import evaluate_anomaly
from src.metrics.registry import get_metric


def join_truth(predictions: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Predictions with `label`, `mask` and `target` of the truth beside them, joined by id; unknown rows are dropped."""
    columns = [c for c in ("id", "label", "mask", "target") if c in truth]
    joined = predictions.merge(truth[columns], on="id", how="inner", validate="one_to_one")
    return joined[joined["label"].notna()].reset_index(drop=True)


def choose_threshold(oof: pd.DataFrame, truth: pd.DataFrame, metric: str, target_false_alarm: float) -> Threshold | None:
    """The decision threshold from out-of-fold scores; None when no training row was held out. Never sees test rows."""
    rows = join_truth(oof, truth)
    if rows.empty:
        return None
    scores = rows["score"].to_numpy(np.float64)
    labels = rows["label"].to_numpy(np.int64)
    return tune_threshold(scores, labels, metric, target_false_alarm=target_false_alarm)


def evaluate(
    predictions: pd.DataFrame, truth: pd.DataFrame, *, metric: str, threshold: float | None, folder: Path
) -> dict[str, Any]:
    """All figures of the anomaly panel for the rows whose truth is known, with the competition's own value first.

    Pixel figures are computed at the maps' resolution, masks resized to it, over the rows that are normal or have a
    mask; a defect without a mask would count its own pixels as false alarms.

    Args:
        predictions: rows of the prediction store; `map` paths are relative to `folder`.
        truth: `id`, `label` (0, 1 or missing), `mask` (absolute path or None).
    """
    rows = join_truth(predictions, truth)
    if rows.empty:
        return {}
    scores = rows["score"].to_numpy(np.float64)
    labels = rows["label"].to_numpy(np.int64)
    maps, masks = _maps_and_masks(rows, folder)
    panel = evaluate_anomaly(scores, labels, threshold=threshold, maps=maps, masks=masks)
    return {"metric": own_metric(scores, labels, metric, threshold), **panel}


def own_metric(scores: np.ndarray, labels: np.ndarray, name: str, threshold: float | None) -> float | None:
    """The competition's metric on these rows; None where it is undefined (one class, or no threshold)."""
    from src.metrics.registry import UndefinedMetric

    metric = get_metric(name)
    try:
        if metric.needs == "score":
            return float(metric.function(scores, labels))
        if metric.needs == "label" and threshold is not None:
            return float(metric.function((scores >= threshold).astype(np.int64), labels))
    except UndefinedMetric:
        return None
    return None


def _maps_and_masks(rows: pd.DataFrame, folder: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    from src.data.images import read_mask

    usable = rows[(rows["label"] == 0) | rows["mask"].notna()]
    if usable["map"].isna().any() or not usable["mask"].notna().any():
        return None, None
    maps = np.stack([np.load(folder / name) for name in usable["map"]])
    height, width = maps.shape[1:]
    masks = np.zeros(maps.shape, dtype=np.uint8)
    for index, path in enumerate(usable["mask"]):
        if isinstance(path, str):
            masks[index] = read_mask(path, size=(height, width))
    return maps, masks


def threshold_record(threshold: Threshold | None) -> dict[str, Any] | None:
    """The threshold as metrics.json keeps it."""
    return None if threshold is None else asdict(threshold)
