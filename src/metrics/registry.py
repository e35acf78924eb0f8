"""The metrics that a competition may name (`metric:` in its YAML). A new one: a function, a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from src.errors import ProjectError, nearest
from src.metrics import anomaly, pixel
from src.metrics.ranking import UndefinedMetric

__all__ = ["ALIASES", "METRICS", "Metric", "UndefinedMetric", "get_metric"]


@dataclass(frozen=True)
class Metric:
    """`function(scores | predicted labels | maps, truth) -> float`, by `needs`; `mode`: which is better."""

    name: str
    mode: Literal["max", "min"]
    needs: Literal["score", "label", "map"]
    function: Callable[..., float]
    summary: str

    def value(self, answers: Any, labels: Any) -> float | None:
        """The metric of scores or decisions, by `needs`; None where it is undefined, and for metrics of maps."""
        if self.needs == "map":
            return None
        try:
            return float(self.function(answers, labels))
        except UndefinedMetric:
            return None

    def value_at(self, scores: Any, labels: Any, threshold: float | None) -> float | None:
        """The metric of (N,) scores, decided by `threshold` where it needs decisions; None without one."""
        if self.needs == "label":
            return None if threshold is None else self.value(scores >= threshold, labels)
        return self.value(scores, labels)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auroc", "max", "score", anomaly.auroc, "area under the ROC curve of the image scores"),
        Metric(
            "average_precision",
            "max",
            "score",
            anomaly.average_precision,
            "area under precision-recall, images",
        ),
        Metric("f1_max", "max", "score", anomaly.f1_max, "F1 at the best of all thresholds, images"),
        Metric("f1", "max", "label", anomaly.f1, "F1 of the anomalous class"),
        Metric("macro_f1", "max", "label", anomaly.macro_f1, "F1 of each class, averaged"),
        Metric("accuracy", "max", "label", anomaly.accuracy, "share of images with the right label"),
        Metric("balanced_accuracy", "max", "label", anomaly.balanced_accuracy, "recall of each class, averaged"),
        Metric("precision", "max", "label", anomaly.precision, "share of called defects that are"),
        Metric("recall", "max", "label", anomaly.recall, "share of defects that are called"),
        Metric("pixel_auroc", "max", "map", pixel.pixel_auroc, "area under the ROC curve of all pixels"),
        Metric(
            "pixel_average_precision",
            "max",
            "map",
            pixel.pixel_average_precision,
            "precision-recall area, pixels",
        ),
        Metric("pixel_f1", "max", "map", pixel.pixel_f1, "F1 at the best of all thresholds, pixels"),
        Metric("aupro", "max", "map", pixel.aupro, "area under per-region overlap up to 30% false positives"),
    )
}

ALIASES: dict[str, str] = {
    "roc_auc": "auroc",
    "auc": "auroc",
    "image_auroc": "auroc",
    "ap": "average_precision",
    "aupr": "average_precision",
    "f1_macro": "macro_f1",
    "f1_score": "f1",
    "binary_f1": "f1",
    "acc": "accuracy",
    "bacc": "balanced_accuracy",
    "pixel_ap": "pixel_average_precision",
    "pixel_f1_max": "pixel_f1",
    "au_pro": "aupro",
    "pro": "aupro",
}


def get_metric(name: str) -> Metric:
    """A metric by its name or alias; case, spaces and hyphens do not matter.

    Raises:
        ProjectError: no such metric; the message names the nearest one and lists all.
    """
    key = str(name).strip().lower().replace("-", "_").replace(" ", "_")
    key = ALIASES.get(key, key)
    if key not in METRICS:
        raise ProjectError(
            f"metric '{name}' is not known.{nearest(key, [*METRICS, *ALIASES])} Known: {', '.join(METRICS)}."
        )
    return METRICS[key]
