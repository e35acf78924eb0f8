"""The metrics that a competition may name (`metric:` in its YAML). A new one: a function, a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from src.errors import ProjectError, nearest
from src.metrics import anomaly, counting, detection, masks, pixel
from src.metrics.caption import names as captions
from src.metrics.ranking import UndefinedMetric

__all__ = ["ALIASES", "METRICS", "Metric", "UndefinedMetric", "get_metric"]


@dataclass(frozen=True)
class Metric:
    """`function(answers, truth) -> float`, where `needs` says what the answers are; `mode`: which is better.

    score, label, map, mask: of each image, against 0/1 labels or true masks. boxes: sequences of Detections and
    Truth, and the number of classes as a third argument. counts: (N, C) predicted and true. caption: one text an
    image, and lists of reference texts.
    """

    name: str
    mode: Literal["max", "min"]
    needs: Literal["score", "label", "map", "mask", "boxes", "counts", "caption"]
    function: Callable[..., float]
    summary: str
    task: Literal["anomaly", "detection", "caption"] = "anomaly"

    def value(self, answers: Any, truth: Any, *, n_classes: int | None = None) -> float | None:
        """The metric of what it needs; None where it is undefined, and for metrics of maps and masks.

        Metrics of boxes need `n_classes`; others do not look at it.
        """
        if self.needs in ("map", "mask"):
            return None
        if self.needs == "boxes" and n_classes is None:
            raise ProjectError(f"{self.name} needs the number of classes. Pass n_classes=….")
        try:
            more = (n_classes,) if self.needs == "boxes" else ()
            return float(self.function(answers, truth, *more))
        except UndefinedMetric:
            return None

    def value_at(self, scores: Any, labels: Any, threshold: float | None) -> float | None:
        """The metric of (N,) scores, decided by `threshold` where it needs decisions; None without one."""
        if self.needs == "label":
            return None if threshold is None else self.value(scores >= threshold, labels)
        return self.value(scores, labels)


def _voc_map(predictions: Any, truth: Any, n_classes: int, *, iou: float) -> float:
    return detection.voc_map(predictions, truth, n_classes=n_classes, iou=iou)


def _boxes(name: str, function: Callable[..., float], summary: str) -> Metric:
    return Metric(name, "max", "boxes", function, summary, "detection")


def _coco(name: str, summary: str) -> Metric:
    return _boxes(name, partial(detection.coco_metric, name), summary)


def _counts(name: str, mode: Literal["max", "min"], summary: str) -> Metric:
    return Metric(name, mode, "counts", counting.COUNT_METRICS[name], summary, "detection")


def _captions(text: str, candidates: Any, references: Any) -> float:
    from src.metrics.caption.measure import parse_caption_metric

    return parse_caption_metric(text).corpus(candidates, references)


def _caption(text: str, summary: str) -> Metric:
    return Metric(text, "max", "caption", partial(_captions, text), summary, "caption")


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
        Metric("seg_f1", "max", "mask", masks.seg_f1, "F1 of the anomalous pixels of all images together"),
        Metric("dice", "max", "mask", masks.dice, "Dice coefficient of each image's mask, averaged; both empty: 1"),
        Metric("iou", "max", "mask", masks.iou, "intersection over union of each image's mask, averaged"),
        _coco("map", "COCO mean average precision, IoU 0.50 to 0.95"),
        _coco("map50", "COCO mean average precision at IoU 0.50"),
        _coco("map75", "COCO mean average precision at IoU 0.75"),
        _coco("ar100", "COCO average recall with 100 detections an image"),
        _boxes("voc_map", partial(_voc_map, iou=0.5), "VOC 2010 mean average precision at IoU 0.5"),
        _boxes("voc_map40", partial(_voc_map, iou=0.4), "VOC 2010 mean average precision at IoU 0.4"),
        _counts("count_mae", "min", "mean absolute error of the counts"),
        _counts("count_rmse", "min", "root mean squared error of the counts"),
        _counts("count_rmse_columns", "min", "RMSE of each class's counts, averaged"),
        _counts("count_exact", "max", "share of counts (a class of an image) that are right"),
        _counts("count_exact_image", "max", "share of images with the counts of every class right"),
        _counts("count_tiered", "max", "credit for counts: 1 if right, 0.5 if off by one"),
        *(_caption(name, summary) for name, summary in captions.NAMES.items()),
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
    "segf1": "seg_f1",
    "segmentation_f1": "seg_f1",
    "mean_dice": "dice",
    "dice_coefficient": "dice",
    "mean_iou": "iou",
    "jaccard": "iou",
    "map50_95": "map",
    "map@50": "map50",
    "map@0.5": "map50",
    "map@75": "map75",
    "map@0.75": "map75",
    "ar": "ar100",
    "voc_map50": "voc_map",
    "voc_map@0.5": "voc_map",
    "voc_map@0.4": "voc_map40",
    "voc2010_map": "voc_map",
    "mae": "count_mae",
    "rmse": "count_rmse",
    "mcrmse": "count_rmse_columns",
    **captions.ALIASES,
}


def get_metric(name: str) -> Metric:
    """A metric by its name or alias; case, spaces and hyphens do not matter.

    Metrics of captions may name their tokens (`cider_d@char`) and be weighted sums (`0.5*cider_d+0.5*bleu4`); the
    metric's name is then the canonical text.

    Raises:
        ProjectError: no such metric; the message names the nearest one and lists all.
    """
    key = str(name).strip().lower().replace("-", "_").replace(" ", "_")
    key = ALIASES.get(key, key)
    if key in METRICS:
        return METRICS[key]
    if captions.is_expression(str(name)):
        from src.metrics.caption.measure import parse_caption_metric

        metric = parse_caption_metric(str(name))
        return METRICS.get(metric.name) or _caption(metric.name, "weighted sum of caption metrics")
    raise ProjectError(
        f"metric '{name}' is not known.{nearest(key, [*METRICS, *ALIASES])} Known: {', '.join(METRICS)}."
    )
