"""How rare a score is among normal images, beyond the few that were seen: a generalised Pareto tail.

Excesses over a high quantile follow a generalised Pareto distribution in the limit, whatever the scores' own
distribution (Pickands, "Statistical inference using extreme order statistics", 1975). Below that quantile the
scores speak for themselves; above it the fitted tail does, and both meet without a step.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from src.errors import ProjectError
from src.metrics.ranking import check_scores

MINIMUM = 5  # scores that a fit takes at least
_EXCESSES = 20  # wanted in a fit, if half the scores are as many
_PRIOR = 10.0  # excesses that the prior shape, 0 (an exponential tail), counts for
_LIGHTEST, _HEAVIEST = -1.0, 0.5  # shapes: a uniform tail, and the last one with finite variance
_FLOOR = 0.01  # the fitted shape is believed down to this share of the chance 1 / (n + 1); see TailFit


@dataclass(frozen=True, eq=False)
class TailFit:
    """The distribution of normal scores.

    values, survival: (G,) rising distinct scores, and the chance that a normal image scores at least each; the last
        one is where the tail starts. `i` of `n` scores at or above a value give i / (n + 1), its expectation; of
        tied ones the mean, but the lowest where the tail starts.
    shape, scale: of the tail, (1 + shape · excess / scale)^(-1 / shape) as in scipy's genpareto.
    n, n_excess: how many scores there were, and how many above the start.

    Where the fitted tail falls below 0.01 / (n + 1), and no data could say how it goes on, the heaviest shape that
    is considered (0.5) takes over with the same slope. So no chance is ever 0, no score is out of reach, and an
    excess ten times as large is not called a billion times as rare.
    """

    values: np.ndarray
    survival: np.ndarray
    shape: float
    scale: float
    n: int
    n_excess: int
    seed: int = 0

    @property
    def start(self) -> float:
        """The score at which the tail begins."""
        return float(self.values[-1])

    @property
    def share(self) -> float:
        """The chance of a normal score beyond `start`."""
        return float(self.survival[-1])

    def probability(self, scores: Any) -> np.ndarray:
        """(N,) chances in (0, 1] that a normal image scores at least that; falls strictly with the score.

        Raises:
            ProjectError: a score is not finite.
        """
        scores = check_scores(scores)
        chances = np.interp(scores, self.values, self.survival)
        beyond, below = scores > self.start, scores < self.values[0]
        chances[beyond] = self.share * _survival(
            scores[beyond] - self.start, self.shape, self.scale, floor=_floor(self.n) / self.share
        )
        # Only order is left to keep there: the chance goes to 1 as slowly as a score can go down.
        chances[below] = 1 - (1 - self.survival[0]) / (1 + (self.values[0] - scores[below]) / self._width)
        return chances

    def quantile(self, rate: float) -> float:
        """The score that normal images reach with chance `rate`; the inverse of `probability`.

        Raises:
            ProjectError: a rate outside (0, 1).
        """
        return float(self._quantiles(np.array([_check_rate(rate)]))[0])

    def interval(self, rate: float, *, level: float = 0.95, n: int = 1000) -> tuple[float, float]:
        """(low, high) bootstrap interval of the true quantile at `rate`: samples of the same size are drawn from the
        fit and fitted anew (parametric bootstrap; Efron 1979).

        In the tail the percentile interval misses light tails (the prior pulls the shape up) and the reflected one
        (pivotal in the logarithm of the excess) misses heavy ones; the interval spans both.

        Raises:
            ProjectError: rate or level outside (0, 1).
        """
        rate = _check_rate(rate)
        if not 0 < level < 1 or n < 1:
            raise ProjectError(f"level={level}, n={n}: expected a level between 0 and 1 and n of at least 1.")
        random = np.random.default_rng(self.seed)
        tails = np.array([(1 - level) / 2, (1 + level) / 2])
        if rate >= self.share:
            rank = min(max(rate * (self.n + 1), 1.0), float(self.n))
            upper = int(rank)
            drawn = self._draw(n, min(upper + 1, self.n), random)
            step = (drawn[:, min(upper, drawn.shape[1] - 1)] - drawn[:, upper - 1]) * (rank - upper)
            low, high = np.quantile(drawn[:, upper - 1] + step, tails)
            return float(low), float(high)
        highest = max(self.n_excess, 1) + 1
        drawn = self._draw(n, highest, random)
        starts = drawn[:, -1:]
        shape, scale = _fit(drawn[:, :-1] - starts)
        share = highest / (self.n + 1)
        excess = _excess(np.array(min(rate / share, 1.0)), shape, scale, floor=_floor(self.n) / share)
        values = starts[:, 0] + excess
        low, high = np.quantile(values, tails)
        found = self.quantile(rate) - self.start
        ratios = np.maximum(values - self.start, found * 1e-6) / found
        down, up = np.quantile(ratios, tails)
        return float(min(low, self.start + found / up)), float(max(high, self.start + found / down))

    @property
    def _width(self) -> float:
        return max(self.start - float(self.values[0]), self.scale)

    def _quantiles(self, rates: np.ndarray) -> np.ndarray:
        """Scores (of any shape) that are reached with the chances `rates`."""
        scores = np.interp(rates, self.survival[::-1], self.values[::-1])
        beyond, below = rates < self.share, rates > self.survival[0]
        scores[beyond] = self.start + _excess(
            rates[beyond] / self.share, self.shape, self.scale, floor=_floor(self.n) / self.share
        )
        scores[below] = self.values[0] - self._width * ((1 - self.survival[0]) / (1 - rates[below]) - 1)
        return scores

    def _draw(self, n: int, highest: int, random: np.random.Generator) -> np.ndarray:
        """(n, highest) highest scores, falling, of `n` samples as large as the fitted one.

        The chances of the highest of N scores are partial sums of N + 1 exponential numbers over their total (Rényi,
        "On the theory of order statistics", 1953), so that the others need not be drawn.
        """
        sums = np.cumsum(random.exponential(size=(n, highest)), axis=1)
        total = sums[:, -1] + random.gamma(self.n + 1 - highest, size=n)
        return self._quantiles(np.minimum(sums / total[:, None], 1 - 1e-12))


def fit_tail(scores: Any, *, share: float = 0.1, seed: int = 0) -> TailFit:
    """The distribution of normal images' scores from (N,) of them that the model did not learn from, N ≥ 5.

    The tail's shape and scale come from probability-weighted moments of the excesses (Hosking & Wallis, "Parameter
    and quantile estimation for the generalized Pareto distribution", 1987), which small samples do not throw off as
    they do maximum likelihood; the shape is drawn towards 0 as if ten more excesses had said so, and kept within
    [-1, 0.5].

    Args:
        share: of the scores that the tail is fitted to; more where that makes fewer than 20, half of them at most.

    Raises:
        ProjectError: fewer than 5 scores, one that is not finite, or a share outside (0, 1).
    """
    ordered = np.sort(check_scores(scores))
    n = len(ordered)
    if n < MINIMUM:
        raise ProjectError(
            f"{n} normal scores are too few for a tail: at least {MINIMUM} are needed. "
            "Hold more rows out (data.holdout=0.2) or use folds=5."
        )
    if not 0 < share < 1:
        raise ProjectError(f"share={share}: expected a share of the scores between 0 and 1 (say 0.1).")
    wanted = min(max(round(share * n), _EXCESSES), n // 2)
    values, first, counts = np.unique(ordered, return_index=True, return_counts=True)
    survival = (n - first - (counts - 1) / 2) / (n + 1)
    # Ties at the start would be excesses of 0: those above it count. All tied at the top: the next lower value.
    last = int(np.searchsorted(values, ordered[n - 1 - wanted]))
    if last == len(values) - 1:
        last = max(last - 1, 0)
    start = values[last]
    excesses = ordered[ordered > start][::-1] - start
    survival[last] = (len(excesses) + 1) / (n + 1)
    smallest = max(abs(float(start)), 1e-6) * 1e-9
    if len(excesses):
        shape, scale = (float(x[0]) for x in _fit(excesses[None]))
    else:  # every score is the same
        shape, scale = 0.0, max(abs(float(start)), 1e-6) * 1e-3
    return TailFit(
        values=values[: last + 1],
        survival=survival[: last + 1],
        shape=shape,
        scale=max(scale, smallest),
        n=n,
        n_excess=len(excesses),
        seed=seed,
    )


def _fit(excesses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(shape, scale), each (B,), from (B, K) falling excesses."""
    k = excesses.shape[1]
    mean = excesses.mean(axis=1)
    # E[x(1 - F(x))]: the j-th highest of k has a share (j - 1) / (k - 1) of the others above it
    weighted = (excesses * (np.arange(k) / max(k - 1, 1))).mean(axis=1)
    shape = 2 - mean / np.maximum(mean - 2 * weighted, 1e-9 * mean + 1e-300)
    shape = np.clip(k * shape / (k + _PRIOR), _LIGHTEST, _HEAVIEST)
    return shape, np.maximum(mean * (1 - shape), 1e-300)


def _floor(n: int) -> float:
    return _FLOOR / (n + 1)


def _survival(excess: np.ndarray, shape: Any, scale: Any, *, floor: float) -> np.ndarray:
    """Chance of a larger excess, given one; down to `floor` by the fitted shape, from there by the heaviest."""
    end = _pareto_excess(floor, shape, scale)
    near = _pareto_survival(np.minimum(excess, end), shape, scale)
    far = floor * _pareto_survival(np.maximum(excess - end, 0), _HEAVIEST, scale + shape * end)
    return np.where(excess <= end, near, far)


def _excess(survival: np.ndarray, shape: Any, scale: Any, *, floor: float) -> np.ndarray:
    """The inverse of `_survival`."""
    end = _pareto_excess(floor, shape, scale)
    near = _pareto_excess(np.maximum(survival, floor), shape, scale)
    far = _pareto_excess(np.minimum(survival / floor, 1), _HEAVIEST, scale + shape * end)
    return np.where(survival >= floor, near, end + far)


def _pareto_survival(excess: Any, shape: Any, scale: Any) -> np.ndarray:
    shape = _off_zero(shape)
    return np.exp(-np.log1p(np.maximum(shape * excess / scale, -1 + 1e-15)) / shape)


def _pareto_excess(survival: Any, shape: Any, scale: Any) -> np.ndarray:
    shape = _off_zero(shape)
    return scale * np.expm1(-shape * np.log(survival)) / shape


def _off_zero(shape: Any) -> np.ndarray:
    """Shapes so near 0 that the formulas lose digits become a little larger; the value hardly moves."""
    return np.where(np.abs(shape) < 1e-9, 1e-9, shape)


def _check_rate(rate: float) -> float:
    if not 0 < rate < 1:
        raise ProjectError(f"rate={rate}: expected a chance between 0 and 1 (say 0.01).")
    return float(rate)
