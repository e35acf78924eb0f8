"""What out-of-fold rows decide about a run or a blend of detectors, and the values of a submission that follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from src.calibration.categories import CategoryThresholds, tune_by_category
from src.calibration.certainty import Certainty, promised_interval
from src.calibration.class_rule import ClassRule, tune_class_rule
from src.calibration.pixels import PixelThreshold
from src.calibration.threshold import Threshold, tune_on_oof
from src.class_set import ClassSet
from src.competition import Competition
from src.errors import ProjectError
from src.flows.anomaly_scores import categories_of
from src.metrics.ranking import UndefinedMetric
from src.metrics.registry import get_metric

_PARTS = {
    "threshold": Threshold,
    "category_thresholds": CategoryThresholds,
    "class_rule": ClassRule,
    "pixel_threshold": PixelThreshold,
    "certainty": Certainty,
}


@dataclass(frozen=True)
class Classes(ClassSet):
    """The classes that predictions have probabilities of, as the store's metadata names them.

    categories: the one category that each class is of (None: not known); empty where classes do not tell categories.
    """

    categories: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Classes | None":
        """Of a prediction table; None where it has no probabilities."""
        metadata = frame.attrs.get("metadata", {})
        if not metadata.get("class_names"):
            return None
        names, normal = tuple(metadata["class_names"]), tuple(metadata.get("normal_classes", ()))
        return cls(names, normal, bool(metadata.get("by_target")), tuple(metadata.get("class_categories") or ()))


@dataclass(frozen=True)
class Decision:
    """How scores become answers; each part None where the competition has no use for it or nothing decides it.

    threshold: of all images. category_thresholds: where categories do better with their own. class_rule: how
    probabilities become a class. pixel_threshold: how maps become masks. certainty: what the metric will be on new
    images, at a threshold tuned like this one.
    """

    threshold: Threshold | None = None
    category_thresholds: CategoryThresholds | None = None
    class_rule: ClassRule | None = None
    pixel_threshold: PixelThreshold | None = None
    certainty: Certainty | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for metrics.json, a key a part."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: None if part is None else part.to_dict() for name, part in parts.items()}

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> "Decision":
        """The decision that a run's metrics.json records."""
        return cls(**{name: kind.from_dict(metrics[name]) for name, kind in _PARTS.items() if metrics.get(name)})

    def anomalous(self, scores: np.ndarray, categories: Sequence[str | None]) -> np.ndarray | None:
        """(N,) bool, which images are called anomalous; None without a threshold."""
        if self.category_thresholds is not None:
            return self.category_thresholds.decide(scores, categories)
        return None if self.threshold is None else np.asarray(scores) >= self.threshold.value


def decide(
    oof: pd.DataFrame,
    truth: pd.DataFrame,
    competition: Competition,
    *,
    classes: Classes | None,
    settings: Mapping[str, Any],
    target_false_alarm: float,
    test_categories: bool,
    n_test: int,
    pixel_threshold: PixelThreshold | None = None,
    seed: int = 0,
) -> Decision:
    """The decision that out-of-fold rows support.

    Args:
        oof: `id`, `fold`, `score`, `probs`.
        truth: the training rows: `id`, `label`, `target`, `category`.
        settings: the section `calibration` of the configuration.
        test_categories: whether the categories of the test images are known: only then may a decision use them.
        n_test: the number of test images; nothing else of them is looked at.
    """
    metric = get_metric(competition.metric)
    known = truth.set_index("id")
    labels = known["label"]
    of_rows = labels.reindex(oof["id"])
    threshold = by_category = certainty = rule = None
    if (of_rows == 0).any():
        threshold = tune_on_oof(oof, labels, metric.name, target_false_alarm=target_false_alarm)
        if settings["by_category"] == "auto" and test_categories:
            by_category = tune_by_category(
                oof, labels, known["category"], metric.name, target_false_alarm=target_false_alarm, seed=seed
            )
        if by_category is None and competition.submission.format != "class":  # it speaks of one threshold
            certainty = _certainty(oof, of_rows, metric.name, n_test, seed)
    if competition.submission.format == "class" and classes is not None and classes.by_target:
        rule = class_rule(oof, truth, classes, metric.name, test_categories=test_categories, seed=seed)
    return Decision(threshold, by_category, rule, pixel_threshold, certainty)


def class_rule(
    oof: pd.DataFrame, truth: pd.DataFrame, classes: Classes, metric: str, *, test_categories: bool, seed: int
) -> ClassRule:
    """How the probabilities become a class: the likeliest one where no held-out row has a known class."""
    codes = classes.target_codes(truth.set_index("id")["target"].reindex(oof["id"]))
    rows = np.flatnonzero(codes >= 0)
    if not len(rows):
        return ClassRule("argmax", metric=metric)
    allowed = allowed_classes(oof["id"], truth, classes) if test_categories else None
    return tune_class_rule(
        probabilities(oof)[rows],
        oof["score"].to_numpy()[rows],
        codes[rows],
        classes.normal_mask,
        metric,
        classes=classes.names,
        allowed=None if allowed is None else allowed[rows],
        seed=seed,
    )


def probabilities(frame: pd.DataFrame) -> np.ndarray:
    """(N, C) class probabilities of a prediction table.

    Raises:
        ProjectError: a row has none.
    """
    missing = frame.loc[[probs is None for probs in frame["probs"]], "id"]
    if len(missing):
        raise ProjectError(
            f"{len(missing)} predictions have no class probabilities, the first '{missing.iloc[0]}'. A submission of "
            "classes needs a run of model=classifier, metric, arcface or supcon among its runs."
        )
    return np.array(frame["probs"].tolist(), dtype=np.float64)


def allowed_classes(ids: Sequence[str], rows: pd.DataFrame, classes: Classes) -> np.ndarray | None:
    """(N, C) bool: the classes of an image's known category; None where no image's is known, or no class's.

    An image of a category that no class is of may be of any class.

    Args:
        rows: `id` and, where it is known, `category`.
    """
    known = categories_of(ids, rows.set_index("id"))
    told = set(filter(None, classes.categories))
    if not told or told.isdisjoint(known):
        return None
    return np.array(
        [[category not in told or own in (None, category) for own in classes.categories] for category in known]
    )


def class_categories(train: pd.DataFrame, names: Sequence[str]) -> list[str | None]:
    """The category of each class, as training rows with `target` and `category` say; None where they do not.

    Empty where a class is of several categories, such as a target "good" of bottles and cables: the class then does
    not tell the category, nor the category the class.
    """
    told = train[train["target"].isin(names) & train["category"].notna()].groupby("target")["category"].unique()
    if told.empty or told.map(len).max() > 1:
        return []
    return [told[name][0] if name in told else None for name in names]


def _certainty(oof: pd.DataFrame, labels: pd.Series, metric: str, n_test: int, seed: int) -> Certainty | None:
    """What the metric will be on so many test images, if defects are as frequent there as out of fold."""
    known = labels.notna().to_numpy()
    scores, answers = oof["score"].to_numpy()[known], labels[known].astype("int64").to_numpy()
    name = metric if get_metric(metric).needs in ("score", "label") else "auroc"
    anomalous = min(max(round(n_test * answers.mean()), 1), max(n_test - 1, 1))
    sizes = {"test_normal": max(n_test - anomalous, 1), "test_anomalous": anomalous}
    try:
        return promised_interval(scores, answers, name, **sizes, seed=seed)
    except UndefinedMetric:
        return None
