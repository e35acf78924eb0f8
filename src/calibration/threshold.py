"""The decision threshold of an anomaly model, from out-of-fold scores only.

An image is called anomalous when `score >= threshold`. Everything here takes scores of training images that
the model did not train on, and their labels. Test scores have no place here: a threshold fitted to them
leaks, and Dacon forbids it. `tune_on_oof` refuses a table that contains test rows.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from src.calibration.tail import fit_tail
from src.errors import ProjectError
from src.metrics.ranking import CONFUSION_KERNELS, Ranking, above, check_labels, check_scores, rank_scores
from src.metrics.registry import get_metric

if TYPE_CHECKING:
    import pandas as pd

# Metrics of a decision that have their best value at a sensible threshold. Precision and recall alone do not
# (call one image, or call all), so F1 stands in for them, as it does for metrics that need no threshold.
_TUNED = ("f1", "macro_f1", "accuracy", "balanced_accuracy")

_TAIL_FROM = 10  # normal scores from which a tail is fitted to them


def tuned_metric(metric: str) -> str:
    """The metric that a threshold is tuned for where `metric` is the competition's: itself, or F1.

    Raises:
        ProjectError: no such metric.
    """
    name = get_metric(metric).name
    return name if name in _TUNED else "f1"


@dataclass(frozen=True)
class Threshold:
    """A decision threshold and where it comes from.

    value: call an image anomalous when its raw score is at least this.
    source: "oof": best value of `metric` on rows of both classes; "normal_quantile": from normal rows alone.
    metric: the metric that was maximised; "false_alarm_rate" for a quantile.
    score: its value at the threshold on the rows it was tuned on, so optimistic; None for a quantile.
    method: of a quantile: "order_statistic", or "tail" where a fitted tail lies above all scores.
    interval: of a quantile: 95% interval of the score that normal images reach at the rate asked for, by a fitted tail;
        None with too few scores for one.
    false_alarm_bound: for a quantile, a limit to the chance of calling a new normal image anomalous. With few
        normal images it exceeds the rate asked for, since n images cannot vouch for less than 1 / (n + 1).
    """

    value: float
    source: Literal["oof", "normal_quantile"]
    metric: str
    score: float | None
    n_normal: int
    n_anomalous: int
    false_alarm_bound: float | None = None
    method: Literal["order_statistic", "tail"] | None = None
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.value, (int, float)) or not np.isfinite(self.value):
            raise ProjectError(f"a threshold must be a finite number, found {self.value!r}.")
        if self.source not in ("oof", "normal_quantile"):
            raise ProjectError(f"a threshold's source is 'oof' or 'normal_quantile', found {self.source!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain scalars, for metrics.json and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Threshold":
        """The threshold that `to_dict` wrote; records of older versions lack `method` and `interval`.

        Raises:
            ProjectError: an entry is missing, unknown or not usable.
        """
        try:
            return cls(**{**values, "interval": tuple(values["interval"]) if values.get("interval") else None})
        except TypeError as error:
            raise ProjectError(
                f"the recorded threshold cannot be read ({error}). Train again, or run make_submission.py."
            ) from error


def tune_threshold(scores: Any, labels: Any, metric: str, *, target_false_alarm: float = 0.01) -> Threshold:
    """The threshold for (N,) out-of-fold scores with 0/1 labels. Exact, O(N log N).

    Both classes: maximises `metric` over all midpoints between neighbouring distinct scores; of equally good
    ones the one in the widest gap. Metrics that need no threshold (auroc, average_precision, pixel metrics),
    and precision or recall alone, tune F1 instead. Normal images only: the quantile of `normal_quantile`.

    Raises:
        ProjectError: no rows, only anomalous rows, a score that is not finite, a label that is not 0 or 1, or
            `target_false_alarm` outside (0, 1).
    """
    name = tuned_metric(metric)
    ranking = rank_scores(scores, labels)
    if not ranking.n_negative:
        raise ProjectError(
            f"all {ranking.n_positive} held-out images are anomalous: a threshold needs normal ones. "
            "Hold some out (data.holdout=0.2) or use folds=5."
        )
    if not ranking.n_positive:
        return normal_quantile(scores, target_false_alarm=target_false_alarm)
    value, score = best_cut(ranking, name)
    return Threshold(
        value=value,
        source="oof",
        metric=name,
        score=score,
        n_normal=ranking.n_negative,
        n_anomalous=ranking.n_positive,
    )


def best_cut(ranking: Ranking, metric: str) -> tuple[float, float]:
    """(threshold, `metric` there) of the best decision; of equally good ones that in the widest gap.

    `metric` is one of a decision, by its registry name; the ranking holds both classes.
    """
    # Threshold g lies below group g, so groups g and up are called anomalous; the last one calls nothing.
    tp, fp = np.append(above(ranking.positives), 0), np.append(above(ranking.negatives), 0)
    value = CONFUSION_KERNELS[metric](tp, fp, ranking.n_positive - tp, ranking.n_negative - fp)
    gaps = np.concatenate([[0.0], np.diff(ranking.values), [0.0]])
    best = value >= value.max() - 1e-12  # sums in another order must not break a tie
    chosen = int(np.argmax(np.where(best, gaps, -1.0)))
    return _between(ranking.values, chosen), float(value[chosen])


def normal_quantile(scores: Any, *, target_false_alarm: float = 0.01) -> Threshold:
    """A threshold from (N,) held-out scores of normal images alone, conservative for finite N.

    It lies above the k-th smallest score, k = ceil((N + 1)(1 - target)): split conformal prediction's order
    statistic (Vovk et al., "Algorithmic Learning in a Random World", 2005; Angelopoulos & Bates 2021, section
    1). A new normal image, exchangeable with these, is then called anomalous with probability at most 1 - k /
    (N + 1) ≤ target.

    When N + 1 < 1 / target no order statistic is high enough, and the threshold goes above all scores: half a gap
    above, or to the quantile of a fitted tail (`src.calibration.tail`, ten scores or more) where that is higher.
    Such a threshold's `false_alarm_bound` stays 1 / (N + 1), which holds for any height above the highest score;
    that the rate comes nearer to the target is the tail's word, not the bound's. On simulated scores of six
    distributions the tail's quantile alone has a lower false-alarm rate than half a gap above the highest score
    with 20 and 30 scores, about the same with 50, and a higher one with 70; the higher of both is below either,
    so that more scores never make the rule laxer than its bound.

    Raises:
        ProjectError: no rows, a score that is not finite, or a target outside (0, 1).
    """
    if not 0 < target_false_alarm < 1:
        raise ProjectError(
            f"threshold.target_false_alarm={target_false_alarm}: expected a share between 0 and 1 (say 0.01)."
        )
    ordered = np.sort(check_scores(scores))
    value, method, bound = normal_cut(ordered, target_false_alarm)
    interval = None
    if len(ordered) >= _TAIL_FROM:
        low, high = fit_tail(ordered).interval(target_false_alarm)
        interval = (min(low, value), max(high, value))
    return Threshold(
        value=value,
        source="normal_quantile",
        metric="false_alarm_rate",
        score=None,
        n_normal=len(ordered),
        n_anomalous=0,
        false_alarm_bound=bound,
        method=method,
        interval=interval,
    )


def normal_cut(ordered: np.ndarray, target_false_alarm: float) -> tuple[float, str, float]:
    """(value, method, false-alarm bound) of `normal_quantile` from (N,) rising scores, without its interval."""
    n = len(ordered)
    rank = np.ceil((n + 1) * (1 - target_false_alarm) - 1e-9)  # 1e-9: 100 · 0.99 is not exact in binary
    k = max(1, min(n, int(rank)))
    values = np.unique(ordered)
    value, method = _between(values, int(np.searchsorted(values, ordered[k - 1], "right"))), "order_statistic"
    if rank > n >= _TAIL_FROM:
        beyond = fit_tail(ordered).quantile(target_false_alarm)
        if beyond > value:
            value, method = beyond, "tail"
    return value, method, 1 - k / (n + 1)


def tune_on_oof(
    oof: "pd.DataFrame", labels: "pd.Series", metric: str, *, target_false_alarm: float = 0.01
) -> Threshold:
    """`tune_threshold` for out-of-fold predictions (`id`, `fold`, `score`) and 0/1 labels indexed by id.

    Rows whose label is unknown (missing, or <NA>) do not take part.

    Raises:
        ProjectError: the table holds test rows (fold -1), or no row with a known label; else as
            `tune_threshold`.
    """
    known, truth = known_rows(oof, labels)
    return tune_threshold(oof["score"].to_numpy()[known], truth, metric, target_false_alarm=target_false_alarm)


def known_rows(oof: "pd.DataFrame", labels: "pd.Series") -> tuple[np.ndarray, np.ndarray]:
    """Which of the (N,) out-of-fold rows have a known label, and the labels of those, true = anomalous.

    Raises:
        ProjectError: as `tune_on_oof`.
    """
    test_rows = oof.loc[oof["fold"] < 0, "id"]
    if len(test_rows):
        raise ProjectError(
            f"{len(test_rows)} of {len(oof)} rows are of the test (fold -1), first '{test_rows.iloc[0]}'. "
            "A threshold is tuned on out-of-fold rows only: pass predictions/oof.parquet."
        )
    found = labels.reindex(oof["id"])
    known = found.notna().to_numpy()
    if not known.any():
        raise ProjectError(
            f"none of the {len(oof)} out-of-fold rows has a known label, so no threshold can be tuned. "
            "Check that the predictions and the training table belong to one competition."
        )
    return known, check_labels(found[known].astype("int64"), ids=oof["id"][known].tolist())


def _between(values: np.ndarray, index: int) -> float:
    """A threshold that calls `values[index:]` anomalous; `values` are distinct and rising.

    Beyond either end it stands half a neighbouring gap away, so that rounding noise does not cross it.
    """
    if 0 < index < len(values):
        low, high = float(values[index - 1]), float(values[index])
        middle = low + (high - low) / 2
        return middle if low < middle <= high else high
    end = float(values[0] if index == 0 else values[-1])
    if len(values) > 1:
        gap = float(values[1] - values[0] if index == 0 else values[-1] - values[-2])
    else:
        gap = max(abs(end), 1e-6) * 1e-3
    if index == 0:
        return end - gap / 2
    outside = end + gap / 2
    return outside if outside > end else float(np.nextafter(end, np.inf))
