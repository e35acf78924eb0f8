"""Grading a submission file against the competition's solution, where one is known: a leaderboard at home."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.competition import Competition
from src.errors import ProjectError
from src.metrics.anomaly import evaluate_anomaly
from src.metrics.registry import Metric, get_metric
from src.submission.formats import FORMATS, Context
from src.submission.formats.counts import Count
from src.submission.formats.table import context_of
from src.submission.validate import InvalidSubmission, read_values, validate_submission, vocabulary

if TYPE_CHECKING:
    import pandas as pd

MASK_FORMATS = ("rle", "map_folder")
_BOXES = ("prediction_string", "coco")


def grade(path: str | Path, spec: Competition, manifest: "pd.DataFrame | None" = None) -> dict[str, Any] | None:
    """The competition's metric on a submission file, and the panel of its task's metrics; None without a solution.

    Args:
        manifest: of the task detection, whose classes and image sizes are needed, of formats of masks, whose sizes
            are, and of the format `class`, whose classes are; read where it is not given.

    Returns:
        `name`, `mode` and `metric` (the value, None where the file cannot give it: a pixel metric from scores, a metric
        of labels from scores, of boxes from counts or the other way, or one class in the solution), then what
        `evaluate_anomaly` answers, for a file of labels the counts and the metrics of a decision only; for classes
        what `_classes`, for masks what `grade_masks`, for boxes what `evaluate_boxes` and for counts what
        `count_metrics` answers. Masks of the task detection are not graded.

    Raises:
        InvalidSubmission: the validator refuses the file; nothing is graded then.
        ProjectError: the solution does not fit the competition, or does not know a row that the file must have.
    """
    from src.manifest import read_manifest, read_solution

    solution = read_solution(spec)
    if solution is None:
        return None
    ids = solution["id"].tolist()
    known: dict[str, Any] = {}
    if spec.task == "detection" or spec.submission.format in ("class", *MASK_FORMATS):
        manifest = read_manifest(spec) if manifest is None else manifest
        known = vocabulary(manifest)
    problems = validate_submission(path, spec, ids, **known)
    if problems:
        raise InvalidSubmission(path, problems)
    if spec.task == "anomaly" and spec.submission.format in MASK_FORMATS:
        return _masks(path, solution, spec, known)
    values = read_values(path, spec, ids, **known)
    found = [values[sample_id] for sample_id in ids]
    metric = get_metric(spec.metric)
    result: dict[str, Any] = {"name": metric.name, "mode": metric.mode, "metric": None}
    if spec.task == "caption":
        return {**result, **_captions(found, solution, spec, metric)}
    if spec.submission.format == "class":
        return {**result, **_classes(found, solution, manifest, metric)}
    if spec.task != "detection":
        return {**result, **_images(found, solution, spec, metric)}
    if spec.submission.format in _BOXES:
        return {**result, **_boxes(found, solution, known["classes"], metric)}
    if spec.submission.format == "rle":
        return result
    return {**result, **_counts(found, solution, context_of(spec, **known), metric)}


def _images(found: list[Any], solution: "pd.DataFrame", spec: Competition, metric: Metric) -> dict[str, Any]:
    """Of one score or label an image."""
    unknown = solution.loc[solution["label"].isna(), "id"].tolist()
    if unknown:
        raise ProjectError(f"the solution has no label for id '{unknown[0]}' and {len(unknown) - 1} more. Complete it.")
    labels = solution["label"].to_numpy(np.int64)
    if spec.submission.format == "label":
        anomalous = spec.submission.labels["anomalous"]
        decided = np.array([int(value == anomalous) for value in found])
        panel = evaluate_anomaly(decided, labels, threshold=0.5)
        orders = ("auroc", "average_precision", "f1_max", "threshold")  # say nothing of two-valued answers
        return {"metric": metric.value(decided, labels), **{k: v for k, v in panel.items() if k not in orders}}
    scores = np.array(found, dtype=np.float64)
    value = {"metric": metric.value(scores, labels)} if metric.needs == "score" else {}
    return {**value, **evaluate_anomaly(scores, labels, ids=solution["id"].tolist())}


def _classes(
    found: list[str], solution: "pd.DataFrame", manifest: "pd.DataFrame", metric: Metric
) -> dict[str, Any]:
    """The metrics of classes as texts, and of the verdict that they imply: `verdict_f1`, `_precision`, `_recall`.

    Whether a class is a defect is what the labels of its training images say.
    """
    from src.submission.formats.class_label import CLASS_METRICS

    train = manifest[(manifest["split"] == "train") & manifest["label"].notna()]
    label_of = dict(zip(train["target"], train["label"].astype(np.int64), strict=True))
    truth = solution["target"].tolist()
    labels = solution["label"].to_numpy(np.int64)
    panel = evaluate_anomaly(np.array([label_of[name] for name in found], dtype=np.float64), labels, threshold=0.5)
    return {
        "metric": metric.value(found, truth),
        **{name: panel[name] for name in ("n_normal", "n_anomalous")},
        "n_classes": len(set(truth)),
        **{name: get_metric(name).value(found, truth) for name in CLASS_METRICS},
        **{f"verdict_{name}": panel[name] for name in ("f1", "precision", "recall")},
    }


def _masks(path: str | Path, solution: "pd.DataFrame", spec: Competition, known: dict[str, Any]) -> dict[str, Any]:
    from src.submission.grade_masks import grade_masks

    metric = get_metric(spec.metric)
    return {"name": metric.name, "mode": metric.mode, **grade_masks(path, solution, spec, known, metric)}


def _captions(found: list[str], solution: "pd.DataFrame", spec: Competition, metric: Metric) -> dict[str, Any]:
    from src.metrics.caption.measure import evaluate_captions, parse_caption_metric

    _require(solution, "captions")
    references = solution["captions"].tolist()
    bare = [name for name, known in zip(solution["id"], references, strict=True) if not known]
    if bare:
        raise ProjectError(f"the solution has no caption for id '{bare[0]}' and {len(bare) - 1} more. Complete it.")
    tokenizer = parse_caption_metric(spec.metric).tokenizer
    return {"metric": metric.value(found, references), **evaluate_captions(found, references, tokenizer=tokenizer)}


def _boxes(found: list[Any], solution: "pd.DataFrame", classes: Sequence[str], metric: Metric) -> dict[str, Any]:
    from src.boxes.types import Truth
    from src.metrics.detection import evaluate_boxes

    _require(solution, "boxes")
    columns = (solution[name].tolist() for name in ("boxes", "labels", "ignored"))
    truth = [Truth(boxes, labels, ignored) for boxes, labels, ignored in zip(*columns, strict=True)]
    value = metric.value(found, truth, n_classes=len(classes)) if metric.needs == "boxes" else None
    return {"metric": value, **evaluate_boxes(found, truth, classes=classes)}


def _counts(found: list[Any], solution: "pd.DataFrame", context: Context, metric: Metric) -> dict[str, Any]:
    from src.metrics.counting import count_metrics

    _require(solution, "counts")
    truth = np.stack(solution["counts"].tolist()).astype(np.int64)
    classes = list(context.classes)
    grammar = FORMATS[context.spec.format]
    if isinstance(grammar, Count):
        wanted = grammar.wanted(context)
        truth = truth.sum(axis=1, keepdims=True) if wanted is None else truth[:, [wanted]]
        classes = ["all classes"] if wanted is None and len(classes) != 1 else [classes[wanted or 0]]
    predicted = np.array(found, dtype=np.float64).reshape(len(found), -1)
    value = metric.value(predicted, truth) if metric.needs == "counts" else None
    return {"metric": value, **count_metrics(predicted, truth, classes=classes)}


def _require(solution: "pd.DataFrame", column: str) -> None:
    unknown = solution.loc[solution[column].isna(), "id"].tolist() if column in solution else solution["id"].tolist()
    if unknown:
        raise ProjectError(
            f"the solution has no {column} for id '{unknown[0]}' and {len(unknown) - 1} more. Complete it."
        )
