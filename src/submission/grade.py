"""Grading a submission file against the competition's solution, where one is known: a leaderboard at home."""

from pathlib import Path
from typing import Any

import numpy as np

from src.competition import Competition
from src.errors import ProjectError
from src.metrics.anomaly import evaluate_anomaly
from src.metrics.registry import get_metric
from src.submission.validate import InvalidSubmission, read_values, validate_submission


def grade(path: str | Path, spec: Competition) -> dict[str, Any] | None:
    """The competition's metric on a submission file, and the panel of image metrics; None without a solution.

    Returns:
        `name`, `mode` and `metric` (the value, None where the file cannot give it: a pixel metric from scores, a metric
        of labels from scores, or one class in the solution), then what `evaluate_anomaly` answers. For a file of labels
        the panel holds the counts and the metrics of a decision only.

    Raises:
        InvalidSubmission: the validator refuses the file; nothing is graded then.
        ProjectError: the solution does not fit the competition, or does not know a row that the file must have.
    """
    from src.manifest import read_solution

    solution = read_solution(spec)
    if solution is None:
        return None
    ids = solution["id"].tolist()
    problems = validate_submission(path, spec, ids)
    if problems:
        raise InvalidSubmission(path, problems)
    values = read_values(path, spec)
    unknown = solution.loc[solution["label"].isna(), "id"].tolist()
    if unknown:
        raise ProjectError(f"the solution has no label for id '{unknown[0]}' and {len(unknown) - 1} more. Complete it.")
    labels = solution["label"].to_numpy(np.int64)
    metric = get_metric(spec.metric)
    result: dict[str, Any] = {"name": metric.name, "mode": metric.mode, "metric": None}
    if spec.submission.format == "label":
        anomalous = spec.submission.labels["anomalous"]
        decided = np.array([int(values[sample_id] == anomalous) for sample_id in ids])
        panel = evaluate_anomaly(decided, labels, threshold=0.5)
        orders = ("auroc", "average_precision", "f1_max", "threshold")  # say nothing of two-valued answers
        return {
            **result,
            "metric": metric.value(decided, labels),
            **{k: v for k, v in panel.items() if k not in orders},
        }
    scores = np.array([values[sample_id] for sample_id in ids], dtype=np.float64)
    if metric.needs == "score":
        result["metric"] = metric.value(scores, labels)
    return {**result, **evaluate_anomaly(scores, labels, ids=ids)}
