"""From boxes to numbers of objects: a rule for each class, tuned on out-of-fold predictions for a count metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from src.boxes.class_rule import ClassRule, Correction, features_of
from src.boxes.count_correction import KINDS, fit_correction
from src.boxes.count_curves import ClassBoxes, loss_of, threshold_grid
from src.boxes.count_search import Search
from src.boxes.types import Detections
from src.errors import ProjectError
from src.metrics.counting import COUNT_METRICS, check_counts

FEWEST_IMAGES = 10  # below, nothing can be said of a tuned rule
_FEWEST_OBJECTS = 20  # of a class, for a learned correction


@dataclass(frozen=True)
class CountRule:
    """How the objects of each class are counted. `summary` says what tuning brought (see `tune_count_rule`)."""

    classes: tuple[str, ...]
    rules: tuple[ClassRule, ...]
    summary: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        object.__setattr__(self, "rules", tuple(self.rules))
        if len(self.classes) != len(self.rules):
            raise ProjectError(f"a count rule for {len(self.classes)} classes has {len(self.rules)} entries.")

    @classmethod
    def plain(cls, classes: Sequence[str], threshold: float = 0.5) -> CountRule:
        """Boxes with a score of at least `threshold`, whatever the class."""
        return cls(tuple(classes), tuple(ClassRule(threshold=threshold) for _ in classes))

    def keep(self, det: Detections, size: tuple[int, int]) -> Detections:
        """The boxes that are taken for objects, surest first; `size` is the image's (width, height) in pixels.

        A learned correction names a number, not boxes: where a class has one, `count` may differ from what is kept.
        """
        return self.keep_all([det], [size])[0]

    def keep_all(self, predictions: Sequence[Detections], sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """`keep` of each image."""
        parts = class_boxes(predictions, np.zeros((len(predictions), len(self.classes))), sizes)
        taken = [
            part.candidates(rule) & (part.scores >= rule.threshold)
            for part, rule in zip(parts, self.rules, strict=True)
        ]
        labels = np.concatenate([item.labels for item in predictions] or [np.zeros(0, np.int64)])
        scores = np.concatenate([item.scores for item in predictions] or [np.zeros(0)])
        keep = np.zeros(len(labels), bool)
        keep[_class_order(labels, scores)] = np.concatenate(taken) if taken else []
        ends = np.cumsum([len(item) for item in predictions])[:-1]
        surest = [np.argsort(-item.scores, kind="stable") for item in predictions]
        mine = np.split(keep, ends) if predictions else []
        return [item.select(order[k[order]]) for item, order, k in zip(predictions, surest, mine, strict=True)]

    def count(self, det: Detections, size: tuple[int, int]) -> np.ndarray:
        """(C,) int64 objects of each class; `size` is the image's (width, height) in pixels."""
        return self.count_all([det], [size])[0]

    def count_all(self, predictions: Sequence[Detections], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
        """(N, C) int64 objects of each class in each image."""
        parts = class_boxes(predictions, np.zeros((len(predictions), len(self.classes))), sizes)
        columns = [_count(part, rule) for part, rule in zip(parts, self.rules, strict=True)]
        return np.column_stack(columns) if columns else np.zeros((len(predictions), 0), np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and texts, for JSON."""
        rules = [rule.to_dict() for rule in self.rules]
        return {"classes": list(self.classes), "rules": rules, "summary": self.summary}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CountRule:
        """The rule that `to_dict` wrote.

        Raises:
            ProjectError: an entry is missing, unknown or not usable.
        """
        try:
            rules = [ClassRule.from_dict(rule) for rule in values["rules"]]
            return cls(tuple(values["classes"]), tuple(rules), dict(values.get("summary", {})))
        except KeyError as error:
            raise ProjectError(f"the recorded count rule has no {error}. Tune it again.") from error


def tune_count_rule(
    predictions: Sequence[Detections],
    truth_counts: Any,
    sizes: Sequence[tuple[int, int]],
    *,
    classes: Sequence[str],
    metric: str = "count_exact",
    folds: int = 5,
    seed: int = 0,
) -> CountRule:
    """The count rule for a metric, from out-of-fold predictions of N images, their (N, C) true counts and
    (width, height) sizes.

    Each class gets a score threshold, suppression, and limits of area that lower the metric's loss (`count_search`);
    a learned correction comes on top where it lowers the loss of images left out of its fitting by more than two
    standard errors. All is judged by `folds`-fold cross-validation over images, and the simplest rule stands unless
    a further step is better there. count_exact_image is tuned through count_exact.

    The rule's `summary`: metric; images; folds; plain (the metric at threshold 0.5), tuned, corrected (both
    cross-validated; the correction's choice was made on the same folds, so it may flatter a little); tuned_in_sample;
    chosen: plain, tuned or corrected; corrected_classes; per_class {name: {plain, tuned, corrected, objects}} (of
    the metric over that class alone).

    Raises:
        ProjectError: not a count metric, lengths that differ, counts that are not whole, a label that is no class.
    """
    loss = loss_of(metric)
    classes = tuple(map(str, classes))
    _, counts = check_counts(truth_counts, truth_counts)
    if counts.shape != (len(predictions), len(classes)) or len(sizes) != len(predictions):
        raise ProjectError(
            f"{len(predictions)} predictions, {len(sizes)} sizes, counts of shape {counts.shape} and {len(classes)} "
            "classes: expected one size and one row of counts an image, one column a class."
        )
    parts = class_boxes(predictions, counts, sizes)
    plain_rules = [ClassRule() for _ in classes]
    plain = _counts(parts, plain_rules)
    summary: dict[str, Any] = {"metric": metric, "images": len(counts), "plain": COUNT_METRICS[metric](plain, counts)}
    if len(counts) < FEWEST_IMAGES:
        return CountRule(classes, tuple(plain_rules), summary | {"chosen": "plain", "folds": 0})

    folds = min(folds, len(counts))
    fold = np.random.default_rng(seed).permutation(np.arange(len(counts)) % folds)
    subsets = np.stack([np.ones(len(counts)), *(fold != index for index in range(folds))]).astype(float)
    grid = threshold_grid(np.concatenate([part.scores for part in parts]))
    search = Search(parts, loss, grid, subsets)

    held_out = {name: np.zeros_like(counts) for name in ("tuned", *KINDS)}
    for index in range(folds):
        for label, (part, rule) in enumerate(zip(parts, search.rules(index + 1), strict=True)):
            inside, outside = fold != index, fold == index
            features = _features(part, rule)
            held_out["tuned"][outside, label] = features[outside, 0]
            for kind in KINDS:
                enough = counts[inside, label].sum() >= _FEWEST_OBJECTS
                learned = fit_correction(kind, features[inside], counts[inside, label], loss) if enough else None
                held_out[kind][outside, label] = _count_features(features[outside], learned)
    kinds = [_worthwhile(held_out, counts, label, loss) for label in range(len(classes))]
    corrected = np.column_stack([held_out[kind or "tuned"][:, label] for label, kind in enumerate(kinds)])

    rules = search.rules(0)
    value = COUNT_METRICS[metric]
    summary |= {
        "folds": folds,
        "tuned": value(held_out["tuned"], counts),
        "corrected": value(corrected, counts),
        "tuned_in_sample": value(_counts(parts, rules), counts),
        "corrected_classes": [name for name, kind in zip(classes, kinds, strict=True) if kind],
        "per_class": {
            name: {
                "plain": value(plain[:, label], counts[:, label]),
                "tuned": value(held_out["tuned"][:, label], counts[:, label]),
                "corrected": value(corrected[:, label], counts[:, label]),
                "objects": int(counts[:, label].sum()),
            }
            for label, name in enumerate(classes)
        },
    }
    # The simplest of the equally good.
    left = {"plain": plain, "tuned": held_out["tuned"], "corrected": corrected}
    summary["chosen"] = min(left, key=lambda name: float(loss(left[name] - counts).sum()))
    if summary["chosen"] == "plain":
        rules = plain_rules
    if summary["chosen"] != "corrected":
        kinds = [None] * len(classes)
    final = [
        replace(rule, correction=fit_correction(kind, _features(part, rule), part.truth, loss)) if kind else rule
        for rule, part, kind in zip(rules, parts, kinds, strict=True)
    ]
    return CountRule(classes, tuple(final), summary)


def class_boxes(
    predictions: Sequence[Detections], counts: np.ndarray, sizes: Sequence[tuple[int, int]]
) -> list[ClassBoxes]:
    """All boxes sorted by class and score, with (N, C) true counts; `sizes` are (width, height).

    Raises:
        ProjectError: a label is none of the C classes, or a size is not positive; names the image's index.
    """
    area = np.array([float(width) * float(height) for width, height in sizes]).reshape(-1)
    if (area <= 0).any():
        index = int(np.flatnonzero(area <= 0)[0])
        raise ProjectError(f"image {index} has size {tuple(sizes[index])}; expected (width, height) above 0.")
    every = Detections.concatenate([Detections(d.boxes, d.scores, d.labels) for d in predictions])
    images = np.repeat(np.arange(len(predictions)), [len(item) for item in predictions])
    wrong = np.flatnonzero((every.labels < 0) | (every.labels >= counts.shape[1]))
    if wrong.size:
        raise ProjectError(
            f"image {images[wrong[0]]} has a box of label {every.labels[wrong[0]]}, but there are {counts.shape[1]} "
            "classes. Were the predictions made for another list of classes?"
        )
    order = _class_order(every.labels, every.scores)
    images, boxes, scores = images[order], every.boxes[order], every.scores[order]
    shares = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / area[images]
    ends = np.searchsorted(every.labels[order], np.arange(counts.shape[1] + 1))
    return [
        ClassBoxes(images[a:b], scores[a:b], boxes[a:b], shares[a:b], counts[:, label].astype(np.int64))
        for label, (a, b) in enumerate(zip(ends[:-1], ends[1:], strict=True))
    ]


def _class_order(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Where `class_boxes` takes each box from: by class, the surest first, then as they stand."""
    return np.lexsort((-scores, labels))


def _features(part: ClassBoxes, rule: ClassRule) -> np.ndarray:
    return features_of(part.images, part.scores, part.candidates(rule), len(part.truth), rule.threshold)


def _count_features(features: np.ndarray, correction: Correction | None) -> np.ndarray:
    return features[:, 0].astype(np.int64) if correction is None else correction.count(features)


def _count(part: ClassBoxes, rule: ClassRule) -> np.ndarray:
    return _count_features(_features(part, rule), rule.correction)


def _counts(parts: Sequence[ClassBoxes], rules: Sequence[ClassRule]) -> np.ndarray:
    return np.column_stack([_count(part, rule) for part, rule in zip(parts, rules, strict=True)])


def _worthwhile(held_out: Mapping[str, np.ndarray], counts: np.ndarray, label: int, loss: Any) -> str | None:
    """The correction whose held-out loss is lower than the tuned rule's by more than two standard errors, or None."""
    base = loss(held_out["tuned"][:, label] - counts[:, label])
    best, most = None, 0.0
    for kind in KINDS:
        gain = base - loss(held_out[kind][:, label] - counts[:, label])
        if gain.sum() > most and gain.mean() > 2 * gain.std() / np.sqrt(len(gain)):
            best, most = kind, gain.sum()
    return best
