"""What the page says in words: the headline, its interval, the caveats and the table of metrics."""

from typing import Any

import numpy as np

from src.report import wording
from src.report.evidence import ScoredSet, confusion

AXIS_STARTS = (0.99, 0.98, 0.95, 0.9, 0.8, 0.5, 0.0)


def read_threshold(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """The threshold as metrics.json keeps it (`src.calibration.Threshold` as a dict), None where there is none."""
    found = metrics.get("threshold") or {}
    return found if wording.is_number(found.get("value")) else None


def threshold_origin(threshold: dict[str, Any] | None) -> str:
    """One line that says where the threshold comes from."""
    if threshold is None:
        return "No training image was held out to set one"
    source = threshold.get("source")
    if source == "oof":
        metric = wording.metric_name(str(threshold.get("metric") or "")).split(",")[0].removesuffix(" at the threshold")
        return f"Tuned on out-of-fold scores for {metric}" if metric else "Tuned on out-of-fold scores"
    if source == "normal_quantile":
        return "From normal scores only"
    return str(source) if source else "Its source was not recorded"


def read_graded(metrics: dict[str, Any], metric: str) -> float | None:
    """The competition's metric on the test rows, from metrics.json's `graded`; None if nothing was graded."""
    graded = metrics.get("graded") or {}
    value = graded.get("metric", graded.get(metric))
    return float(value) if wording.is_number(value) else None


def headline(metrics: dict[str, Any], sets: list[ScoredSet], threshold: dict[str, Any] | None) -> dict[str, Any]:
    """The competition's metric: name, out-of-fold value, bootstrap interval, graded value, a strip for them."""
    metric = metrics.get("metric") or {}
    name = str(metric.get("name") or "")
    value = metric.get("value")
    value = float(value) if wording.is_number(value) else None
    oof = next((scored for scored in sets if scored.key == "oof"), None)
    interval = _interval(name, oof, threshold) if value is not None and oof is not None and oof.has_both else None
    graded = read_graded(metrics, name)
    return {
        "name": wording.metric_name(name) if name else "Metric",
        "mode": metric.get("mode"),
        "value": value,
        "interval": interval,
        "graded": graded,
        "n": len(oof.known) if oof else 0,
        "n_normal": len(oof.normal) if oof else 0,
        "n_defective": len(oof.defective) if oof else 0,
        "strip": _strip(value, interval, graded),
    }


def _interval(name: str, scored: ScoredSet, threshold: dict[str, Any] | None) -> tuple[float, float] | None:
    from src.metrics.bootstrap import bootstrap_interval
    from src.metrics.registry import get_metric

    needs = get_metric(name).needs
    if needs == "map" or (needs == "label" and threshold is None):
        return None
    return bootstrap_interval(name, *scored.arrays(), threshold=threshold["value"] if threshold else None, n=400)


def _strip(value: float | None, interval: tuple[float, float] | None, graded: float | None) -> dict[str, Any] | None:
    """Positions in percent on an axis that ends at 1 and begins at a round number below everything shown."""
    shown = [v for v in (value, graded, *(interval or ())) if v is not None]
    if value is None or not all(0 <= v <= 1 for v in shown) or len(shown) < 2:
        return None
    start = next(s for s in AXIS_STARTS if s <= max(0.0, min(shown) - 0.1 * (1 - min(shown))))

    def at(position: float | None) -> float | None:
        return None if position is None else round(100 * (position - start) / (1 - start), 2)

    low, high = (at(v) for v in interval) if interval else (None, None)
    middle = (start + 1) / 2
    return {
        "value": at(value),
        "graded": at(graded),
        "low": low,
        "high": high,
        "ticks": [f"{tick:.3f}".rstrip("0").rstrip(".") for tick in (start, middle, 1.0)],
    }


def metric_table(metrics: dict[str, Any], sets: list[ScoredSet]) -> dict[str, Any]:
    """Columns (out of fold, each fold, test graded afterwards) and one row a metric, cells as text.

    A panel's `metric` is the competition's own figure; it is shown under the metric's name.
    """
    main = (metrics.get("metric") or {}).get("name")
    sized = {scored.key: len(scored.known) for scored in sets}
    folds = metrics.get("folds") or []
    columns = [("Out of fold", metrics.get("oof") or {}, sized.get("oof", 0))]
    if len(folds) > 1 or not columns[0][1]:
        columns += [
            (f"Fold {fold.get('fold', position)}", fold, sized.get("oof", 0) // len(folds))
            for position, fold in enumerate(folds)
        ]
    columns.append(("Test, graded afterwards", metrics.get("graded") or {}, sized.get("test", 0)))
    panels = [
        (title, {(main if key == "metric" else key): value for key, value in panel.items()}, n)
        for title, panel, n in columns
        if panel
    ]
    if not panels:
        return {"columns": [], "rows": []}
    keys = {main: None} if main else {}
    keys |= dict.fromkeys(
        key
        for _, values, _ in panels
        for key, value in values.items()
        if wording.is_number(value) and key not in {None, "fold", "threshold"}
    )
    order = list(wording.METRIC_NAMES)
    ranked = sorted(keys, key=lambda key: (key != main, order.index(key) if key in order else len(order)))
    rows = [
        {
            "name": wording.metric_name(key),
            "main": key == main,
            "cells": [wording.metric_value(values.get(key), n) for _, values, n in panels],
        }
        for key in ranked
    ]
    return {"columns": [title for title, _, _ in panels], "rows": rows}


def caveats(
    sets: list[ScoredSet],
    threshold: dict[str, Any] | None,
    top: dict[str, Any],
    record: dict[str, Any],
    broken: list[dict[str, Any]],
) -> list[str]:
    """What a reader must know before trusting the numbers, the gravest first."""
    found: list[str] = []
    by_key = {scored.key: scored for scored in sets}
    oof, test = by_key.get("oof"), by_key.get("test")
    for scored in sets:
        scores = scored.frame["score"]
        if len(scores) > 1 and scores.nunique() == 1:
            found.append(
                f"{scored.title}: all {len(scores):,} scores are {wording.score(scores.iloc[0])}. "
                "The model tells no image from another."
            )
    weights = record.get("weights")
    kind = weights.get("kind") if isinstance(weights, dict) else None
    if kind == "random":
        found.append("The backbone has random weights: it was never trained on anything. Expect scores near chance.")
    elif kind == "builtin":
        found.append(
            "The backbone uses the built-in features, made for the bundled sample. On real data, pretrained "
            "weights usually do much better (model.weights=pretrained)."
        )
    if oof is None:
        found.append("There are no out-of-fold predictions: nothing says how the model does on images it never saw.")
    elif len(oof.normal) and not len(oof.defective):
        if threshold is not None:
            above = confusion(oof, threshold["value"])["false_alarms"]
            found.append(
                f"The out-of-fold images hold no labelled defect, so the threshold comes from normal scores "
                f"only: {wording.percent(above, len(oof.normal))} of them ({above:,} of "
                f"{len(oof.normal):,}) reach it. "
                f"{_bound(threshold)}How many defects it finds is unknown."
            )
        else:
            found.append("The out-of-fold images hold no labelled defect: they give no curve and no metric.")
    elif len(oof.defective) and not len(oof.normal):
        found.append("The out-of-fold images are all defective: no curve and no metric can be computed on them.")
    elif 0 < len(oof.defective) < 20:
        found.append(
            f"Only {wording.count(len(oof.defective), 'labelled defect')} stand behind the out-of-fold numbers: "
            "they move a lot with each of them."
        )
    if top["value"] is not None and top["name"] == "Image AUROC" and top["value"] < 0.5:
        found.append("The out-of-fold AUROC is below 0.5: defects rank below normal images more often than not.")
    if top["interval"] and top["graded"] is not None and not top["interval"][0] <= top["graded"] <= top["interval"][1]:
        found.append(
            "The graded score lies outside the out-of-fold interval: the validation images do not stand for "
            "the test images, or chance was unusually unkind. Trust comparisons between runs more than the level."
        )
    if test is not None and threshold is not None and len(test.frame) > 1:
        flagged = int((test.frame["score"] >= threshold["value"]).sum())
        share = flagged / len(test.frame)
        if share in (0.0, 1.0) or (share > 0.9 and oof is not None and not test.has_both):
            found.append(
                f"{wording.percent(flagged, len(test.frame))} of the test images reach the threshold "
                f"({flagged:,} of {len(test.frame):,}). "
                "Look at the histogram: the threshold may not fit the test scores."
            )
    in_test = sum(1 for item in broken if item.get("split") == "test")
    if in_test:
        found.append(
            f"{wording.count(in_test, 'test image')} cannot be read and got the median score of the "
            "training images; they are listed under “Set aside”."
        )
    git = record.get("git")
    if isinstance(git, dict) and git.get("dirty"):
        found.append("The code had uncommitted changes: the git revision alone does not reproduce this run.")
    return found


def _bound(threshold: dict[str, Any]) -> str:
    bound = threshold.get("false_alarm_bound")
    if not wording.is_number(bound):
        return ""
    return f"So few cannot vouch for less than {100 * bound:.2g}% false alarms among new normal images. "


def confusion_views(sets: list[ScoredSet], threshold: float) -> list[dict[str, Any]]:
    """Per set with known labels: the four counts, rates as text, and whether each class is there."""
    views = []
    for scored in sets:
        n_normal, n_defective = len(scored.normal), len(scored.defective)
        if not n_normal and not n_defective:
            continue
        counts = confusion(scored, threshold)
        flagged = counts["hits"] + counts["false_alarms"]
        views.append(
            {
                "title": scored.title,
                "counts": {name: f"{value:,}" for name, value in counts.items()},
                "false_alarm_rate": wording.percent(counts["false_alarms"], n_normal),
                "passed_rate": wording.percent(counts["passed"], n_normal),
                "detection_rate": wording.percent(counts["hits"], n_defective),
                "miss_rate": wording.percent(counts["misses"], n_defective),
                "precision": wording.percent(counts["hits"], flagged),
                "n_normal": n_normal,
                "n_defective": n_defective,
            }
        )
    return views


def score_range(sets: list[ScoredSet], threshold: float | None) -> tuple[float, float]:
    """Lowest and highest value on the common score axis of the gallery's strips."""
    values = np.concatenate([scored.frame["score"] for scored in sets])
    low, high = float(values.min()), float(values.max())
    return (low, high) if threshold is None else (min(low, threshold), max(high, threshold))
