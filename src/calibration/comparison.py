"""Comparing ways of answering on the same rows: answers held out of their own tuning, and how sure a gain is.

A choice between two ways (one threshold or two, one scale or another) is made on values that neither was tuned
on, and the new way is taken only where it gains more than one standard error: the simpler one wins a draw
(Breiman et al., "Classification and Regression Trees", 1984, chapter 3: the 1 SE rule).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from src.calibration.threshold import tune_threshold
from src.metrics.ranking import CONFUSION_KERNELS, RANKING_KERNELS, UndefinedMetric
from src.metrics.registry import METRICS, get_metric

FOLDS = 5
REPEATS = 3  # ways of drawing the folds; their mean is what is compared
_CELLS = 4_000_000  # resamples × rows handled at once
CLASS_METRICS = ("macro_f1", "accuracy", "balanced_accuracy")


def image_metric(metric: str) -> str:
    """The metric of images by which to compare: the one named, or AUROC where that one is of maps or masks."""
    name = get_metric(metric).name
    return name if name in RANKING_KERNELS or name in CONFUSION_KERNELS else "auroc"


def class_metric(metric: str) -> str:
    """The metric of several classes by which to compare: the one named, or macro-F1 where that one knows two only."""
    name = get_metric(metric).name
    return name if name in CLASS_METRICS else "macro_f1"


def deal_folds(strata: Any, *, repeats: int = REPEATS, seed: int = 0) -> np.ndarray:
    """(repeats, N) folds 0 … FOLDS-1, drawn anew for each repeat; each stratum is spread evenly (± 1 row a fold)."""
    _, number = np.unique(np.asarray(strata).astype(str), return_inverse=True)
    random = np.random.default_rng(seed)
    folds = np.empty((repeats, len(number)), dtype=np.int64)
    for repeat in range(repeats):
        order = random.permutation(len(number))
        order = order[np.argsort(number[order], kind="stable")]
        folds[repeat, order] = np.arange(len(number)) % FOLDS
    return folds


def held_out_answers(
    scored: Callable[[np.ndarray], np.ndarray], labels: np.ndarray, metric: str, folds: np.ndarray
) -> np.ndarray:
    """(R, N) answers of rows that took no part in what they were answered by.

    Args:
        scored: from a bool (N,) of the rows that may be learnt from to (N,) scores of all rows.
        labels: (N,) bool, true = anomalous.
        metric: of scores (the answers are the scores) or of decisions (scores at the threshold that
            `tune_threshold` finds on the other folds; bool).
        folds: (R, N), from `deal_folds`.

    Raises:
        UndefinedMetric: fewer than two rows of a class, so that some fold would be tuned without one.
    """
    decides = METRICS[metric].needs == "label"
    if min(int(labels.sum()), int((~labels).sum())) < 2:
        raise UndefinedMetric(f"{metric}: comparing out of fold needs two normal and two anomalous rows or more.")
    answers = np.zeros(folds.shape, dtype=bool if decides else np.float64)
    for row, split in enumerate(folds):
        for fold in np.unique(split):
            held = split == fold
            scores = scored(~held)
            if decides:
                threshold = tune_threshold(scores[~held], labels[~held], metric).value
                answers[row, held] = scores[held] >= threshold
            else:
                answers[row, held] = scores[held]
    return answers


def fixed_answers(scores: np.ndarray, labels: np.ndarray, metric: str, folds: np.ndarray) -> np.ndarray:
    """`held_out_answers` of scores that learn nothing: (1, N) for a metric of scores, which needs no folds."""
    if METRICS[metric].needs != "label":
        return np.asarray(scores, dtype=np.float64)[None]
    return held_out_answers(lambda train: scores, labels, metric, folds)


def mean_value(metric: str, answers: np.ndarray, truth: np.ndarray) -> float | None:
    """The metric averaged over the repeats of (R, N) answers; None where it is undefined."""
    values = [METRICS[metric].value(repeat, truth) for repeat in answers]
    return None if None in values else float(np.mean(values))


def paired_gains(
    metric: str, first: np.ndarray, second: np.ndarray, truth: np.ndarray, *, n: int = 1000, seed: int = 0
) -> np.ndarray:
    """(n,) metric(second) - metric(first) of resampled rows, both on the same draw (Efron, 1979).

    `first` and `second` are (R, N) answers: float scores or bool decisions with bool truth, or int classes with int
    truth; the metric is averaged over repeats. Normal and anomalous rows are drawn apart, so that every resample has
    both; rows of several classes are drawn together. What tuned the answers is held fixed.
    """
    random = np.random.default_rng(seed)
    step = max(1, _CELLS // len(truth))
    gains = []
    for start in range(0, n, step):
        draws = _draws(truth, min(step, n - start), random)
        after, before = (
            np.mean([_resampled(metric, repeat, truth, draws) for repeat in answers], axis=0)
            for answers in (second, first)
        )
        gains.append(after - before)
    return np.concatenate(gains)


def clear_gain(gain: float | None, gains: np.ndarray) -> bool:
    """Whether a gain exceeds its standard error, the standard deviation of its resamples."""
    return gain is not None and gain > max(float(gains.std()), 1e-9)


def class_values(metric: str, hits: np.ndarray, truth: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """(K,) metric from counts (K, C) a class: right rows, rows of the truth (K or 1, C), rows answered so.

    Values equal `src.metrics.anomaly`'s: macro_f1 averages over the classes that occur in truth or answers,
    balanced_accuracy over those of the truth.
    """
    if metric == "accuracy":
        return hits.sum(axis=1) / np.maximum(truth.sum(axis=1), 1)
    if metric == "balanced_accuracy":
        return (hits / np.maximum(truth, 1)).sum(axis=1) / np.maximum((truth > 0).sum(axis=1), 1)
    both = truth + answered
    return (2 * hits / np.maximum(both, 1)).sum(axis=1) / np.maximum((both > 0).sum(axis=1), 1)


def _draws(truth: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
    """(n, N) how often each row is drawn."""
    draws = np.zeros((n, len(truth)), dtype=np.int64)
    parts = [truth, ~truth] if truth.dtype == bool else [np.ones(len(truth), dtype=bool)]
    for part in parts:
        rows = int(part.sum())
        if rows:
            draws[:, part] = random.multinomial(rows, np.full(rows, 1 / rows), size=n)
    return draws


def _resampled(metric: str, answers: np.ndarray, truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(n,) metric of N rows, each counted as often as drawn."""
    if truth.dtype != bool:
        classes = np.arange(int(max(truth.max(), answers.max())) + 1)
        is_true, is_called = (values[:, None] == classes for values in (truth, answers))
        weights = draws.astype(np.float32)  # whole numbers below 2^24: exact
        tables = (is_true & is_called, is_true, is_called)
        counts = [(weights @ table.astype(np.float32)).astype(np.float64) for table in tables]
        return class_values(metric, *counts)
    if answers.dtype == bool:
        cells = np.stack([answers & truth, answers & ~truth, ~answers & truth, ~answers & ~truth], axis=1)
        return CONFUSION_KERNELS[metric](*(draws @ cells.astype(np.int64)).T)
    order = np.argsort(answers, kind="stable")
    starts = np.flatnonzero(np.diff(answers[order], prepend=np.nan) != 0)
    counts = [
        np.add.reduceat(draws[:, order] * part[order].astype(np.int64), starts, axis=1) for part in (truth, ~truth)
    ]
    return RANKING_KERNELS[metric](*counts)
