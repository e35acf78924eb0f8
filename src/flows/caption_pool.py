"""Candidates of several folds or runs for the same images, pooled into one list an image."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.ensemble import shares_of
from src.errors import ProjectError


def pooled(
    frames: Sequence[pd.DataFrame],
    *,
    weights: Sequence[float] | None = None,
    spreads: Sequence[float] | None = None,
) -> pd.DataFrame:
    """One table from those of several models for the same images: every caption that any of them proposed, once.

    A caption's probability under a model is a softmax of the model's scores over its own candidates of the image, 0
    where it did not propose it; the pooled score is the logarithm of the mean probability. So a caption that many
    models propose comes first, whatever units their scores have.

    Args:
        frames: prediction tables; the first gives the order of the rows.
        weights: one a model, not negative; equal ones where None.
        spreads: each model's `spread`, by which its scores are divided first; None: their own units.

    Raises:
        ProjectError: no table, tables of other images, a wrong number of weights, or weights that cannot be shares.
    """
    if not frames:
        raise ProjectError("there is nothing to blend: give one run or more (runs=[…]).")
    share = shares_of(weights, len(frames)).tolist()
    kept = [number for number, value in enumerate(share) if value > 0]
    if len(kept) < len(frames):  # a model without weight proposes nothing
        part = None if spreads is None else [spreads[number] for number in kept]
        return pooled([frames[number] for number in kept], weights=[share[number] for number in kept], spreads=part)
    tables = [frame.set_index("id") for frame in frames]
    ids = frames[0]["id"].tolist()
    for table in tables[1:]:
        if len(table) != len(ids) or set(table.index) != set(ids):
            raise ProjectError(
                f"the runs have predicted other images: {len(ids)} and {len(table)} rows. Give runs of one competition."
            )
    if len(frames) == 1:
        return frames[0]
    rows = []
    for name, fold in zip(ids, frames[0]["fold"], strict=True):
        probability: dict[str, float] = {}
        image: dict[str, list[float]] = {}
        flags: list[list[str] | None] = []
        for number, table in enumerate(tables):
            row = table.loc[name]
            flags.append(row["flags"])
            spread = 1.0 if spreads is None else spreads[number]
            for text, value in zip(row["candidates"], _softmax(row["candidate_scores"], spread), strict=True):
                probability[text] = probability.get(text, 0.0) + share[number] * value
            for text, value in zip(row["candidates"], row["image_scores"] or [], strict=bool(row["image_scores"])):
                image.setdefault(text, []).append(value)
        best = sorted(probability, key=lambda text: -probability[text])
        known = all(text in image for text in best)
        rows.append(
            {
                "id": name,
                "fold": fold,
                "candidates": best,
                "candidate_scores": [math.log(max(probability[text], 1e-12)) for text in best],
                "image_scores": [float(np.mean(image[text])) for text in best] if known else None,
                "flags": _shared(flags),
            }
        )
    result = pd.DataFrame(rows, columns=["id", "fold", "candidates", "candidate_scores", "image_scores", "flags"])
    result.attrs = dict(frames[0].attrs)
    return result


def spread(frame: pd.DataFrame) -> float:
    """The mean standard deviation of an image's candidate scores; 1 where no image has two that differ."""
    found = [float(np.std(scores)) for scores in frame["candidate_scores"] if len(scores) > 1]
    mean = float(np.mean(found)) if found else 0.0
    return mean if mean > 1e-9 else 1.0


def _softmax(scores: Sequence[float], spread: float) -> np.ndarray:
    values = np.asarray(scores, np.float64) / spread
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def _shared(flags: Sequence[Sequence[str] | None]) -> list[str] | None:
    """What all models say of an image: one that had no trouble is enough."""
    common = set.intersection(*(set(each or ()) for each in flags))
    return sorted(common) or None
