"""What the detection page says in words and tables: the headline, what was decided, classes, confusion."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from src.flows.detection_panel import Decision
from src.metrics.registry import get_metric
from src.report import palette, wording
from src.report.detection.evidence import BoxSet, Curve
from src.report.scoreboard import read_graded, read_main, strip

MOST_CLASSES = 150  # rows of a table of classes
MOST_CONFUSED = 18  # classes that a confusion shows one by one
DRAWS = 100  # resamples for metrics that are measured anew on each
MOST_RESAMPLED = 40_000  # boxes and objects up to which that is affordable


def headline(metrics: dict[str, Any], sets: Sequence[BoxSet], decision: Decision) -> dict[str, Any]:
    """The competition's metric: name, out-of-fold value, interval, graded value, a strip for them; and a tile of
    the other kind (counts beside a metric of boxes, mAP50 beside one of counts)."""
    name, value = read_main(metrics)
    oof = next((scored for scored in sets if scored.key == "oof"), None)
    graded = read_graded(metrics, name)
    interval = None if value is None or oof is None else metric_interval(name, value, oof)
    error = bool(name) and get_metric(name).mode == "min"
    known = 0 if oof is None else len(oof.with_boxes) or len(oof.with_counts)
    return {
        "name": wording.metric_name(name) if name else "Metric",
        "value": value,
        "interval": interval,
        "graded": graded,
        "error": error,
        "n": known,
        "n_objects": 0 if oof is None else int(oof.n_objects.sum()),
        "strip": strip(value, interval, graded, error=error),
        "beside": _beside(metrics, name),
        "cross_validated": bool(name) and get_metric(name).needs == "counts" and _tuned(decision),
    }


def _tuned(decision: Decision) -> bool:
    return decision.rule.summary.get("chosen", "plain") != "plain"


def _beside(metrics: dict[str, Any], name: str) -> dict[str, Any]:
    """The tile of what the metric itself is not: title, value as text, and a sentence."""
    panel, graded = metrics.get("oof") or {}, metrics.get("graded") or {}
    if name.startswith("count_"):
        value = panel.get("map50")
        note = "Of the boxes behind the counts." if wording.is_number(value) else "Only counts are known, no boxes."
        return {"title": "mAP50, out of fold", "value": _share(value), "note": note + _graded(graded, "map50")}
    value, off = panel.get("count_exact"), panel.get("count_mae")
    note = "It takes images with known numbers of objects."
    if wording.is_number(value):
        note = "One count is a class of an image."
        if wording.is_number(off):
            note += f" They are off by {off:.2g} on average."
    return {"title": "Counts exactly right", "value": _share(value), "note": note + _graded(graded, "count_exact")}


def _graded(panel: Mapping[str, Any], key: str) -> str:
    return f" Graded: {_share(panel[key])}." if wording.is_number(panel.get(key)) else ""


def _share(value: Any) -> str | None:
    return wording.metric_value(value) if wording.is_number(value) else None


def metric_interval(name: str, value: float, scored: BoxSet) -> tuple[float, float] | None:
    """95% interval of the out-of-fold value from resampled images; None where it would take too long.

    A metric of counts is resampled with the rule in use and its interval laid around `value`, which may be the
    cross-validated one. One of boxes: `value` give or take its standard error (see `map50_interval`).
    """
    from scipy.stats import norm

    from src.metrics.intervals import count_interval, map50_interval

    metric = get_metric(name)
    if metric.needs == "counts":
        rows = scored.with_counts
        if not len(rows):
            return None
        counted, true = scored.counted[rows], scored.counts[rows]
        shift = value - (metric.value(counted, true) or 0.0)
        low, high = (end + shift for end in count_interval(name, counted, true, n=400))
        return max(0.0, low), high if metric.mode == "min" else min(1.0, high)
    found, truth = scored.pairs()
    if not any((~each.ignored).any() for each in truth):
        return None
    if metric.name == "map50":
        return map50_interval(found, truth, n_classes=scored.n_classes)
    if sum(map(len, found)) + sum(map(len, truth)) > MOST_RESAMPLED:
        return None
    random, values = np.random.default_rng(0), []
    for _ in range(DRAWS):
        rows = random.integers(0, len(found), len(found))
        drawn = metric.value([found[i] for i in rows], [truth[i] for i in rows], n_classes=scored.n_classes)
        values += [] if drawn is None else [drawn]
    reach = float(norm.ppf(0.975) * np.std(values))
    return max(0.0, value - reach), min(1.0, value + reach)


def decisions(metrics: dict[str, Any], decision: Decision, names: Sequence[str]) -> dict[str, Any]:
    """What was decided out of fold: suppression in a sentence, the steps of the count rule, a row a class."""
    main, value = read_main(metrics)
    rule, found = decision.rule, decision.rule.summary
    metric, chosen = found.get("metric"), found.get("chosen", "plain")
    steps = [
        {"key": key, "name": name, "value": wording.metric_value(found[key]), "chosen": key == chosen}
        for key, name in (
            ("plain", "Boxes of score 0.5 and above"),
            ("tuned", "A rule for each class"),
            ("corrected", "Rules and learned corrections"),
        )
        if wording.is_number(found.get(key))
    ]
    per_class = found.get("per_class") or {}
    rows = []
    for label, (name, each) in enumerate(zip(names, rule.rules, strict=True)):
        values = per_class.get(name, {})
        small = "" if each.min_area <= 0 else f"≥ {100 * each.min_area:.2g}%"
        large = "" if each.max_area >= 1 else f"≤ {100 * each.max_area:.2g}%"
        rows.append(
            {
                "name": name,
                "label": label,
                "threshold": f"{each.threshold:.3g}",
                "suppression": "–" if each.nms_iou is None else f"IoU {each.nms_iou:.2g}",
                "area": " ".join(filter(None, (small, large))) or "any",
                "correction": each.correction.kind if each.correction else "–",
                "values": [wording.metric_value(values.get(step["key"])) for step in steps],
            }
        )
    return {
        "suppression": str(decision.postprocess).replace("soft_nms", "soft NMS").replace("nms", "NMS"),
        "suppression_tuned": value is not None and get_metric(main).needs == "boxes",
        "own_boxes": decision.postprocess.method == "none",
        "steps": steps,
        "metric": wording.metric_name(metric) if metric else None,
        "error": bool(metric) and get_metric(metric).mode == "min",
        "tuned": chosen != "plain",
        "chosen": chosen,
        "images": found.get("images", 0),
        "folds": found.get("folds", 0),
        "in_sample": wording.metric_value(found.get("tuned_in_sample")) if found.get("folds") else None,
        "rows": rows[:MOST_CLASSES],
        "n_rows": len(rows),
        "with_values": bool(per_class),
    }


def class_rows(
    metrics: dict[str, Any],
    sets: Sequence[BoxSet],
    curves: Mapping[int, Curve],
    names: Sequence[str],
    places: Sequence[int],
) -> dict[str, Any]:
    """A row a class with its figures as text; few classes in their order, many by AP50, the hardest first."""
    panel = (metrics.get("oof") or {}).get("per_class") or {}
    graded = (metrics.get("graded") or {}).get("per_class") or {}
    oof = next((scored for scored in sets if scored.key == "oof"), None)
    table = oof.confusion if oof is not None and len(oof.with_boxes) else None
    order = list(range(len(names)))
    if len(names) > palette_size():
        order.sort(key=lambda label: (curves[label].ap50 if label in curves else 2.0, label))
    rows = []
    for label in order:
        values, beside = panel.get(names[label]) or {}, graded.get(names[label]) or {}
        objects = values.get("n", int(oof.n_objects[label]) if oof is not None else 0)
        found, called = (0, 0) if table is None else (int(table[label, label]), int(table[:, label].sum()))
        rows.append(
            {
                "name": names[label],
                "label": label,
                "colour": palette.variable(places[label]),
                "dashed": bool(palette.dashes(places[label])),
                "n": objects,
                "ap50": values.get("ap50"),
                "ap": values.get("ap"),
                "graded": beside.get("ap50"),
                "found": wording.percent(found, int(table[label].sum())) if table is not None else "–",
                "right": wording.percent(found, called) if table is not None else "–",
                "count_mae": values.get("count_mae"),
                "count_exact": values.get("count_exact"),
                "graded_exact": beside.get("count_exact"),
            }
        )
    return {
        "rows": rows[:MOST_CLASSES],
        "n_rows": len(rows),
        "sorted": order != list(range(len(names))),
        "with_boxes": any(row["ap50"] is not None for row in rows) or table is not None,
        "with_counts": any(row["count_exact"] is not None for row in rows),
        "with_graded": any(row["graded"] is not None for row in rows),
        "with_graded_counts": any(row["graded_exact"] is not None for row in rows),
        "with_any": oof is not None and bool(len(oof.with_boxes) or len(oof.with_counts)),
    }


def palette_size() -> int:
    """Classes up to which each has a colour of its own."""
    return len(palette.LIGHT)


def folded_confusion(table: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The confusion with at most MOST_CONFUSED classes, those in the most mistakes; the rest are one, "others".

    Returns the table and the names of its classes, without the background.
    """
    n = len(names)
    if n <= MOST_CONFUSED:
        return table, list(names)
    wrong = table.sum(axis=0) + table.sum(axis=1) - 2 * np.diag(table)
    most = np.sort(np.argsort(-wrong[:n], kind="stable")[: MOST_CONFUSED - 1])
    rest = np.setdiff1d(np.arange(n), most)
    groups = [*([label] for label in most), rest, [n]]
    folded = np.array([[table[np.ix_(rows, columns)].sum() for columns in groups] for rows in groups])
    return folded, [*(names[label] for label in most), f"{len(rest)} others"]


def confusion_view(scored: BoxSet, names: Sequence[str]) -> dict[str, Any] | None:
    """The confusion as the template takes it: cells as {n, share of the row in percent, right}; None without boxes."""
    if not len(scored.with_boxes) or not scored.confusion.any():
        return None
    table, shown = folded_confusion(scored.confusion, names)
    whole = scored.confusion
    last = len(table) - 1
    rows = []
    for row in range(len(table)):
        total = int(table[row].sum())
        cells = [
            {
                "n": int(table[row, column]),
                "share": round(100 * table[row, column] / max(1, total)),
                "right": row == column,
                "void": row == last and column == last,
            }
            for column in range(len(table))
        ]
        rows.append({"name": shown[row] if row < last else "nothing there", "n": total, "cells": cells})
    right, objects = int(np.trace(whole[:-1, :-1])), int(whole[:-1].sum())
    return {
        "title": scored.title,
        "columns": [*shown, "missed"],
        "rows": rows,
        "right": right,
        "objects": objects,
        "confused": int(whole[:-1, :-1].sum()) - right,
        "missed": int(whole[:-1, -1].sum()),
        "false": int(whole[-1].sum()),
        "right_rate": wording.percent(right, objects),
    }


def mended(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Kinds of problems of the annotations with how often, by what was done: [{action, n}]."""
    return [{"action": action, "n": n} for action, n in Counter(str(each["action"]) for each in reports).most_common()]
