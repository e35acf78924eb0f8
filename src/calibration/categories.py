"""Thresholds by category (bottle, cable, …): one model's scores may lie higher for one kind of part than for another.

A threshold of its own costs a category rows to tune it on, so it must earn its place: cross-validation on the
out-of-fold rows decides between thresholds by category and the shared one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from src.calibration.threshold import (
    Threshold,
    best_cut,
    known_rows,
    normal_cut,
    normal_quantile,
    tune_threshold,
    tuned_metric,
)
from src.errors import ProjectError
from src.metrics.ranking import CONFUSION_KERNELS, rank_scores

if TYPE_CHECKING:
    import pandas as pd

_NORMALS = 20  # a category without labelled defects needs as many normal images for a quantile of its own
_EACH = 4  # images of each class that a category needs to be tuned like the whole
_FOLDS, _REPEATS = 5, 5


@dataclass(frozen=True)
class CategoryThresholds:
    """The shared threshold and those of the categories that have their own; any other category takes the shared one.

    metric: what was tuned and cross-validated; "false_alarm_rate" from normal images alone.
    cross_validated, plain: its mean value with thresholds by category and with the shared one, on rows that neither
        was tuned on; None from normal images alone, where no metric could compare them.
    """

    shared: Threshold
    own: dict[str, Threshold]
    metric: str
    cross_validated: float | None = None
    plain: float | None = None

    def value_of(self, category: str | None) -> float:
        """The threshold that decides for an image of `category` (None: not known)."""
        return self.own.get(category, self.shared).value if isinstance(category, str) else self.shared.value

    def decide(self, scores: Any, categories: Sequence[str | None]) -> np.ndarray:
        """(N,) bool, true = anomalous, from scores and the images' categories.

        Raises:
            ProjectError: as many scores as categories are expected.
        """
        scores = np.asarray(scores, dtype=np.float64)
        if len(scores) != len(categories):
            raise ProjectError(f"{len(scores)} scores but {len(categories)} categories: they must pair up.")
        return scores >= np.array([self.value_of(category) for category in categories], dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for metrics.json and checkpoints."""
        return {
            "shared": self.shared.to_dict(),
            "own": {category: threshold.to_dict() for category, threshold in self.own.items()},
            "metric": self.metric,
            "cross_validated": self.cross_validated,
            "plain": self.plain,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CategoryThresholds":
        """The thresholds that `to_dict` wrote.

        Raises:
            ProjectError: an entry is missing, unknown or not usable.
        """
        try:
            own = {str(category): Threshold.from_dict(entry) for category, entry in values["own"].items()}
            rest = {key: value for key, value in values.items() if key not in ("shared", "own")}
            return cls(shared=Threshold.from_dict(values["shared"]), own=own, **rest)
        except (TypeError, KeyError, AttributeError) as error:
            raise ProjectError(
                f"the recorded thresholds by category cannot be read ({error}). Train again, or run make_submission.py."
            ) from error


def tune_by_category(
    oof: "pd.DataFrame",
    labels: "pd.Series",
    categories: "pd.Series",
    metric: str,
    *,
    target_false_alarm: float = 0.01,
    seed: int = 0,
) -> CategoryThresholds | None:
    """Thresholds by category from out-of-fold predictions (`id`, `fold`, `score`); labels and categories by id.

    A category with four images of each class or more is tuned like the whole; one with fewer defects takes the normal
    quantile of its own normal images where it has 20 of them, and else the shared threshold. Where no defect is
    labelled at all, every category with 20 normal images takes their quantile.

    With labelled defects they are kept only if they are better in cross-validation (5 folds, stratified by category
    and class, 5 times): on average, and in 4 of the 5 repeats, so that luck in one split does not count.

    Returns:
        None where fewer than two categories are known, none can have its own threshold, or they are not better.

    Raises:
        ProjectError: as `tune_on_oof`.
    """
    known, truth = known_rows(oof, labels)
    scores = oof["score"].to_numpy(np.float64)[known]
    found = categories.reindex(oof["id"])[known]
    kinds = np.array([kind if isinstance(kind, str) else None for kind in found], dtype=object)
    if len({kind for kind in kinds if kind is not None}) < 2:
        return None
    own = _by_category(scores, truth, kinds, metric, target_false_alarm)
    if not own:
        return None
    shared = tune_threshold(scores, truth, metric, target_false_alarm=target_false_alarm)
    if not truth.any():
        return CategoryThresholds(shared=shared, own=own, metric="false_alarm_rate")
    name = tuned_metric(metric)
    pairs = _compare(scores, truth, kinds, name, target_false_alarm, seed)
    if pairs is None or np.sum(pairs[:, 0] > pairs[:, 1]) < _REPEATS - 1 or pairs[:, 0].mean() <= pairs[:, 1].mean():
        return None
    return CategoryThresholds(
        shared=shared, own=own, metric=name, cross_validated=float(pairs[:, 0].mean()), plain=float(pairs[:, 1].mean())
    )


def _rule(truth: np.ndarray) -> str | None:
    """How a category with these labels gets its threshold: "tune", "quantile", or None for the shared one."""
    if min(truth.sum(), (~truth).sum()) >= _EACH:
        return "tune"
    return "quantile" if (~truth).sum() >= _NORMALS else None


def _by_category(
    scores: np.ndarray, truth: np.ndarray, kinds: np.ndarray, metric: str, target_false_alarm: float
) -> dict[str, Threshold]:
    own = {}
    for kind in sorted({kind for kind in kinds if kind is not None}):
        rows = kinds == kind
        rule = _rule(truth[rows])
        if rule == "tune":
            own[kind] = tune_threshold(scores[rows], truth[rows], metric)
        elif rule == "quantile":
            own[kind] = normal_quantile(scores[rows & ~truth], target_false_alarm=target_false_alarm)
    return own


def _compare(
    scores: np.ndarray, truth: np.ndarray, kinds: np.ndarray, name: str, target_false_alarm: float, seed: int
) -> np.ndarray | None:
    """(repeats, 2) values of the metric, by category and shared, on held-out rows; None with too few rows to split."""
    if min(truth.sum(), (~truth).sum()) < 2:
        return None
    random = np.random.default_rng(seed)
    strata = [np.flatnonzero((kinds == kind) & (truth == label)) for kind in set(kinds) for label in (False, True)]
    strata = sorted((rows for rows in strata if len(rows)), key=lambda rows: rows[0])  # a set has no order
    # How each category gets its threshold is fixed by all of its rows: a fold takes a fifth of them away.
    rules = {kind: _rule(truth[kinds == kind]) for kind in set(kinds) if kind is not None}
    values = np.empty((_REPEATS, 2))
    for repeat in range(_REPEATS):
        shuffled = np.concatenate([random.permutation(rows) for rows in strata])
        fold = np.empty(len(scores), dtype=np.int64)
        fold[shuffled] = np.arange(len(scores)) % _FOLDS  # strata one after another: each spreads over all folds
        called = np.zeros((2, len(scores)), dtype=bool)
        for k in range(_FOLDS):
            train, held = fold != k, fold == k
            if not held.any() or not 0 < truth[train].sum() < train.sum():
                return None
            shared = best_cut(rank_scores(scores[train], truth[train]), name)[0]
            called[1, held] = scores[held] >= shared
            cuts = {
                kind: _cut(scores[own], truth[own], rule, name, target_false_alarm)
                for kind, rule in rules.items()
                if rule and len(truth[own := train & (kinds == kind)])
            }
            called[0, held] = scores[held] >= [cuts.get(kind, shared) for kind in kinds[held]]
        values[repeat] = [_value(name, decided, truth) for decided in called]
    return values


def _cut(scores: np.ndarray, truth: np.ndarray, rule: str, name: str, target_false_alarm: float) -> float:
    if rule == "tune":
        return best_cut(rank_scores(scores, truth), name)[0]
    return normal_cut(np.sort(scores[~truth]), target_false_alarm)[0]


def _value(name: str, called: np.ndarray, truth: np.ndarray) -> float:
    counts = (called & truth).sum(), (called & ~truth).sum(), (~called & truth).sum(), (~called & ~truth).sum()
    return float(CONFUSION_KERNELS[name](*counts))
