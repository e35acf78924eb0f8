"""What a blend is worth: what each run adds to it, and which way of blending is best, on out-of-fold rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from src.calibration.class_rule import held_out_classes
from src.calibration.comparison import (
    class_metric,
    clear_gain,
    deal_folds,
    fixed_answers,
    held_out_answers,
    image_metric,
    mean_value,
    paired_gains,
)
from src.calibration.scales import METHODS, Method, fit_scale
from src.ensemble import mean_probs, mixed, run_names, scaled_scores, shares_of, stacked_probs
from src.errors import ProjectError, nearest
from src.metrics.ranking import check_labels, check_scores

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95


@dataclass(frozen=True)
class _Judged:
    """(R, N) held-out answers and their value; both None where the metric is undefined."""

    answers: np.ndarray | None
    value: float | None


def leave_one_out(
    frames: "Sequence[pd.DataFrame]",
    labels: "pd.Series",
    metric: str,
    *,
    method: Method = "rank",
    weights: Sequence[float] | None = None,
    reference: "Sequence[pd.DataFrame] | None" = None,
    normal: Sequence[Any] | None = None,
    truth: "pd.Series | None" = None,
    normal_classes: Sequence[str] = (),
    allowed: Any = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """What each run is worth in a blend of out-of-fold tables: a row a run, then the row of the blend itself.

    Metrics of decisions (f1, accuracy, …) are those of rows held out of the tuning of their threshold, so that all
    rows compare fairly; metrics of scores need no threshold; AUROC stands in for metrics of maps and masks. With
    `truth` the metric is one of several classes (macro-F1 where `metric` knows two only), of probabilities and score
    through the class rule that is best for them (`src.calibration.class_rule`), held out of its tuning.

    Args:
        frames: tables of the same rows, none of the test (`src.flows.shared_rows.common_rows`).
        labels: 0/1 by id; rows of unknown label do not take part. Not looked at where there is `truth`.
        method, weights, reference, normal: as `blend_anomaly` takes them; reference None: the tables themselves.
        truth: class names by id, of the classes that the tables' metadata names; rows without one do not take part.
        normal_classes: the names that mean "nothing wrong"; with truth only.
        allowed: (N, C) bool, the classes that each row of the first table can have; with truth only.

    Returns:
        Plain dicts, None where undefined (a run without probabilities, the blend of no other run, a single class):
        name; kind: run | blend; metric;
        alone: the value of the run, or of the blend;
        without: the value of the blend of the others;
        gain: of a run, blend - without; of the blend, blend - best single run;
        correlation: Spearman's, of the run's scores with the blend of the others;
        best: on the blend's row, the name of the best single run;
        gain_low, gain_high: on the blend's row, 95% interval of that gain when rows are resampled (both on the same
            draw; scales, thresholds and the choice of the run held fixed).

    Raises:
        ProjectError: as `blend_anomaly`; a test row; no row with a known label; a true class that is not predicted.
    """
    scaled = scaled_scores(frames, method=method, reference=frames if reference is None else reference, normal=normal)
    share, names = shares_of(weights, len(frames)), run_names(frames)
    ids = _training_ids(frames[0])
    if truth is None:
        rows, anomalous = _known_labels(labels, ids)
        judge: _BinaryJudge | _ClassJudge = _BinaryJudge(scaled[:, rows], anomalous, image_metric(metric), seed)
    else:
        stack, class_names = stacked_probs(frames)
        if stack is None or class_names is None:
            raise ProjectError(
                f"{', '.join(names)} predict no class probabilities, so {metric} of classes has no value."
            )
        rows, target = _known_classes(truth, ids, class_names)
        judge = _ClassJudge(
            scaled=scaled[:, rows],
            stack=stack[:, rows],
            truth=target,
            classes=class_names,
            normal=np.isin(class_names, list(normal_classes)),
            allowed=None if allowed is None else np.asarray(allowed)[rows],
            metric=class_metric(metric),
            seed=seed,
        )
    blend = judge(share)
    single = np.eye(len(frames))
    alone = [judge(one) for one in single]
    table = []
    for index, name in enumerate(names):
        others = share * (1 - single[index])
        without = judge(others / others.sum()).value if others.any() else None
        table.append(
            {
                "name": name,
                "kind": "run",
                "metric": judge.metric,
                "alone": alone[index].value,
                "without": without,
                "gain": None if None in (blend.value, without) else blend.value - without,
                "correlation": _spearman(scaled[index, rows], mixed(scaled[:, rows], others)) if others.any() else None,
            }
        )
    best = max((i for i, one in enumerate(alone) if one.value is not None), key=lambda i: alone[i].value, default=None)
    row = {"name": "blend", "kind": "blend", "metric": judge.metric, "alone": blend.value, "without": None}
    if best is None or blend.value is None:
        gain = {"gain": None, "gain_low": None, "gain_high": None}
    else:
        gain = _gain(judge.metric, alone[best], blend, judge.truth, seed)[0]
    return [*table, {**row, "correlation": None, "best": None if best is None else names[best], **gain}]


def best_method(
    frames: "Sequence[pd.DataFrame]", labels: "pd.Series", metric: str, *, seed: int = 0
) -> list[dict[str, Any]]:
    """Which way of blending out-of-fold tables is best, with equal weights: a row a method, then a row a run.

    Scales, and thresholds for metrics of decisions, are fitted on four fifths of the rows and judged on the rest.
    rank is chosen unless another method is better by more than the gain's standard error.

    Args:
        frames, labels: as `leave_one_out` takes them.

    Returns:
        Plain dicts, None where undefined (fewer than two rows of a class): name; kind: method | run; metric; value;
        chosen: true on the one method to use; and for methods gain, gain_low, gain_high: over the best single run,
        with its 95% interval when rows are resampled.

    Raises:
        ProjectError: as `leave_one_out`.
    """
    names, name = run_names(frames), image_metric(metric)
    raw = scaled_scores(frames, method="mean")  # without a reference: as they are, in one order of rows
    rows, anomalous = _known_labels(labels, _training_ids(frames[0]))
    scores = np.stack([check_scores(run) for run in raw[:, rows]])
    folds = deal_folds(anomalous, seed=seed)
    alone = [_judged(name, anomalous, lambda run=run: fixed_answers(run, anomalous, name, folds)) for run in scores]

    def blended(method: str, train: np.ndarray) -> np.ndarray:
        fitted = [fit_scale(method, run[train], normal=~anomalous[train]).apply(run) for run in scores]
        return np.mean(fitted, axis=0)

    methods = {
        method: _judged(
            name,
            anomalous,
            lambda method=method: held_out_answers(lambda train: blended(method, train), anomalous, name, folds),
        )
        for method in METHODS
    }
    chosen = default = methods["rank"]
    for judged in methods.values():
        if judged.value is None or chosen.value is None or judged.value <= chosen.value:
            continue
        if _gain(name, default, judged, anomalous, seed)[1]:
            chosen = judged
    best = max((one for one in alone if one.value is not None), key=lambda one: one.value, default=None)
    nothing = {"gain": None, "gain_low": None, "gain_high": None}
    table: list[dict[str, Any]] = []
    for method, judged in methods.items():
        usable = best is not None and judged.value is not None
        gain = _gain(name, best, judged, anomalous, seed)[0] if usable else nothing
        kind = {"name": method, "kind": "method", "metric": name, "value": judged.value, "chosen": judged is chosen}
        table.append({**kind, **gain})
    return table + [
        {"name": run, "kind": "run", "metric": name, "value": one.value, "chosen": False}
        for run, one in zip(names, alone, strict=True)
    ]


class _BinaryJudge:
    """The value of a mix of runs by its (N,) blended scores against bool truth."""

    def __init__(self, scaled: np.ndarray, truth: np.ndarray, metric: str, seed: int) -> None:
        self.scaled, self.truth, self.metric = scaled, truth, metric
        self.folds = deal_folds(truth, seed=seed)

    def __call__(self, share: np.ndarray) -> _Judged:
        scores = mixed(self.scaled, share)
        return _judged(self.metric, self.truth, lambda: fixed_answers(scores, self.truth, self.metric, self.folds))


class _ClassJudge:
    """The value of a mix of runs by its (N, C) mean probabilities and (N,) blended scores against int truth."""

    def __init__(
        self,
        *,
        scaled: np.ndarray,
        stack: np.ndarray,
        truth: np.ndarray,
        classes: Sequence[str],
        normal: np.ndarray,
        allowed: np.ndarray | None,
        metric: str,
        seed: int,
    ) -> None:
        self.scaled, self.stack, self.truth, self.metric = scaled, stack, truth, metric
        self.options: dict[str, Any] = {"classes": classes, "allowed": allowed, "seed": seed}
        self.normal = normal

    def __call__(self, share: np.ndarray) -> _Judged:
        probs = mean_probs(self.stack, share)
        if np.isnan(probs).any():
            return _Judged(None, None)
        scores = mixed(self.scaled, share)
        rule, answers = held_out_classes(probs, scores, self.truth, self.normal, self.metric, **self.options)
        return _Judged(None, None) if rule.value is None else _Judged(answers, rule.value)


def _judged(metric: str, truth: np.ndarray, answered: Callable[[], np.ndarray]) -> _Judged:
    try:
        answers = answered()
    except ProjectError:  # too few rows of a class to compare, or too few normal ones for a tail
        return _Judged(None, None)
    value = mean_value(metric, answers, truth)
    return _Judged(None, None) if value is None else _Judged(answers, value)


def _gain(metric: str, first: _Judged, second: _Judged, truth: np.ndarray, seed: int) -> tuple[dict[str, float], bool]:
    """(gain of the second over the first with its interval, whether it exceeds its standard error)."""
    gain = second.value - first.value
    gains = paired_gains(metric, first.answers, second.answers, truth, seed=seed)
    low, high = np.quantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"gain": gain, "gain_low": float(low), "gain_high": float(high)}, clear_gain(gain, gains)


def _spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (first, second)]
    if len(first) < 2 or not all(np.ptp(rank) for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _training_ids(frame: "pd.DataFrame") -> "pd.Series":
    if (frame["fold"] < 0).any():
        raise ProjectError("a blend is measured on out-of-fold rows only: pass predictions/oof.parquet of each run.")
    return frame["id"]


def _known_labels(labels: "pd.Series", ids: "pd.Series") -> tuple[np.ndarray, np.ndarray]:
    """(positions of the rows with a known label, whether they are anomalous)."""
    found = labels.reindex(ids)
    known = found.notna().to_numpy()
    if not known.any():
        raise ProjectError(f"none of the {len(ids)} out-of-fold rows has a known label, so no blend can be measured.")
    return np.flatnonzero(known), check_labels(found[known].astype("int64"))


def _known_classes(truth: "pd.Series", ids: "pd.Series", classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(positions of the rows with a known class, its index)."""
    found = truth.reindex(ids)
    known = found.notna().to_numpy()
    if not known.any():
        raise ProjectError(f"none of the {len(ids)} out-of-fold rows has a known class, so no blend can be measured.")
    number = {name: index for index, name in enumerate(classes)}
    for identifier, name in zip(ids[known], found[known], strict=True):
        if name not in number:
            raise ProjectError(
                f"the class '{name}' of id '{identifier}' is not among the {len(classes)} that the runs predict."
                f"{nearest(name, classes)}"
            )
    return np.flatnonzero(known), np.array([number[name] for name in found[known]], dtype=np.int64)
