"""Learning a correction of counts from what the boxes of an image look like together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from src.boxes.class_rule import FEATURES, Correction

KINDS: tuple[Literal["ridge", "isotonic"], ...] = ("ridge", "isotonic")
_OFFSETS = np.round(np.arange(0.2, 0.81, 0.05), 2)


def fit_correction(
    kind: Literal["ridge", "isotonic"],
    features: np.ndarray,
    truth: np.ndarray,
    loss: Callable[[np.ndarray], np.ndarray],
) -> Correction:
    """A correction learned from (N, len(FEATURES)) and (N,) true counts, rounded as the loss likes best.

    ridge: least squares with a penalty chosen by leave-one-out. isotonic: the best rising function of the sum of
    all scores. Both are plain numbers, without the library that found them.
    """
    learned = _ridge(features, truth) if kind == "ridge" else _isotonic(features, truth)
    raw = learned.raw(features)
    losses = np.array([loss(np.floor(raw + offset) - truth).sum() for offset in _OFFSETS])
    # Rounding to the nearest stands unless another offset is clearly better; of equally good ones the middle.
    usual = losses[np.argmin(np.abs(_OFFSETS - 0.5))]
    if losses.min() < usual - 0.5 - 0.1 * np.sqrt(usual):
        good = np.flatnonzero(losses == losses.min())
        return Correction(**(vars(learned) | {"offset": float(_OFFSETS[good[len(good) // 2]])}))
    return learned


def _ridge(features: np.ndarray, truth: np.ndarray) -> Correction:
    from sklearn.linear_model import RidgeCV

    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    model = RidgeCV(alphas=np.logspace(-1, 3, 9)).fit((features - mean) / spread, truth)
    weights = model.coef_ / spread
    return Correction("ridge", bias=float(model.intercept_ - mean @ weights), weights=tuple(weights))


def _isotonic(features: np.ndarray, truth: np.ndarray) -> Correction:
    from sklearn.isotonic import IsotonicRegression

    sums = features[:, FEATURES.index("score_sum")]
    model = IsotonicRegression(y_min=0.0, out_of_bounds="clip").fit(sums, truth)
    return Correction("isotonic", x=tuple(model.X_thresholds_), y=tuple(model.y_thresholds_))
