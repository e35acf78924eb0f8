"""Scores of different models on one scale, fixed by out-of-fold reference scores alone.

PatchCore answers distances, a classifier log-odds, an autoencoder errors: their mean says nothing. Each scale here
is a strictly rising function of the score (up to the rounding of floats), so a model's own ranking is untouched, on
and beyond the reference. No test score takes part.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from src.errors import ProjectError, nearest
from src.metrics.ranking import check_labels, check_scores

if TYPE_CHECKING:
    from src.calibration.tail import TailFit

Method = Literal["rank", "mean", "robust_z", "tail"]
METHODS: tuple[str, ...] = get_args(Method)

# A normal distribution's standard deviation over its median, and over its mean, absolute deviation.
_PER_MEDIAN, _PER_MEAN = 1.482602218505602, 1.2533141373155001


@dataclass(frozen=True)
class Scale:
    """A strictly rising function of a model's score.

    rank, tail: set by the `reference` scores themselves. mean, robust_z: (score - centre) / spread.
    """

    method: str
    centre: float = 0.0
    spread: float = 1.0
    reference: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_method(self.method)
        if not (np.isfinite(self.centre) and np.isfinite(self.spread) and self.spread > 0):
            raise ProjectError(
                f"a scale needs a finite centre and a spread above 0, found {self.centre}, {self.spread}."
            )
        if self.method in ("rank", "tail") and not self.reference:
            raise ProjectError(f"a scale by {self.method} needs its reference scores, found none.")
        if self.method == "tail":
            _ = self._tail  # what fit_tail refuses is refused here, not at the first score

    def apply(self, scores: Any) -> np.ndarray:
        """(N,) scores on the scale: rank from -1 to 2, mean and robust_z in spreads, tail from 0 up."""
        values = np.asarray(scores, dtype=np.float64)
        if self.method == "rank":
            return reference_rank(values, np.array(self.reference))
        if self.method == "tail":
            return -np.log10(self._tail.probability(values))
        return (values - self.centre) / self.spread

    def to_dict(self) -> dict[str, Any]:
        """Plain scalars and lists, for JSON; `Scale.from_dict` reads them."""
        return {**asdict(self), "reference": list(self.reference)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Scale":
        """The scale that `to_dict` wrote.

        Raises:
            ProjectError: an entry is missing, unknown or not usable.
        """
        try:
            return cls(**{**values, "reference": tuple(values["reference"])})
        except (KeyError, TypeError) as error:
            raise ProjectError(
                f"the recorded scale cannot be read ({error!r}). Run make_submission.py again."
            ) from error

    @cached_property
    def _tail(self) -> "TailFit":
        from src.calibration.tail import fit_tail

        return fit_tail(np.array(self.reference))


def check_method(method: str) -> None:
    """Raise ProjectError unless the method is known."""
    if method not in METHODS:
        raise ProjectError(
            f"blending method '{method}' is not known; choose {', '.join(METHODS)}.{nearest(str(method), METHODS)}"
        )


def fit_scale(method: str, reference: Any, *, normal: Any = None) -> Scale:
    """The scale that (N,) out-of-fold reference scores set.

    rank: their distribution function, extended beyond its ends (see `reference_rank`).
    mean: their mean and standard deviation (z-score).
    robust_z: median and 1.4826 × median absolute deviation of the normal ones (Iglewicz & Hoaglin, "How to detect
        and handle outliers", 1993, section 3.3): what defects are among the references does not move it. Where more
        than half of the normal scores are equal, the mean absolute deviation × 1.2533 stands in, as there; where all
        are, the standard deviation of all references.
    tail: -log10 of the share of normal images that score at least as high, the tail beyond them fitted (`fit_tail`).
        Unbounded: 3 is one normal image in a thousand, whatever the model.

    `normal` is (N,) bool, which references are known to be normal; all where None. rank and mean do not look at it.

    Raises:
        ProjectError: an unknown method, no reference, one that is not finite, a mask of another length or without a
            normal row; for tail whatever `fit_tail` refuses.
    """
    check_method(method)
    values = check_scores(reference)
    if method == "rank":
        return Scale(method, reference=tuple(np.sort(values).tolist()))
    if method == "mean":
        return Scale(method, float(values.mean()), _first_sizeable([values.std()], values))
    sound = values[normal_mask(normal, len(values))]
    if method == "tail":
        return Scale(method, reference=tuple(np.sort(sound).tolist()))
    centre = float(np.median(sound))
    return Scale(method, centre, robust_spread(sound - centre, values))


def normal_mask(normal: Any, count: int) -> np.ndarray:
    """(count,) bool, which reference rows are normal; all where None. Raises ProjectError as `fit_scale` says."""
    if normal is None:
        return np.ones(count, dtype=bool)
    mask = check_labels(normal, what="mark of a normal row")
    if len(mask) != count:
        raise ProjectError(f"{count} reference scores but {len(mask)} marks of normal rows: they must pair up.")
    if not mask.any():
        raise ProjectError(
            f"none of the {count} reference rows is known to be normal, and a scale is set by normal ones. "
            "Hold some out (data.holdout=0.2, folds=5), or blend by rank (blend=rank)."
        )
    return mask


def robust_spread(residuals: np.ndarray, values: np.ndarray) -> float:
    """A positive spread of residuals around their centre, as a normal distribution's standard deviation.

    `values` are all scores that the residuals come from: their own spread is what is left where the residuals are 0.
    """
    distance = np.abs(residuals)
    return _first_sizeable([_PER_MEDIAN * np.median(distance), _PER_MEAN * distance.mean(), values.std()], values)


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
    rank[high] = middle[-1] + _bounded((scores[high] - values[-1]) / (2 * _reach(values[-1] - median, values)))
    rank[low] = middle[0] - _bounded((values[0] - scores[low]) / (2 * _reach(median - values[0], values)))
    return rank


def _bounded(distance: np.ndarray) -> np.ndarray:
    return distance / (1 + distance)


def _reach(distance: float, values: np.ndarray) -> float:
    """A positive length: the distance, else the whole range, else the size of the scores, or 1 where all are 0."""
    return float(distance) or float(values[-1] - values[0]) or float(np.abs(values).max()) or 1.0


def _first_sizeable(spreads: list[Any], values: np.ndarray) -> float:
    """The first spread that is more than rounding noise; else the size of the scores, or 1 where they are all 0."""
    size = float(np.abs(values).max())
    return next((float(spread) for spread in spreads if spread > 1e-12 * size), size or 1.0)
