"""How class probabilities become a class: the likeliest, or first whether anything is wrong, then what.

`argmax` trusts the probabilities. `gated` lets the anomaly score decide between the normal and the defect classes,
at a threshold tuned for the metric, and the probabilities choose within: it helps where defects are rare in training,
so that their probabilities are low though the score ranks them well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from src.calibration.comparison import (
    FOLDS,
    class_metric,
    class_values,
    clear_gain,
    deal_folds,
    mean_value,
    paired_gains,
)
from src.errors import ProjectError
from src.metrics.ranking import check_labels, check_scores

EXACT = 2000  # candidate thresholds tried; of more, as many spread evenly


@dataclass(frozen=True)
class ClassRule:
    """A rule from (N, C) probabilities and (N,) scores to classes.

    kind: argmax: the likeliest class. gated: score >= threshold → the likeliest defect class, else the likeliest
        normal one.
    threshold: of a gated rule, on the scale of the scores that it was tuned on; None for argmax.
    value: the metric of this rule on rows held out of its tuning; None where it is undefined or was not measured.
    plain: argmax's. gated: the gated rule's held-out value, also where argmax was kept; None where it was not tried.
    metric: which metric that is.
    """

    kind: Literal["argmax", "gated"]
    threshold: float | None = None
    value: float | None = None
    plain: float | None = None
    gated: float | None = None
    metric: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("argmax", "gated"):
            raise ProjectError(f"a class rule is 'argmax' or 'gated', found {self.kind!r}.")
        finite = isinstance(self.threshold, (int, float)) and np.isfinite(self.threshold)
        if finite != (self.kind == "gated"):
            raise ProjectError(f"a gated rule has a finite threshold and argmax none, found {self.threshold!r}.")

    def decide(self, probs: Any, scores: Any, normal: Any, allowed: Any = None) -> np.ndarray:
        """(N,) int64 classes.

        Args:
            probs: (N, C), finite; of equal ones the first class wins.
            scores: (N,), higher = more anomalous; argmax does not look at them.
            normal: (C,) bool, the classes that mean "nothing wrong".
            allowed: (N, C) bool, the classes that an image can have, those of its category for example; all where
                None. An image with only one kind of allowed classes gets its likeliest, whatever its score.

        Raises:
            ProjectError: shapes that do not fit, a probability that is not finite, or an image with no allowed class.
        """
        table, sound = _masked(probs, normal, allowed)
        if self.kind == "argmax" or not len(table):
            return table.argmax(axis=1)
        values = check_scores(scores)
        if len(values) != len(table):
            raise ProjectError(f"{len(table)} rows of probabilities but {len(values)} scores: they must pair up.")
        best_normal, best_defect = _two_choices(table, sound)
        return np.where(values >= self.threshold, best_defect, best_normal)

    def to_dict(self) -> dict[str, Any]:
        """Plain scalars, for metrics.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ClassRule":
        """The rule that `to_dict` wrote.

        Raises:
            ProjectError: an entry is missing, unknown or not usable.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ProjectError(
                f"the recorded class rule cannot be read ({error}). Train again, or run make_submission.py."
            ) from error


def tune_class_rule(
    probs: Any,
    scores: Any,
    truth: Any,
    normal: Any,
    metric: str,
    *,
    classes: Sequence[str],
    seed: int = 0,
    allowed: Any = None,
) -> ClassRule:
    """The rule for (N, C) out-of-fold probabilities, (N,) scores and (N,) true classes.

    gated only where it is better on held-out rows (folds even over classes, its threshold tuned on the others) by
    more than the gain's standard error; argmax otherwise. A metric that knows two classes only (f1, auroc, …) is
    replaced by macro-F1. The threshold maximises the metric over all midpoints between neighbouring scores, over
    2000 spread evenly where there are more.

    Raises:
        ProjectError: no rows, shapes that do not fit, a true class outside 0 … C-1, or values that are not finite.
    """
    return held_out_classes(probs, scores, truth, normal, metric, classes=classes, seed=seed, allowed=allowed)[0]


def held_out_classes(
    probs: Any,
    scores: Any,
    truth: Any,
    normal: Any,
    metric: str,
    *,
    classes: Sequence[str],
    seed: int = 0,
    allowed: Any = None,
) -> tuple[ClassRule, np.ndarray]:
    """`tune_class_rule`'s rule, and (R, N) classes that it gives to rows held out of its tuning."""
    name = class_metric(metric)
    table, sound = _masked(probs, normal, allowed)
    values, target = check_scores(scores), _checked_truth(truth, table, classes)
    if len(values) != len(table):
        raise ProjectError(f"{len(table)} rows of probabilities but {len(values)} scores: they must pair up.")
    likeliest = table.argmax(axis=1)[None]
    plain = mean_value(name, likeliest, target)
    kept = ClassRule("argmax", value=plain, plain=plain, metric=name)
    choices = _two_choices(table, sound)
    if plain is None or np.array_equal(*choices) or len(target) < 2 * FOLDS:
        return kept, likeliest
    folds = deal_folds(target, seed=seed)
    answers = np.empty(folds.shape, dtype=np.int64)
    for row, split in enumerate(folds):
        for fold in np.unique(split):
            held = split == fold
            threshold = _best_threshold(*(part[~held] for part in (*choices, values, target)), len(classes), name)
            answers[row, held] = np.where(values[held] >= threshold, choices[1][held], choices[0][held])
    gated = mean_value(name, answers, target)
    assert gated is not None  # defined wherever argmax's is: both depend on the truth alone
    if not clear_gain(gated - plain, paired_gains(name, likeliest, answers, target, n=500, seed=seed)):
        return ClassRule("argmax", value=plain, plain=plain, gated=gated, metric=name), likeliest
    threshold = _best_threshold(*choices, values, target, len(classes), name)
    return ClassRule("gated", threshold, value=gated, plain=plain, gated=gated, metric=name), answers


def _best_threshold(
    best_normal: np.ndarray, best_defect: np.ndarray, scores: np.ndarray, truth: np.ndarray, classes: int, metric: str
) -> float:
    """The threshold with the highest metric; of equally good ones the one in the widest gap between scores."""
    values, group = np.unique(scores, return_inverse=True)
    # Cut k calls groups k and up defective; the first calls all so, the last none.
    cuts = np.arange(len(values) + 1)
    if len(cuts) > EXACT:
        cuts = np.unique(np.linspace(0, len(values), EXACT).round().astype(np.int64))
    # A row is called defective by the first `called` cuts. From cut to cut it moves once, so counts are running sums.
    called = np.searchsorted(cuts, group, side="right")

    def counts(defect: np.ndarray, sound: np.ndarray, weight_defect: Any, weight_sound: Any) -> np.ndarray:
        steps = np.zeros((len(cuts) + 1, classes), dtype=np.int64)
        np.add.at(steps, (0, defect), weight_defect)
        np.add.at(steps, (called, defect), -weight_defect)
        np.add.at(steps, (called, sound), weight_sound)
        return steps.cumsum(axis=0)[:-1]

    ones = np.ones(len(truth), dtype=np.int64)
    answered = counts(best_defect, best_normal, ones, ones)
    hits = counts(truth, truth, (best_defect == truth) * ones, (best_normal == truth) * ones)
    value = class_values(metric, hits, np.bincount(truth, minlength=classes)[None], answered)
    best = value >= value.max() - 1e-12  # sums in another order must not break a tie
    gaps = np.concatenate([[0.0], np.diff(values), [0.0]])[cuts]
    cut = int(cuts[np.argmax(np.where(best, gaps, -1.0))])
    if 0 < cut < len(values):
        middle = float(values[cut - 1] + (values[cut] - values[cut - 1]) / 2)
        return middle if middle > values[cut - 1] else float(values[cut])
    reach = float(values[-1] - values[0]) or abs(float(values[0])) or 1.0  # all or none: well beyond the scores
    return float(values[0] - reach) if cut == 0 else float(values[-1] + reach)


def _two_choices(table: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) likeliest normal and (N,) likeliest defect class; the same one where only one kind is allowed."""
    either = table.argmax(axis=1)
    choices = []
    for kind in (normal, ~normal):
        part = np.where(kind, table, -np.inf)
        found = np.isfinite(part).any(axis=1)
        choices.append(np.where(found, part.argmax(axis=1), either))
    return choices[0], choices[1]


def _masked(probs: Any, normal: Any, allowed: Any) -> tuple[np.ndarray, np.ndarray]:
    """((N, C) probabilities, -inf where not allowed; (C,) bool normal classes), both checked."""
    table = np.array(probs, dtype=np.float64)
    sound = check_labels(normal, what="mark of a normal class")
    if table.ndim != 2 or table.shape[1] != len(sound):
        raise ProjectError(f"probabilities have shape {table.shape}; expected a row an image of {len(sound)} classes.")
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise ProjectError(
            f"the probabilities at index {row} are not finite. Predict again in trainer.precision=32-true."
        )
    if allowed is not None:
        mask = np.asarray(allowed, dtype=bool)
        if mask.shape != table.shape:
            raise ProjectError(
                f"allowed classes have shape {mask.shape}, probabilities {table.shape}: they must agree."
            )
        if not mask.any(axis=1).all():
            raise ProjectError(
                f"no class is allowed at index {int(np.flatnonzero(~mask.any(axis=1))[0])}: allow one or more."
            )
        table[~mask] = -np.inf
    return table, sound


def _checked_truth(truth: Any, table: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    target = np.asarray(truth)
    if target.shape != table.shape[:1] or target.dtype.kind not in "iu":
        raise ProjectError(f"true classes have shape {target.shape} ({target.dtype}); expected {len(table)} integers.")
    if len(classes) != table.shape[1]:
        raise ProjectError(f"{len(classes)} class names but {table.shape[1]} probabilities a row: they must pair up.")
    outside = (target < 0) | (target >= len(classes))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise ProjectError(f"the class at index {row} is {target[row]}; expected 0 to {len(classes) - 1}.")
    return target.astype(np.int64)
