"""Count metrics: how far predicted numbers of objects are from the true ones.

Counts are (N, C): a row an image, a column a class. A cell is one count of one class in one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from src.errors import ProjectError
from src.metrics.ranking import UndefinedMetric

TIERS = (1.0, 0.5)  # credit for a count that is right, and for one that is off by one; 0 beyond


def count_mae(predicted: Any, truth: Any) -> float:
    """Mean absolute error over all cells. Raises as `check_counts` does."""
    predicted, truth = check_counts(predicted, truth)
    return float(np.abs(predicted - truth).mean())


def count_rmse(predicted: Any, truth: Any) -> float:
    """Root of the mean squared error over all cells. Raises as `check_counts` does."""
    predicted, truth = check_counts(predicted, truth)
    return float(np.sqrt(np.square(predicted - truth).mean()))


def count_rmse_columns(predicted: Any, truth: Any) -> float:
    """RMSE of each class, averaged over the classes (as of the NOAA sea lion count). Raises as `check_counts`."""
    predicted, truth = check_counts(predicted, truth)
    return float(np.sqrt(np.square(predicted - truth).mean(axis=0)).mean())


def count_exact(predicted: Any, truth: Any) -> float:
    """Share of cells (one class of one image) that are right. Fractions are rounded to the nearest whole.

    Raises as `check_counts` does.
    """
    predicted, truth = check_counts(predicted, truth)
    return float((whole(predicted) == truth).mean())


def count_exact_image(predicted: Any, truth: Any) -> float:
    """Share of images with every class right; equals `count_exact` where there is one class. Raises likewise."""
    predicted, truth = check_counts(predicted, truth)
    return float((whole(predicted) == truth).all(axis=1).mean())


def count_tiered(predicted: Any, truth: Any, *, tiers: Sequence[float] = TIERS) -> float:
    """Mean credit over cells: tiers[d] for a count that is off by d, 0 beyond the last. Raises as `check_counts`."""
    predicted, truth = check_counts(predicted, truth)
    off = np.abs(whole(predicted) - truth).astype(np.int64)
    return float(np.append(np.asarray(tiers, float), 0.0)[np.minimum(off, len(tiers))].mean())


# In the order of the panel.
COUNT_METRICS = {
    "count_mae": count_mae,
    "count_rmse": count_rmse,
    "count_rmse_columns": count_rmse_columns,
    "count_exact": count_exact,
    "count_exact_image": count_exact_image,
    "count_tiered": count_tiered,
}


def count_metrics(
    predicted: Any, truth: Any, *, classes: Sequence[str], tiers: Sequence[float] = TIERS
) -> dict[str, Any]:
    """The whole panel, and per_class: {name: {count_mae, count_rmse, count_exact, count_tiered, n}}, n objects.

    Raises:
        ProjectError: as `check_counts`, or another number of columns than classes.
        UndefinedMetric: there are no images or no classes.
    """
    predicted, truth = check_counts(predicted, truth)
    if truth.shape[1] != len(classes):
        raise ProjectError(f"counts have {truth.shape[1]} columns but there are {len(classes)} classes.")
    result: dict[str, Any] = {
        name: function(predicted, truth, tiers=tiers) if name == "count_tiered" else function(predicted, truth)
        for name, function in COUNT_METRICS.items()
    }
    result["per_class"] = {
        str(name): {
            "count_mae": count_mae(predicted[:, [index]], truth[:, [index]]),
            "count_rmse": count_rmse(predicted[:, [index]], truth[:, [index]]),
            "count_exact": count_exact(predicted[:, [index]], truth[:, [index]]),
            "count_tiered": count_tiered(predicted[:, [index]], truth[:, [index]], tiers=tiers),
            "n": int(truth[:, index].sum()),
        }
        for index, name in enumerate(classes)
    }
    return result


def whole(counts: np.ndarray) -> np.ndarray:
    """Counts as whole numbers: the nearest, halves up."""
    return np.floor(counts + 0.5)


def check_counts(predicted: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as (N, C) float64; (N,) is taken as one class.

    Raises:
        ProjectError: shapes differ, or a count is negative, not finite or (in the truth) not whole; names the cell.
        UndefinedMetric: there are no cells.
    """
    arrays = []
    for what, counts in (("predicted", predicted), ("true", truth)):
        try:
            array = np.asarray(counts, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ProjectError(f"{what} counts must be numbers: {error}") from error
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2:
            raise ProjectError(f"{what} counts must be a table of images and classes, found shape {array.shape}.")
        bad = ~(np.isfinite(array) & (array >= 0))
        if what == "true":
            bad |= np.nan_to_num(array) != np.round(np.nan_to_num(array))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            kind = "a whole number of 0 or more" if what == "true" else "a number of 0 or more"
            raise ProjectError(
                f"the {what} count of row {row}, class {column} is {array[row, column]}; expected {kind}."
            )
        arrays.append(array)
    if arrays[0].shape != arrays[1].shape:
        raise ProjectError(f"predicted counts have shape {arrays[0].shape}, true ones {arrays[1].shape}.")
    if not arrays[1].size:
        raise UndefinedMetric("there are no counts to measure.")
    return arrays[0], arrays[1]
