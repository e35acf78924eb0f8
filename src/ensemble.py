"""Blending the predictions of several runs, for each task in the way that its scores allow."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.calibration.scales import Method, check_method, fit_scale, reference_rank
from src.errors import ProjectError
from src.predictions import read_map, write_map

if TYPE_CHECKING:
    import pandas as pd


def blend_anomaly(
    frames: "Sequence[pd.DataFrame]",
    *,
    method: Method = "rank",
    weights: Sequence[float] | None = None,
    reference: "Sequence[pd.DataFrame] | None" = None,
    normal: Sequence[Any] | None = None,
) -> "pd.DataFrame":
    """One prediction table from several runs' tables of the same rows, in the row order of the first.

    Each run's scores are put on a scale fixed by its own out-of-fold scores, `reference`, and averaged: by `rank`,
    `mean` (z-score), `robust_z` or `tail` (see `src.calibration.scales.fit_scale`). Blend the out-of-fold tables with
    themselves as reference and the test tables with the same one: a threshold tuned on the first then holds for the
    second, and no test statistics are used.

    Without `reference`, rank takes ranks within the table, in (0, 1), ties sharing their middle rank: a row's
    blended score then depends on the others, fine for a ranking metric, but no threshold carries over. mean averages
    the scores themselves, for runs of one model on one scale. robust_z and tail need references.

    Args:
        weights: one a run, non-negative; they are divided by their sum.
        reference: one out-of-fold table a run, in the order of `frames`.
        normal: one bool array a reference table, which of its rows are known to be normal; robust_z and tail are
            set by those. None: by all rows.

    `probs` are averaged over the runs that have them for a row, with their weights; a run without them takes part
    through its score alone. Classes are paired by name (metadata `class_names`), in the order of the first run that
    has any. Maps are not blended: the `map` column of the result is None.

    Raises:
        ProjectError: no table, rows that one run has and another lacks (named), runs whose probabilities are of
            other classes (named), a wrong number of weights or references, or an unknown method.
    """
    import pandas as pd

    scaled = scaled_scores(frames, method=method, reference=reference, normal=normal)
    share = shares_of(weights, len(frames))
    stack, class_names = stacked_probs(frames)
    probs = [None] * len(frames[0]) if stack is None else mean_probs(stack, share).tolist()
    first = frames[0]
    blended = pd.DataFrame(
        {
            "id": first["id"].to_numpy(),
            "fold": first["fold"].to_numpy(),
            "score": mixed(scaled, share),
            "probs": _objects([row if row and row[0] == row[0] else None for row in probs]),
            "map": _objects([None] * len(first)),
        }
    )
    blended.attrs["metadata"] = {"task": "anomaly", "runs": run_names(frames), "class_names": class_names}
    return blended


def scaled_scores(
    frames: "Sequence[pd.DataFrame]",
    *,
    method: Method = "rank",
    reference: "Sequence[pd.DataFrame] | None" = None,
    normal: Sequence[Any] | None = None,
) -> np.ndarray:
    """(runs, N) scores of each run on the blend's scale, rows in the first table's order; see `blend_anomaly`."""
    if not frames:
        raise ProjectError("there is nothing to blend: give one run or more (runs=[…]).")
    check_method(method)
    for tables, what in ((reference, "reference tables"), (normal, "arrays of normal rows")):
        if tables is not None and len(tables) != len(frames):
            raise ProjectError(f"{len(frames)} runs but {len(tables)} {what}: give one a run.")
    values = np.stack([frame["score"].to_numpy(np.float64) for frame in _aligned(frames)])
    if reference is None:
        if method not in ("rank", "mean"):
            raise ProjectError(
                f"blending by {method} needs the runs' out-of-fold scores: pass reference=…, or use rank."
            )
        return np.stack([reference_rank(row, row) for row in values]) if method == "rank" else values
    known = [_reference_scores(frame, _name(frames[index], index)) for index, frame in enumerate(reference)]
    marks = [None] * len(frames) if normal is None else normal
    return np.stack(
        [
            fit_scale(method, scores, normal=mark).apply(row)
            for row, scores, mark in zip(values, known, marks, strict=True)
        ]
    )


def mixed(scaled: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(N,) weighted sum of (runs, N) scores. Added in one order, so that a row's last digit is its own affair: a
    matrix product's depends on how many rows there are, and would break ties of ranks here and not there."""
    total = np.zeros(scaled.shape[1])
    for row, weight in zip(scaled, share, strict=True):
        total += weight * row
    return total


def stacked_probs(frames: "Sequence[pd.DataFrame]") -> tuple[np.ndarray | None, list[str] | None]:
    """((runs, N, C) probabilities, class names), rows and classes in the first table's order; see `blend_anomaly`.

    NaN where a run has none for a row; None where no run has any. Names are None where no run says them.
    """
    names = run_names(frames)
    columns = [frame["probs"].tolist() if "probs" in frame else [None] * len(frame) for frame in _aligned(frames)]
    classes = [frame.attrs.get("metadata", {}).get("class_names") for frame in frames]
    having = [index for index, cells in enumerate(columns) if any(cell is not None for cell in cells)]
    if not having:
        return None, next((own for own in classes if own), None)
    first = classes[having[0]]
    width = len(first) if first else len(next(cell for cell in columns[having[0]] if cell is not None))
    stack = np.full((len(frames), len(columns[0]), width), np.nan)
    for index in having:
        own = classes[index]
        if own != first and (first is None or own is None or sorted(own) != sorted(first)):
            raise ProjectError(_other_classes(names[having[0]], first, names[index], own))
        rows = np.array([cell is not None for cell in columns[index]], dtype=bool)
        cells = [cell for cell in columns[index] if cell is not None]
        if {len(cell) for cell in cells} != {width}:
            raise ProjectError(
                f"{names[index]} has rows that are not of {width} probabilities, one a class. Predict again."
            )
        order = slice(None) if own == first else [own.index(name) for name in first]
        stack[index, rows] = np.array(cells, dtype=np.float64)[:, order]
    return stack, first


def mean_probs(stack: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(N, C) mean of (runs, N, C) probabilities over the runs that have them, by their (runs,) weights; else NaN."""
    weight = np.where(np.isnan(stack[:, :, 0]), 0.0, share[:, None])
    total = (weight[:, :, None] * np.nan_to_num(stack)).sum(axis=0)
    weight = weight.sum(axis=0)[:, None]
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)


def run_names(frames: "Sequence[pd.DataFrame]") -> list[str]:
    """The runs that tables say they are from, for messages and tables."""
    return [_name(frame, index) for index, frame in enumerate(frames)]


def average_folds(frames: "Sequence[pd.DataFrame]", folder: str | Path) -> "pd.DataFrame":
    """One table from the tables that the folds of one run predicted for the same test images.

    Raw scores are averaged (one model on one scale), and so are the maps where every fold has them: read from
    `folder` / their `map` cell, written to `folder`/maps/mean_<row>.npy one by one. A single table is
    returned as it is.

    Raises:
        ProjectError: rows that one fold has and another lacks, maps of different sizes, an unreadable map.
    """
    if len(frames) == 1:
        return frames[0]
    blended = blend_anomaly(frames, method="mean")
    columns = [frame["map"].tolist() for frame in _aligned(frames)]
    averaged: list[str | None] = []
    for row, cells in enumerate(zip(*columns, strict=True)):
        if any(cell is None for cell in cells):
            averaged.append(None)
            continue
        maps = [read_map(folder, cell) for cell in cells]
        shapes = sorted({plane.shape for plane in maps})
        if len(shapes) > 1:
            sample = blended["id"].iloc[row]
            raise ProjectError(f"the folds' anomaly maps of '{sample}' differ in size: {shapes}. Predict again.")
        averaged.append(write_map(folder, f"mean_{row:06d}", np.mean(maps, axis=0, dtype=np.float32)))
    blended["map"] = _objects(averaged)
    blended.attrs = dict(frames[0].attrs)
    return blended


def shares_of(weights: Sequence[float] | None, count: int) -> np.ndarray:
    """(count,) weights of the runs as shares of 1; equal ones where None.

    Raises:
        ProjectError: another number of weights than of runs, or weights that are negative, not finite or all 0.
    """
    share = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    if share.shape != (count,):
        raise ProjectError(f"{count} runs but {share.size} weights: give one for each run (weights=[…]).")
    if not np.isfinite(share).all() or (share < 0).any() or not share.sum():
        raise ProjectError(f"weights={share.tolist()}: give finite numbers, not negative (at least 0), and not all 0.")
    return share / share.sum()


def _objects(values: list[Any]) -> "pd.Series":
    """A column that keeps None as None, in pandas 2 and 3 alike."""
    import pandas as pd

    return pd.Series(values, dtype=object)


def _name(frame: "pd.DataFrame", index: int) -> str:
    """The run that a table says it is from, for messages."""
    return str(frame.attrs.get("metadata", {}).get("run") or frame.attrs.get("path") or f"table {index + 1}")


def _aligned(frames: "Sequence[pd.DataFrame]") -> "list[pd.DataFrame]":
    """The tables, rows in the first one's order. Ids alone pair up, since runs may have drawn other folds."""
    keyed = [frame.set_index("id", drop=False) for frame in frames]
    first, first_name = keyed[0].index, _name(frames[0], 0)
    for index, frame in enumerate(keyed):
        name = _name(frames[index], index)
        if not frame.index.is_unique:
            twice = frame.index[frame.index.duplicated()][0]
            raise ProjectError(f"{name} has id '{twice}' more than once. Blend tables of one row an image.")
        lacks = [
            f"{name_of} lacks {len(ids)} rows of {other}: {', '.join(repr(i) for i in ids[:5])}"
            for ids, name_of, other in (
                (first.difference(frame.index), name, first_name),
                (frame.index.difference(first), first_name, name),
            )
            if len(ids)
        ]
        if lacks:
            raise ProjectError(
                f"{'; '.join(lacks)}. Blended runs must predict the same images: choose runs of one "
                "competition with the same held-out rows (folds=, fold=, seed=)."
            )
    return [frame.loc[first].reset_index(drop=True) for frame in keyed]


def _reference_scores(frame: "pd.DataFrame", run: str) -> np.ndarray:
    scores = frame["score"].to_numpy(np.float64)
    if not len(scores):
        raise ProjectError(f"{run} has no out-of-fold predictions to refer to. Train it with data.holdout=0.2.")
    if (frame["fold"] < 0).any():
        raise ProjectError(f"the reference of {run} has test rows (fold -1); pass its predictions/oof.parquet.")
    return scores


def _other_classes(run: str, first: Sequence[str] | None, other: str, own: Sequence[str] | None) -> str:
    if first is None or own is None:
        return f"{run if first is None else other} does not say which classes its probabilities are of. Predict again."
    differing = [
        f"only {name} has {', '.join(repr(c) for c in sorted(classes)[:5])}"
        for name, classes in ((run, set(first) - set(own)), (other, set(own) - set(first)))
        if classes
    ]
    return (
        f"{run} and {other} predict other classes: {'; '.join(differing)}. Blend runs of the same classes "
        "(model.classes=…), or leave one out."
    )
