"""Scores of several categories on one scale: a bottle's 3 and a cable's 3 made to mean the same.

A model that serves several categories scores some of them higher throughout, so one threshold, or one ranking, of
all images is too strict for these and too lax for the others. Fitted on out-of-fold normal scores alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from src.calibration.comparison import (
    clear_gain,
    deal_folds,
    fixed_answers,
    held_out_answers,
    image_metric,
    mean_value,
    paired_gains,
)
from src.calibration.scales import Scale, fit_scale, normal_mask, robust_spread
from src.errors import ProjectError
from src.metrics.ranking import UndefinedMetric, check_labels, check_scores

if TYPE_CHECKING:
    import pandas as pd

_SPREAD_ROWS = 10  # normal rows of a category that count as much as what all categories say of its spread


@dataclass(frozen=True)
class CategoryScale:
    """A scale for each category, and one for images of any other.

    centres, spreads: by category, of its normal scores. A category's score becomes (score - centre) / spread, then
        `aligned`, the scale of what all categories' references become so. Strictly rising within a category.
    shared: the scale of images whose category is unknown, or had no normal reference.
    metric, value, plain: what `tune_category_scale` compared, cross-validated with the scale and without; else None.
    """

    method: str
    shared: Scale
    aligned: Scale
    centres: dict[str, float]
    spreads: dict[str, float]
    metric: str | None = None
    value: float | None = None
    plain: float | None = None

    def apply(self, scores: Any, categories: Sequence[str | None]) -> np.ndarray:
        """(N,) scores on the common scale; `categories` are (N,), None where unknown."""
        values, names = np.asarray(scores, dtype=np.float64), _names(categories)
        if values.shape != (len(names),):
            raise ProjectError(f"scores of shape {values.shape} but {len(names)} categories: they must pair up.")
        known = np.array([name in self.centres for name in names], dtype=bool)
        result = self.shared.apply(values)
        if known.any():
            result[known] = self.aligned.apply(_aligned(values[known], names[known], self.centres, self.spreads))
        return result

    def to_dict(self) -> dict[str, Any]:
        """Plain scalars, lists and dicts, for JSON; `CategoryScale.from_dict` reads them."""
        return {**asdict(self), "shared": self.shared.to_dict(), "aligned": self.aligned.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CategoryScale":
        """The scale that `to_dict` wrote.

        Raises:
            ProjectError: an entry is missing, unknown or not usable.
        """
        try:
            scales = {name: Scale.from_dict(values[name]) for name in ("shared", "aligned")}
            return cls(**{**values, **scales})
        except (KeyError, TypeError) as error:
            raise ProjectError(
                f"the recorded scale of categories cannot be read ({error!r}). Run make_submission.py again."
            ) from error


def category_scale(method: str, reference: Any, categories: Sequence[str | None], normal: Any = None) -> CategoryScale:
    """A scale a category from (N,) out-of-fold reference scores, their categories, and which of them are normal.

    With few normal images a category's own centre and spread are guesses, so both are shrunk. The centre is an
    empirical Bayes estimate (Efron & Morris, "Data analysis using Stein's estimator", 1975): the category's median,
    drawn towards the mean of all medians by as much as its standard error outweighs the true differences between
    categories, whose variance is estimated by moments (DerSimonian & Laird, 1986). So categories that clearly differ
    keep their own. The variance is the mean of the category's and the pooled one, weighted by its rows and 10.

    Raises:
        ProjectError: arrays of different lengths; else as `fit_scale`.
    """
    values, names = check_scores(reference), _names(categories)
    if len(values) != len(names):
        raise ProjectError(f"{len(values)} reference scores but {len(names)} categories: they must pair up.")
    sound = normal_mask(normal, len(values))
    shared = fit_scale(method, values, normal=sound)
    own = {name: values[sound & (names == name)] for name in sorted({n for n in names[sound] if n is not None})}
    if not own:
        return CategoryScale(method, shared, shared, {}, {})
    centres, spreads = _shrunk(own, values)
    known = np.array([name in centres for name in names], dtype=bool)
    aligned = _aligned(values[known], names[known], centres, spreads)
    return CategoryScale(method, shared, fit_scale(method, aligned, normal=sound[known]), centres, spreads)


def tune_category_scale(
    oof: "pd.DataFrame",
    labels: "pd.Series",
    categories: "pd.Series",
    metric: str,
    *,
    method: str = "robust_z",
    seed: int = 0,
) -> CategoryScale | None:
    """The scale of all out-of-fold rows if it serves the metric better than the raw scores do, else None.

    Both are cross-validated: the scale, and for metrics of decisions the threshold too, are fitted on four fifths of
    the rows and judged on the rest. The gain must exceed its standard error (`paired_gains`).

    Args:
        oof: `id`, `fold`, `score`; no test rows.
        labels, categories: by id; rows of unknown label do not take part, an unknown category is None.

    Returns:
        None also where fewer than two categories have normal rows, or where a class has too few rows to compare.

    Raises:
        ProjectError: the table holds test rows (fold -1).
    """
    if (oof["fold"] < 0).any():
        raise ProjectError("a scale is fitted on out-of-fold rows only: pass predictions/oof.parquet.")
    found = labels.reindex(oof["id"])
    known = found.notna().to_numpy()
    if not known.any():
        return None
    truth = check_labels(found[known].astype("int64"))
    scores = check_scores(oof["score"].to_numpy()[known])
    names = _names(categories.reindex(oof["id"])[known])
    name = image_metric(metric)
    if len({n for n in names[~truth] if n is not None}) < 2:
        return None

    def scaled(train: np.ndarray) -> np.ndarray:
        return category_scale(method, scores[train], names[train], ~truth[train]).apply(scores, names)

    folds = deal_folds([f"{label} {category}" for label, category in zip(truth, names, strict=True)], seed=seed)
    try:
        plain = fixed_answers(scores, truth, name, folds)
        better = held_out_answers(scaled, truth, name, folds)
    except UndefinedMetric:
        return None
    before, after = mean_value(name, plain, truth), mean_value(name, better, truth)
    if (
        before is None
        or after is None
        or not clear_gain(after - before, paired_gains(name, plain, better, truth, seed=seed))
    ):
        return None
    chosen = category_scale(method, scores, names, ~truth)
    return replace(chosen, metric=name, value=after, plain=before)


def _shrunk(own: Mapping[str, np.ndarray], values: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """(centre, spread) of each category from its normal scores."""
    count = np.array([len(scores) for scores in own.values()], dtype=np.float64)
    median = np.array([np.median(scores) for scores in own.values()])
    residuals = [scores - centre for scores, centre in zip(own.values(), median, strict=True)]
    # One row, or rows that are all equal, say nothing of a spread; the pooled one then counts alone.
    pooled = robust_spread(np.concatenate([rest for rest in residuals if np.any(rest)] or residuals), values)
    each = np.array([robust_spread(rest, rest) if np.any(rest) else pooled for rest in residuals])
    spread = np.sqrt((count * each**2 + _SPREAD_ROWS * pooled**2) / (count + _SPREAD_ROWS))

    error = np.pi / 2 * spread**2 / count  # variance of a normal sample's median
    weight = 1 / error
    mean = (weight @ median) / weight.sum()
    excess = weight @ (median - mean) ** 2 - (len(count) - 1)
    room = weight.sum() - (weight**2).sum() / weight.sum()
    between = max(excess / room, 0.0) if room > 0 else np.inf  # a single category has nothing to be drawn towards
    kept = 1 / (1 + error / between) if between > 0 else np.zeros(len(count))
    centre = kept * median + (1 - kept) * mean
    return dict(zip(own, centre.tolist(), strict=True)), dict(zip(own, spread.tolist(), strict=True))


def _aligned(
    scores: np.ndarray, names: np.ndarray, centres: Mapping[str, float], spreads: Mapping[str, float]
) -> np.ndarray:
    centre, spread = (np.array([of[name] for name in names], dtype=np.float64) for of in (centres, spreads))
    return (scores - centre) / spread


def _names(categories: Any) -> np.ndarray:
    """(N,) objects: a category's text, or None where it is missing."""
    return np.array([name if isinstance(name, str) else None for name in categories], dtype=object)
