"""Tables of a run's quality beside the panel: by category, and by class where it tells several."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from src.calibration.class_rule import ClassRule
from src.flows.anomaly_decision import Classes, Decision, allowed_classes, probabilities
from src.flows.anomaly_scores import categories_of
from src.metrics.anomaly import evaluate_anomaly
from src.metrics.registry import get_metric
from src.predictions import read_predictions
from src.runs import RunFolder

CLASS_METRICS = ("macro_f1", "accuracy", "balanced_accuracy")


def stored_classes(run: RunFolder) -> Classes | None:
    """The classes of a finished run's predictions."""
    return Classes.of(read_predictions(run.predictions / "oof.parquet", "anomaly"))


def category_rows(frame: pd.DataFrame, truth: pd.DataFrame, decision: Decision) -> list[dict[str, Any]] | None:
    """A dict for each category of the rows whose label is known; None where fewer than two categories are.

    Keys: `category`, `threshold`, and those of `src.metrics.anomaly.evaluate_anomaly` at the category's threshold.

    Args:
        truth: `id`, `label` and, where there are categories, `category`.
    """
    known = truth.set_index("id")
    labels = known["label"].reindex(frame["id"])
    names = pd.Series(categories_of(frame["id"], known), dtype=object)
    rows = labels.notna().to_numpy() & names.notna().to_numpy()
    found = sorted(set(names[rows]))
    if len(found) < 2:
        return None
    scores, answers = frame["score"].to_numpy(), labels.astype("Int64")
    table = []
    for name in found:
        mine = rows & (names == name).to_numpy()
        threshold = None
        if decision.category_thresholds is not None:
            threshold = decision.category_thresholds.value_of(name)
        elif decision.threshold is not None:
            threshold = decision.threshold.value
        panel = evaluate_anomaly(scores[mine], answers[mine].astype("int64").to_numpy(), threshold=threshold)
        table.append({"category": name, "threshold": threshold, **panel})
    return table


def chosen_classes(frame: pd.DataFrame, decision: Decision, classes: Classes, rows: pd.DataFrame | None) -> np.ndarray:
    """(N,) int64 class of each row under the class rule (the likeliest without one).

    Args:
        rows: `id` and `category`, where the categories of the frame's images limit their classes; None where they do
            not.
    """
    rule = decision.class_rule or ClassRule("argmax")
    allowed = None if rows is None else allowed_classes(frame["id"], rows, classes)
    return rule.decide(probabilities(frame), frame["score"].to_numpy(), classes.normal_mask, allowed)


def class_figures(
    chosen: np.ndarray, targets: Sequence[Any], classes: Classes, metric: str
) -> dict[str, Any] | None:
    """Figures of (N,) chosen classes against target texts (None where unknown); None where no target is known.

    Keys: `metric` (the competition's value), those of CLASS_METRICS, `n`, `confusion` (rows: truth, columns: answers,
    in the order of the class names), `per_class` (a dict for each class that occurs: `class`, `n`, `precision`,
    `recall`, `f1`; null where undefined).
    """
    codes = classes.target_codes(targets)
    unknown = sorted({str(t) for t, code in zip(targets, codes, strict=True) if code < 0 and isinstance(t, str)})
    names = [*classes.names, *unknown]  # a graded image may be of a class that training never had
    truth = Classes(tuple(names), classes.normal, classes.by_target).target_codes(targets)
    rows = truth >= 0
    if not rows.any():
        return None
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (truth[rows], chosen[rows]), 1)
    per_class = []
    for index, name in enumerate(names):
        hits, said, true = confusion[index, index], confusion[:, index].sum(), confusion[index].sum()
        if said or true:
            per_class.append(
                {
                    "class": name,
                    "n": int(true),
                    "precision": float(hits / said) if said else None,
                    "recall": float(hits / true) if true else None,
                    "f1": float(2 * hits / (said + true)),
                }
            )
    figures = {name: get_metric(name).value(chosen[rows], truth[rows]) for name in CLASS_METRICS}
    own = get_metric(metric)
    value = own.value(chosen[rows], truth[rows]) if own.needs == "label" and own.name in CLASS_METRICS else None
    return {
        "metric": value,
        "n": int(rows.sum()),
        **figures,
        "names": names,
        "confusion": confusion.tolist(),
        "per_class": per_class,
    }
