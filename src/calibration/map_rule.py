"""How an anomaly map and the model's own score become the final map and score; the choice is learnt out of fold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import cv2
import numpy as np

from src.calibration.threshold import tune_threshold
from src.errors import ProjectError, nearest
from src.metrics.ranking import check_labels, check_scores
from src.metrics.registry import get_metric

SCORES = ("model", "max", "top")
SIGMAS = (0.0, 2.0, 4.0, 8.0)  # candidates, pixels of a map whose shorter side has _REFERENCE_SIDE
SHARES = (0.001, 0.01, 0.05)
FEWEST = 5  # labelled images of each class; below, nothing can be said of a rule
_REFERENCE_SIDE = 256
_PARTS, _REPEATS = 5, 10
_MARGIN = 1.5  # standard errors of the gain; of 17 equally good rules about one table in twenty then names one

Maps = Callable[[int], np.ndarray | None] | Sequence[np.ndarray | None]


@dataclass(frozen=True)
class MapRule:
    """Smoothing of a map, and what of the map is the image's score.

    sigma: of a Gaussian, in pixels of the map; 0 leaves the map as it is.
    score: "model": the network's own score stands; "max": the highest pixel of the smoothed map; "top": the mean of
        its highest pixels, `share` of all (at least one).
    metric, cross_validated, plain: what the rule was tuned for, the metric's value under cross-validation of rules
        tuned on the other parts, and the value of the model's own scores on the same parts. None for a rule that was
        given.

    Raises:
        ProjectError: a value that is not usable; names the entry.
    """

    sigma: float = 0.0
    score: Literal["model", "max", "top"] = "model"
    share: float | None = None
    metric: str | None = field(default=None, compare=False)
    cross_validated: float | None = field(default=None, compare=False)
    plain: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not _is_number(self.sigma) or self.sigma < 0:
            raise ProjectError(f"map rule: sigma must be a number of pixels from 0, not {self.sigma!r}.")
        if self.score not in SCORES:
            raise ProjectError(
                f"map rule: score={self.score!r} is not known.{nearest(str(self.score), SCORES)} "
                f"Known: {', '.join(SCORES)}."
            )
        if self.score == "top" and not (_is_number(self.share) and 0 < self.share <= 1):
            raise ProjectError(f"map rule: score=top needs share, above 0 and up to 1 (say 0.01), not {self.share!r}.")
        if self.score != "top" and self.share is not None:
            raise ProjectError(f"map rule: share={self.share!r} belongs to score=top; leave it out of {self.score}.")

    def map(self, plane: np.ndarray) -> np.ndarray:
        """An anomaly map (H, W) as it is kept: smoothed, float32."""
        return smooth(plane, self.sigma)

    def score_of(self, plane: np.ndarray, model_score: float) -> float:
        """The image's score from its raw map (H, W), not yet smoothed, and the network's own score."""
        return float(model_score) if self.score == "model" else self._of_smoothed(self.map(plane))

    def apply(self, plane: np.ndarray, model_score: float) -> tuple[np.ndarray, float]:
        """`map` and `score_of` with one smoothing."""
        smoothed = self.map(plane)
        return smoothed, float(model_score) if self.score == "model" else self._of_smoothed(smoothed)

    def _of_smoothed(self, smoothed: np.ndarray) -> float:
        return float(_top_means(smoothed, [self.pixels(smoothed.size)])[0])

    def pixels(self, size: int) -> int:
        """How many of a map's `size` pixels the score is the mean of."""
        return 1 if self.share is None else max(1, round(self.share * size))

    def to_dict(self) -> dict[str, Any]:
        """Plain scalars, for metrics.json and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MapRule:
        """The rule that `to_dict` wrote, or that a configuration gives by sigma, score and share.

        Raises:
            ProjectError: an entry is unknown or not usable.
        """
        known = [each.name for each in fields(cls)]
        for name in values:
            if name not in known:
                raise ProjectError(f"map rule: {name} is not known.{nearest(name, known)} Known: {', '.join(known)}.")
        return cls(**values)


def default_candidates(shape: tuple[int, int]) -> list[MapRule]:
    """What is tried for maps of (height, width): four widths of smoothing, with the maximum and three top shares.

    The widths are SIGMAS for a shorter side of 256 pixels, and in proportion for others.
    """
    unit = min(shape) / _REFERENCE_SIDE
    kinds: list[tuple[Any, float | None]] = [("max", None), *(("top", share) for share in SHARES)]
    return [MapRule(round(sigma * unit, 3), score, share) for sigma in SIGMAS for score, share in kinds]


def tune_map_rule(
    maps: Maps,
    model_scores: Any,
    labels: Any,
    metric: str,
    *,
    candidates: Sequence[MapRule] | None = None,
    seed: int = 0,
) -> MapRule | None:
    """The rule that serves `metric` best on out-of-fold rows; None where the model's own score stands.

    Each map is read once. Under five-fold cross-validation, stratified by label and repeated ten times, a rule is
    chosen on four parts (the model's own score is among the choices) and measured on the fifth beside the model's own
    score. The rule chosen on all rows is taken if the mean gain exceeds 1.5 standard errors of it, which are corrected
    for the overlap of the parts (Nadeau and Bengio 2003, "Inference for the generalization error", section 3).

    Metrics of scores are measured as they are. Metrics of decisions at a threshold that is tuned on the same four
    parts; precision and recall alone would name a rule that says one thing of every image, so F1 stands in for them.
    Metrics of maps or masks say nothing of an image's score: None.

    Args:
        maps: a sequence, or a function from the row to its map (H, W); rows without a map (None) do not take part.
        model_scores: (N,) the networks' own scores, higher is more anomalous.
        labels: (N,) 0 normal, 1 anomalous; missing where unknown: those rows do not take part.
        candidates: rules to try; None are `default_candidates` of the first map.
        seed: of the parts.

    Raises:
        ProjectError: numbers of rows that differ, a score that is not finite, a label that is not 0 or 1.
    """
    objective = _Objective.of(metric)
    model = check_scores(model_scores)
    truth = list(np.asarray(labels, dtype=object))
    if len(truth) != len(model):
        raise ProjectError(f"{len(model)} scores but {len(truth)} labels: they must pair up.")
    known = np.flatnonzero([not _is_missing(label) for label in truth])
    anomalous = check_labels([truth[row] for row in known])
    if objective is None or min(anomalous.sum(), (~anomalous).sum()) < FEWEST:
        return None
    rules, rows, table = _score_table(maps, known, candidates)
    anomalous = anomalous[np.searchsorted(known, rows)]
    if not rules or min(anomalous.sum(), (~anomalous).sum()) < FEWEST:
        return None
    table = np.column_stack([model[rows], table])
    chosen = objective.best(table, anomalous)
    if chosen == 0:
        return None
    gained, plain = _cross_validate(table, anomalous, objective, seed=seed)
    if not _is_gain(gained - plain):
        return None
    best = rules[chosen - 1]
    return MapRule(best.sigma, best.score, best.share, objective.name, float(gained.mean()), float(plain.mean()))


def smooth(plane: np.ndarray, sigma: float) -> np.ndarray:
    """A map (H, W) as float32 under a Gaussian cut at 4 sigma, borders reflected; the input is kept.

    The same as the networks' own smoothing (`src.models.anomaly.maps.GaussianBlur`), but for maps of any size.
    """
    full = np.asarray(plane, dtype=np.float32)
    side = 2 * int(4 * sigma + 0.5) + 1
    if side == 1:
        return full
    return cv2.GaussianBlur(full, (side, side), sigmaX=sigma, sigmaY=sigma, borderType=cv2.BORDER_REFLECT_101)


def _top_means(plane: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Mean of the highest pixels of a map, for each number of them."""
    flat, largest = plane.ravel(), max(counts)
    if largest == 1:
        return np.array([flat.max()], dtype=np.float64)
    top = np.partition(flat, flat.size - largest)[flat.size - largest :]
    sums = np.cumsum(np.sort(top)[::-1], dtype=np.float64)
    return np.array([sums[count - 1] / count for count in counts])


def _score_table(
    maps: Maps, rows: np.ndarray, candidates: Sequence[MapRule] | None
) -> tuple[list[MapRule], np.ndarray, np.ndarray]:
    """(rules, those of the rows that have a map, their scores under each rule); each map is read once."""
    rules = None if candidates is None else [rule for rule in candidates if rule.score != "model"]
    found, table = [], []
    for row, plane in _read(maps, rows):
        if rules is None:
            rules = default_candidates(plane.shape)
        found.append(row)
        table.append(_scores_of(plane, rules))
    rules = rules or []
    return rules, np.array(found, dtype=np.int64), np.array(table).reshape(len(found), len(rules))


def _read(maps: Maps, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    read = maps if callable(maps) else maps.__getitem__
    for row in rows.tolist():
        plane = read(row)
        if plane is not None:
            yield row, np.asarray(plane)


def _scores_of(plane: np.ndarray, rules: Sequence[MapRule]) -> np.ndarray:
    """The scores of a map under each rule, one smoothing and one partition a width."""
    scores, full = np.empty(len(rules)), np.asarray(plane, dtype=np.float32)
    for sigma in {rule.sigma for rule in rules}:
        mine = [index for index, rule in enumerate(rules) if rule.sigma == sigma]
        scores[mine] = _top_means(smooth(full, sigma), [rules[index].pixels(full.size) for index in mine])
    return scores


@dataclass(frozen=True)
class _Objective:
    """What a column of scores is worth; higher is better. `decides`: at a threshold tuned on other rows."""

    name: str
    decides: bool

    @classmethod
    def of(cls, metric: str) -> _Objective | None:
        """None for metrics that look at pixels, not at an image's score."""
        found = get_metric(metric)
        if found.needs == "label":
            return cls("f1" if found.name in ("precision", "recall") else found.name, True)
        return cls(found.name, False) if found.needs == "score" else None

    def best(self, table: np.ndarray, anomalous: np.ndarray) -> int:
        """The column that is best on its own rows, of equal ones the first."""
        return int(np.argmax([round(self._fitted(column, anomalous), 12) for column in table.T]))

    def _fitted(self, scores: np.ndarray, anomalous: np.ndarray) -> float:
        if self.decides:
            return float(tune_threshold(scores, anomalous, self.name).score or 0.0)
        return float(get_metric(self.name).function(scores, anomalous))

    def measured(self, scores: np.ndarray, anomalous: np.ndarray, tuning: np.ndarray) -> float:
        """The value on the rows that are not of `tuning` (N, bool)."""
        if not self.decides:
            return float(get_metric(self.name).function(scores[~tuning], anomalous[~tuning]))
        threshold = tune_threshold(scores[tuning], anomalous[tuning], self.name).value
        return float(get_metric(self.name).function(scores[~tuning] >= threshold, anomalous[~tuning]))


def _cross_validate(
    table: np.ndarray, anomalous: np.ndarray, objective: _Objective, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(values of the columns chosen on the other parts, values of column 0), one of each for every part."""
    gained, plain = [], []
    for held_out in _parts(anomalous, seed=seed):
        tuning = ~held_out
        chosen = objective.best(table[tuning], anomalous[tuning])
        plain.append(objective.measured(table[:, 0], anomalous, tuning))
        gained.append(plain[-1] if chosen == 0 else objective.measured(table[:, chosen], anomalous, tuning))
    return np.array(gained), np.array(plain)


def _parts(anomalous: np.ndarray, *, seed: int) -> Iterator[np.ndarray]:
    """(N,) bool of the held-out rows, _REPEATS × _PARTS times; each class is spread evenly."""
    generator = np.random.default_rng(seed)
    for _ in range(_REPEATS):
        part = np.empty(len(anomalous), dtype=np.int64)
        for kind in (anomalous, ~anomalous):
            part[generator.permutation(np.flatnonzero(kind))] = np.arange(kind.sum()) % _PARTS
        for number in range(_PARTS):
            yield part == number


def _is_gain(gains: np.ndarray) -> bool:
    """Whether the mean gain exceeds _MARGIN of its standard errors, corrected for the parts' overlap."""
    error = math.sqrt((1 / len(gains) + 1 / (_PARTS - 1)) * gains.var(ddof=1))
    return bool(gains.mean() > max(_MARGIN * error, 1e-9))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_missing(label: Any) -> bool:
    return label is None or type(label).__name__ == "NAType" or (isinstance(label, float) and math.isnan(label))
