"""Blending the predictions of several runs, for each task in the way that its scores allow."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from src.errors import ProjectError
from src.predictions import read_map, write_map

if TYPE_CHECKING:
    import pandas as pd


def blend_anomaly(
    frames: "Sequence[pd.DataFrame]",
    *,
    method: Literal["rank", "mean"] = "rank",
    weights: Sequence[float] | None = None,
    reference: "Sequence[pd.DataFrame] | None" = None,
) -> "pd.DataFrame":
    """One prediction table from several runs' tables of the same rows, in the row order of the first.

    rank: each run's scores become ranks in (0, 1), ties sharing their middle rank, and the ranks are
        averaged; runs whose scores live on different scales blend well so. Without `reference` ranks are
        taken within the table, so a row's blended score depends on the others: fine for a ranking metric, but
        no threshold carries over.
    mean: the scores themselves are averaged; for runs of one model on one scale.
    reference: one out-of-fold table a run, in the order of `frames`. Each run is then put on a scale fixed by
        its own out-of-fold scores: `rank` by their distribution function (see `reference_rank`), `mean` by
        their mean and standard deviation. Blend the out-of-fold tables with themselves as reference and the
        test tables with the same one: a threshold tuned on the first then holds for the second, and no test
        statistics are used.

    `weights` are one a run, non-negative; they are divided by their sum. `probs` are averaged where every run
    has them. Maps are not blended: the `map` column of the result is None.

    Raises:
        ProjectError: no table, rows that one run has and another lacks (named), a wrong number of weights or
            references, or an unknown method.
    """
    import pandas as pd

    if not frames:
        raise ProjectError("there is nothing to blend: give one run or more (runs=[…]).")
    if method not in ("rank", "mean"):
        raise ProjectError(f"blending method '{method}' is not known; choose rank or mean.")
    share = shares_of(weights, len(frames))
    if reference is not None and len(reference) != len(frames):
        raise ProjectError(f"{len(frames)} runs but {len(reference)} reference tables: give one a run.")
    aligned = _aligned(frames)

    score = np.zeros(len(aligned[0]))
    for index, (frame, weight) in enumerate(zip(aligned, share, strict=True)):
        values = frame["score"].to_numpy(np.float64)
        name = _name(frames[index], index)
        known = None if reference is None else _reference_scores(reference[index], name)
        score += weight * (_ranked(values, known) if method == "rank" else _standardised(values, known))
    classes = [frame.attrs.get("metadata", {}).get("class_names") for frame in frames]
    first = aligned[0]
    blended = pd.DataFrame(
        {
            "id": first["id"].to_numpy(),
            "fold": first["fold"].to_numpy(),
            "score": score,
            "probs": _objects(_blended_probs(aligned, share, classes)),
            "map": _objects([None] * len(first)),
        }
    )
    blended.attrs["metadata"] = {
        "task": "anomaly",
        "runs": [_name(frame, index) for index, frame in enumerate(frames)],
        "class_names": classes[0],
    }
    return blended


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


def reference_rank(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Place (N,) scores on the distribution function of reference scores, strictly rising: no order is lost.

    Between reference scores the function is interpolated. A plain one would be flat beyond them, and where
    the references are normal images that is just where the anomalies are: all of them would tie. So beyond
    the highest reference the value rises on, from about 1 towards 2 (below the lowest, from about 0 towards
    -1), at first with the slope of the line from the median to that end. It stays bounded, so that one run's
    outlier does not decide a blend.
    """
    values, counts = np.unique(np.asarray(reference, dtype=np.float64), return_counts=True)
    n = counts.sum()
    middle = (np.cumsum(counts) - counts / 2) / n
    rank = np.interp(scores, values, middle)
    median = np.median(reference)
    high, low = scores > values[-1], scores < values[0]
    rank[high] = middle[-1] + _tail((scores[high] - values[-1]) / (2 * _spread(values[-1] - median, values)))
    rank[low] = middle[0] - _tail((values[0] - scores[low]) / (2 * _spread(median - values[0], values)))
    return rank


def _tail(distance: np.ndarray) -> np.ndarray:
    return distance / (1 + distance)


def _spread(distance: float, values: np.ndarray) -> float:
    """A positive length: the distance, else the whole range, else the scale of the scores themselves."""
    return float(distance) or float(values[-1] - values[0]) or max(float(np.abs(values).max()), 1e-12)


def _ranked(values: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
    return reference_rank(values, values if reference is None else reference)


def _standardised(values: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
    if reference is None:
        return values
    return (values - reference.mean()) / (reference.std() or 1.0)


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


def _blended_probs(frames: "Sequence[pd.DataFrame]", share: np.ndarray, classes: list[Any]) -> list[Any]:
    columns = [frame["probs"].tolist() if "probs" in frame else [None] * len(frame) for frame in frames]
    if any(other != classes[0] for other in classes):
        return [None] * len(frames[0])
    rows = []
    for cells in zip(*columns, strict=True):
        usable = all(cell is not None for cell in cells) and len({len(cell) for cell in cells}) == 1
        rows.append((share @ np.array(cells, dtype=np.float64)).tolist() if usable else None)
    return rows
