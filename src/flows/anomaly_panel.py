"""From predictions and truth to the threshold and the figures of metrics.json; one code for OOF and for grading."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.data.images import check_mask_size, read_mask, read_size
from src.data.transforms import PreprocessSpec
from src.flows.anomaly_decision import Decision
from src.flows.anomaly_masks import mask_value
from src.flows.anomaly_scores import categories_of
from src.metrics.anomaly import evaluate_anomaly
from src.metrics.registry import get_metric
from src.predictions import read_map

DECIDED = ("f1", "macro_f1", "accuracy", "balanced_accuracy", "precision", "recall")


def check_masks(rows: pd.DataFrame) -> None:
    """Compare each mask's size with its image's, from the files' headers, before anything is trained.

    Raises:
        ProjectError: a mask is of another size; names both files.
    """
    for row in rows[rows["mask"].notna()].itertuples():
        check_mask_size(read_size(row.mask), read_size(row.path), mask=row.mask, image=row.path)


def join_truth(predictions: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Predictions with `label`, `mask` and `path` of the truth, joined by id; rows of unknown label are dropped."""
    known = truth[[name for name in ("id", "label", "mask", "path") if name in truth]]
    joined = predictions.merge(known, on="id", how="inner", validate="one_to_one")
    return joined[joined["label"].notna()].reset_index(drop=True)


def evaluate(
    predictions: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    metric: str,
    decision: Decision,
    folder: Path,
    spec: PreprocessSpec,
) -> dict[str, Any]:
    """The anomaly panel for the rows whose truth is known, the competition's own value first.

    Pixel figures are computed on the model's canvas, where the maps lie: masks are laid on it as the images were.

    Args:
        predictions: rows of the prediction store; `map` paths are relative to `folder`.
        truth: `id`, `label` (0, 1 or missing), `mask` (absolute path or None).
        decision: what calls an image anomalous.
        spec: the model's preprocessing, which says how masks come onto its canvas.
    """
    rows = join_truth(predictions, truth)
    if rows.empty:
        return {}
    scores = rows["score"].to_numpy(np.float64)
    labels = rows["label"].to_numpy(np.int64)
    with_pixels = rows["mask"].notna().any() and rows["map"].notna().any()

    def maps() -> Iterator[np.ndarray | None]:
        for name in rows["map"]:
            yield read_map(folder, name) if isinstance(name, str) else None

    def masks() -> Iterator[np.ndarray | None]:
        for path in rows["mask"]:
            yield read_mask(path, spec=spec) if isinstance(path, str) else None

    called = decision.anomalous(scores, categories_of(rows["id"], truth.set_index("id")))
    threshold = None if decision.threshold is None else decision.threshold.value
    panel = evaluate_anomaly(
        scores,
        labels,
        threshold=threshold,
        maps=maps() if with_pixels else None,
        masks=masks() if with_pixels else None,
        ids=rows["id"].tolist(),
    )
    if decision.category_thresholds is not None:
        panel |= {name: get_metric(name).value(called, labels) for name in DECIDED}
    own = get_metric(metric)
    if own.needs == "mask":
        value = mask_value(rows, own.name, decision.pixel_threshold, folder, spec)
    elif own.needs == "label":
        value = None if called is None else own.value(called, labels)
    else:
        value = panel.get(own.name) if own.needs == "map" else own.value(scores, labels)
    return {"metric": value, **panel}
