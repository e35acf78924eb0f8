"""What a metric will be on new images, at a threshold that was tuned on the few labelled ones there are.

The value on the rows that a threshold was tuned on is too good, and an interval around it for that threshold held
fixed (`src.metrics.bootstrap`) forgets three doubts: that the threshold was chosen to suit these rows, that these rows
are not all there are, and that the new images are a sample too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from src.calibration.threshold import best_cut, tuned_metric
from src.errors import ProjectError
from src.metrics.ranking import CONFUSION_KERNELS, RANKING_KERNELS, Ranking, UndefinedMetric, rank_scores
from src.metrics.registry import get_metric

_UNSEEN = 0.632  # share of rows that a resample holds: Efron 1983
_CELLS = 4_000_000  # resamples × images handled at once; bounds memory at some 200 MB
# Where the order counts, a large test set is simulated by so many images, but its rarer class, which scatters the
# metric, by so many of its own at least.
_TEST, _RARE = 4000, 400


@dataclass(frozen=True)
class Certainty:
    """The promise: on `test_normal` and `test_anomalous` new images `metric` lies in [low, high] with chance `level`.

    value: the median of what is expected there.
    threshold_low, threshold_high: where the threshold fell in as many of the resamples; None for metrics of order.
    n: number of resamples.
    n_normal, n_anomalous: the rows it was learnt from.
    """

    metric: str
    value: float
    low: float
    high: float
    level: float
    threshold_low: float | None
    threshold_high: float | None
    n: int
    n_normal: int
    n_anomalous: int
    test_normal: int
    test_anomalous: int

    @property
    def words(self) -> str:
        """The promise as one sentence."""
        threshold = "" if self.threshold_low is None else ", with a threshold tuned like this one"
        return (
            f"On new data of {self.test_normal:,} normal and {self.test_anomalous:,} defective images {self.metric} is "
            f"expected at {self.value:.3f}, between {self.low:.3f} and {self.high:.3f} in {self.level:.0%} of cases"
            f"{threshold}; estimated from {self.n_normal:,} normal and {self.n_anomalous:,} defective held-out images."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for metrics.json, and the promise in `words`."""
        return {**asdict(self), "words": self.words}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Certainty":
        """The certainty that `to_dict` wrote.

        Raises:
            ProjectError: an entry is missing or unknown.
        """
        try:
            return cls(**{key: value for key, value in values.items() if key != "words"})
        except TypeError as error:
            raise ProjectError(
                f"the recorded certainty cannot be read ({error}). Train again, or run make_submission.py."
            ) from error


def promised_interval(
    scores: Any,
    labels: Any,
    metric: str,
    *,
    test_normal: int | None = None,
    test_anomalous: int | None = None,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Certainty:
    """The interval of `metric` on new images, from (N,) out-of-fold scores and 0/1 labels.

    Metrics of a decision. Resamples of both classes are tuned like the rows themselves (`tune_threshold`'s rule), and
    the rates of alarms among normal and defective images are compared between the rows drawn and the rows not drawn.
    0.632 of that mean difference is taken off the two rates at the actual threshold, as in the .632 estimator
    (Efron, "Estimating the error rate of a prediction rule", 1983): rows not drawn meet a threshold that was tuned on
    63% of the rows, so that the whole difference would be too much. Around the corrected rates lies what N rows leave
    open (Jeffreys' Beta posterior, which knows that no miss among ten does not mean none ever), and test sets of the
    given size are drawn from it. Simply measuring on the rows not drawn spreads far more than new data do.

    Metrics of the order (auroc, average_precision, f1_max): test sets are drawn from what the populations could be,
    given the rows. Drawing the rows themselves again would promise 1.000 to 1.000 for ten rows in perfect order.

    Args:
        test_normal, test_anomalous: images of each class in the new data; as many as there are rows where None.

    Raises:
        UndefinedMetric: a class is missing, or has a single row, which cannot be left out.
        ProjectError: a metric of pixels; a size, n or level out of range; scores or labels not usable.
    """
    name = get_metric(metric).name
    ranking = rank_scores(scores, labels)
    ranking.require_both(name)
    sizes = (
        ranking.n_negative if test_normal is None else test_normal,
        ranking.n_positive if test_anomalous is None else test_anomalous,
    )
    if min(ranking.n_negative, ranking.n_positive) < 2:
        raise UndefinedMetric(
            f"how sure {name} is takes two held-out images of each class, found {ranking.n_negative} normal and "
            f"{ranking.n_positive} anomalous. Hold more out (data.holdout=0.2) or use folds=5."
        )
    if min(sizes) < 1 or n < 1 or not 0 < level < 1:
        raise ProjectError(
            f"test_normal={sizes[0]}, test_anomalous={sizes[1]}, n={n}, level={level}: expected at least one image of "
            "each class, n of at least 1 and a level between 0 and 1."
        )
    random = np.random.default_rng(seed)
    tails = [(1 - level) / 2, (1 + level) / 2]
    around = (None, None)
    if name in CONFUSION_KERNELS:
        values, thresholds = _decided(ranking, name, sizes, n, random)
        around = tuple(float(x) for x in np.quantile(thresholds, tails))
    elif name in RANKING_KERNELS:
        values = _ordered(
            tuple(np.repeat(ranking.values, counts) for counts in (ranking.negatives, ranking.positives)),
            name,
            sizes,
            n,
            random,
        )
    else:
        raise ProjectError(f"{name} is a metric of pixels; intervals are offered for image metrics only.")
    low, high = np.quantile(values, tails)
    return Certainty(
        metric=name,
        value=float(np.median(values)),
        low=float(low),
        high=float(high),
        level=level,
        threshold_low=around[0],
        threshold_high=around[1],
        n=n,
        n_normal=ranking.n_negative,
        n_anomalous=ranking.n_positive,
        test_normal=sizes[0],
        test_anomalous=sizes[1],
    )


def _decided(
    ranking: Ranking, name: str, sizes: tuple[int, int], n: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) values of a metric of decisions on simulated test sets, and (n,) thresholds of the resamples."""
    tuned = tuned_metric(name)
    classes = ranking.negatives, ranking.positives
    rows = [np.repeat(np.arange(len(counts)), counts) for counts in classes]  # each row's group
    thresholds, excess = np.empty(n), np.empty((n, 2))
    for index in range(n):
        drawn, left = zip(*(_resample(groups, len(ranking.values), random) for groups in rows), strict=True)
        present = (drawn[0] + drawn[1]) > 0
        thresholds[index], _ = best_cut(Ranking(ranking.values[present], drawn[1][present], drawn[0][present]), tuned)
        cut = np.searchsorted(ranking.values, thresholds[index])
        excess[index] = [_alarms(a, cut) - _alarms(b, cut) for a, b in zip(drawn, left, strict=True)]
    threshold, _ = best_cut(ranking, tuned)
    cut = np.searchsorted(ranking.values, threshold)
    called = []
    for counts, optimism, size in zip(classes, excess.mean(axis=0), sizes, strict=True):
        total = counts.sum()
        rate = float(np.clip(_alarms(counts, cut) - _UNSEEN * optimism, 0, 1))
        chances = random.beta(rate * total + 0.5, (1 - rate) * total + 0.5, size=n)
        called.append(random.binomial(size, chances))
    fp, tp = called
    return CONFUSION_KERNELS[name](tp, fp, sizes[1] - tp, sizes[0] - fp), thresholds


def _resample(groups: np.ndarray, n_groups: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Counts by group of as many rows drawn with replacement, and of the rows that were not drawn, at least one."""
    while True:
        drawn = random.integers(0, len(groups), len(groups))
        left = np.ones(len(groups), dtype=bool)
        left[drawn] = False
        if left.any():
            return np.bincount(groups[drawn], minlength=n_groups), np.bincount(groups[left], minlength=n_groups)


def _alarms(counts: np.ndarray, cut: int) -> float:
    """Share of the rows in groups `cut` and up."""
    return float(counts[cut:].sum() / counts.sum())


def _ordered(
    scores: tuple[np.ndarray, np.ndarray], name: str, sizes: tuple[int, int], n: int, random: np.random.Generator
) -> np.ndarray:
    """(n,) values of a metric of order on simulated test sets."""
    if name == "auroc":  # the shares of the classes do not matter
        tests = [min(size, _TEST // 2) for size in sizes]
    else:
        share = min(1.0, max(_TEST / sum(sizes), _RARE / min(sizes)))
        tests = [max(1, round(size * share)) for size in sizes]
    step = max(1, _CELLS // sum((*tests, *map(len, scores))))
    values = []
    for start in range(0, n, step):
        rows = min(step, n - start)
        drawn = [_new_scores(own, rows, size, random) for own, size in zip(scores, tests, strict=True)]
        # Ties come out in the order of the columns: shuffled in each row, so that neither class wins them.
        shuffled = random.permuted(np.tile(np.arange(sum(tests)), (rows, 1)), axis=1)
        mixed = np.take_along_axis(np.concatenate(drawn, axis=1), shuffled, axis=1)
        ranks = np.take_along_axis(shuffled, np.argsort(mixed, axis=1, kind="stable"), axis=1)
        positives = (ranks >= tests[0]).astype(np.int64)
        values.append(RANKING_KERNELS[name](positives, 1 - positives))
    return np.concatenate(values)


def _new_scores(scores: np.ndarray, rows: int, size: int, random: np.random.Generator) -> np.ndarray:
    """(rows, size) scores of new images like the (N,) given; each row from another distribution that could be theirs.

    The shares of a population between N ordered scores, both ends included, are uniform spacings (Hill, "Posterior
    distribution of percentiles", 1968). Between two scores new ones lie evenly; beyond the ends they thin out
    exponentially, at the rate of the outer scores.
    """
    scores = np.sort(scores)
    n = len(scores)
    k = min(20, n // 2)
    above, below = (scores[-k:] - scores[-k - 1]).mean(), (scores[k] - scores[:k]).mean()
    spacings = np.cumsum(random.exponential(size=(rows, n + 1)), axis=1)
    spacings /= spacings[:, -1:]
    offsets = 2.0 * np.arange(rows)[:, None]  # one search for all rows
    drawn = np.searchsorted((spacings + offsets).ravel(), (random.random((rows, size)) + offsets).ravel())
    gap = drawn.reshape(rows, size) - np.arange(rows)[:, None] * (n + 1)
    gap = np.clip(gap, 0, n)
    left, right = scores[np.maximum(gap - 1, 0)], scores[np.minimum(gap, n - 1)]
    inside = left + random.random((rows, size)) * (right - left)
    outside = random.exponential(size=(rows, size))
    return np.where(gap == 0, right - below * outside, np.where(gap == n, left + above * outside, inside))
