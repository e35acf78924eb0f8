"""The competition's metric as every page shows it: value, graded value, interval on a strip, table of all metrics."""

import math
from collections.abc import Mapping
from typing import Any

from src.report import wording

AXIS_STARTS = (0.99, 0.98, 0.95, 0.9, 0.8, 0.5, 0.0)


def read_main(metrics: dict[str, Any]) -> tuple[str, float | None]:
    """Name and out-of-fold value of the competition's metric, from metrics.json."""
    metric = metrics.get("metric") or {}
    value = metric.get("value")
    return str(metric.get("name") or ""), float(value) if wording.is_number(value) else None


def read_graded(metrics: dict[str, Any], metric: str) -> float | None:
    """The competition's metric on the test rows, from metrics.json's `graded`; None if nothing was graded."""
    graded = metrics.get("graded") or {}
    value = graded.get("metric", graded.get(metric))
    return float(value) if wording.is_number(value) else None


def strip(
    value: float | None, interval: tuple[float, float] | None, graded: float | None, *, error: bool = False
) -> dict[str, Any] | None:
    """Positions in percent on an axis that holds everything shown; None where there is nothing to compare.

    A share's axis ends at 1 and begins at a round number; that of an `error` begins at 0 and ends at one.
    """
    shown = [v for v in (value, graded, *(interval or ())) if v is not None]
    if value is None or len(shown) < 2 or min(shown) < 0 or (not error and max(shown) > 1):
        return None
    if error:
        start, end = 0.0, _round_up(1.1 * max(shown))
    else:
        start, end = next(s for s in AXIS_STARTS if s <= max(0.0, min(shown) - 0.1 * (1 - min(shown)))), 1.0

    def at(position: float | None) -> float | None:
        return None if position is None else round(100 * (position - start) / (end - start), 2)

    low, high = (at(v) for v in interval) if interval else (None, None)
    ticks = (start, (start + end) / 2, end)
    digits = max(3, 2 - math.floor(math.log10(end)))
    return {
        "value": at(value),
        "graded": at(graded),
        "low": low,
        "high": high,
        "ticks": [f"{tick:.{digits}f}".rstrip("0").rstrip(".") for tick in ticks],
    }


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten; 1 for 0."""
    if value <= 0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(value))
    return next(step * decade for step in (1, 2, 5, 10) if step * decade >= value)


def metric_table(metrics: dict[str, Any], sized: Mapping[str, int]) -> dict[str, Any]:
    """Columns (out of fold, each fold, test graded afterwards) and one row a metric, cells as text.

    A panel's `metric` is the competition's own figure; it is shown under the metric's name. `sized` has the number
    of known images of "oof" and "test".
    """
    main = (metrics.get("metric") or {}).get("name")
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


def weight_caveats(record: dict[str, Any], chance: str) -> list[str]:
    """What the weights' origin says about the numbers; `chance` is what to expect of random ones."""
    weights = record.get("weights")
    kind = weights.get("kind") if isinstance(weights, dict) else None
    if kind == "random":
        return [f"The backbone has random weights: it was never trained on anything. {chance}"]
    if kind == "builtin":
        return [
            "The backbone uses the built-in features, made for the bundled sample. On real data, pretrained "
            "weights usually do much better (model.weights=pretrained)."
        ]
    return []


def code_caveats(record: dict[str, Any]) -> list[str]:
    """Whether the recorded revision is what ran."""
    git = record.get("git")
    if isinstance(git, dict) and git.get("dirty"):
        return ["The code had uncommitted changes: the git revision alone does not reproduce this run."]
    return []


def disagreement(interval: tuple[float, float] | None, graded: float | None) -> list[str]:
    """A graded score outside the out-of-fold interval, in words."""
    if interval and graded is not None and not interval[0] <= graded <= interval[1]:
        return [
            "The graded score lies outside the out-of-fold interval: the validation images do not stand for "
            "the test images, or chance was unusually unkind. Trust comparisons between runs more than the level."
        ]
    return []
