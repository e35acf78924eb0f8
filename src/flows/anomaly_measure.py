"""The content of an anomaly run's metrics.json: decisions from out-of-fold rows, and figures under them."""

import functools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from src.data.transforms import PreprocessSpec
from src.flows.anomaly_decision import Classes, Decision, decide
from src.flows.anomaly_masks import kind_of, pixel_decision
from src.flows.anomaly_panel import evaluate
from src.flows.anomaly_tables import category_rows, chosen_classes, class_figures
from src.job import Job
from src.metrics.registry import get_metric


def measure(
    job: Job, oof: pd.DataFrame, test: pd.DataFrame, spec: PreprocessSpec, *, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Figures and decisions of the settled tables (`src.flows.anomaly_scores.settle`).

    Keys: `metric` {name, value, mode}, `oof` and `graded` (`src.flows.anomaly_panel.evaluate`; graded is None without a
    solution), `folds`, the parts of a Decision, `classes` ({oof, graded, normal}) for class submissions, `categories`
    ({oof, graded}) where there are several.

    Args:
        spec: the model's preprocessing. metadata: of the prediction store, with the class names of classifiers.
    """
    for frame in (oof, test):
        frame.attrs = {"metadata": dict(metadata)}
    metric, folder, settings = get_metric(job.competition.metric), job.run.predictions, job.config["calibration"]
    tested = job.manifest[job.manifest["split"] == "test"]
    known_categories = bool(tested["category"].notna().all())
    target = job.config["threshold"]["target_false_alarm"]
    pixels = None
    if kind_of(job.competition) is not None:
        pixels = pixel_decision(
            oof,
            job.train_rows,
            folder,
            spec,
            metric.name,
            min_area=settings["min_area"],
            target=settings["pixel_false_alarm"],
        )
    classes = Classes.of(oof)
    decision = decide(
        oof,
        job.train_rows,
        job.competition,
        classes=classes,
        settings=settings,
        target_false_alarm=target,
        test_categories=known_categories,
        n_test=len(test),
        pixel_threshold=pixels,
        seed=job.config["seed"],
    )
    solution = job.solution
    if solution is not None:
        solution = solution.merge(tested[["id", "path"]], on="id", validate="one_to_one")
    figures = functools.partial(evaluate, metric=metric.name, decision=decision, folder=folder, spec=spec)
    whole = figures(oof, job.train_rows)
    folds = [{"fold": k, **figures(oof[oof["fold"] == k], job.train_rows)} for k in job.folds]
    graded = None if solution is None else figures(test, solution)
    by_class = None
    if decision.class_rule is not None and classes is not None:
        of_classes = functools.partial(_class_figures, decision=decision, classes=classes, metric=metric.name)
        of_trained = functools.partial(
            of_classes, truth=job.train_rows, rows=job.train_rows if known_categories else None
        )
        by_class = {
            "normal": list(classes.normal),
            "oof": of_trained(oof),
            "graded": None
            if solution is None
            else of_classes(test, truth=solution, rows=tested if known_categories else None),
        }
        held_out = decision.class_rule.value
        whole["metric"] = held_out if held_out is not None else _value(by_class["oof"])
        for part in folds:
            part["metric"] = _value(of_trained(oof[oof["fold"] == part["fold"]]))
        if graded is not None:
            graded["metric"] = _value(by_class["graded"])
    categories = {
        "oof": category_rows(oof, job.train_rows, decision),
        "graded": None if solution is None else category_rows(test, solution, decision),
    }
    return {
        "metric": {"name": metric.name, "value": whole.get("metric"), "mode": metric.mode},
        "oof": whole,
        "folds": folds,
        **decision.to_dict(),
        "graded": graded,
        "classes": by_class,
        "categories": categories if any(categories.values()) else None,
    }


def _class_figures(
    frame: pd.DataFrame,
    *,
    truth: pd.DataFrame,
    decision: Decision,
    classes: Classes,
    rows: pd.DataFrame | None,
    metric: str,
) -> dict[str, Any] | None:
    targets = truth.set_index("id")["target"].reindex(frame["id"]).tolist()
    if not len(frame):
        return None
    return class_figures(chosen_classes(frame, decision, classes, rows), targets, classes, metric)


def _value(figures: Mapping[str, Any] | None) -> float | None:
    return None if figures is None else figures["metric"]
