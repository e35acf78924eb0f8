"""What the anomaly page says in words: the headline, its interval, the caveats, decisions at the threshold."""

from typing import Any

import numpy as np
import pandas as pd

from src.report import wording
from src.report.anomaly.answers import Rules
from src.report.anomaly.evidence import ScoredSet, confusion
from src.report.scoreboard import code_caveats, disagreement, read_graded, read_main, strip, weight_caveats


def headline(
    metrics: dict[str, Any], sets: list[ScoredSet], rules: Rules, certainty: dict[str, Any] | None
) -> dict[str, Any]:
    """The competition's metric: name, out-of-fold value, interval, graded value, a strip for them.

    The interval is the promise for new images where one was made of this metric (of one threshold for all images), else
    a bootstrap of the images.
    """
    name, value = read_main(metrics)
    by_class = rules.class_rule is not None
    oof = next((scored for scored in sets if scored.key == "oof"), None)
    interval = None
    promised = certainty is not None and certainty["metric"] == name and not rules.own
    if value is not None and oof is not None and oof.has_both:
        if promised:
            interval = certainty["low"], certainty["high"]
        else:
            interval = _class_interval(name, oof) if by_class else _interval(name, oof, rules)
    graded = read_graded(metrics, name)
    return {
        "name": class_name(name) if by_class else wording.metric_name(name) if name else "Metric",
        "value": value,
        "interval": interval,
        "promised": promised and interval is not None,
        "graded": graded,
        "n": len(oof.known) if oof else 0,
        "n_normal": len(oof.normal) if oof else 0,
        "n_defective": len(oof.defective) if oof else 0,
        "strip": strip(value, interval, graded),
    }


def class_name(metric: str) -> str:
    """The name of a metric of classes: "Macro F1 over classes"."""
    return wording.metric_name(f"class_{metric}")


def with_classes(metrics: dict[str, Any]) -> dict[str, Any]:
    """metrics.json for the table of metrics: what concerns the classes under names of its own.

    A panel's macro_f1 tells normal from defective; the competition's, of classes, must not be taken for it.
    """
    if not metrics.get("class_rule"):
        return metrics
    name = (metrics.get("metric") or {}).get("name")
    classes = metrics.get("classes") or {}

    def panel(values: dict[str, Any] | None, figures: dict[str, Any] | None) -> dict[str, Any]:
        others = ("macro_f1", "accuracy", "balanced_accuracy")
        of_classes = {f"class_{key}": figures[key] for key in others if figures and key != name and key in figures}
        return {**(values or {}), **of_classes}

    return {
        **metrics,
        "metric": {**metrics["metric"], "name": f"class_{name}"},
        "oof": panel(metrics.get("oof"), classes.get("oof")),
        "graded": panel(metrics.get("graded"), classes.get("graded")),
    }


def _class_interval(name: str, scored: ScoredSet) -> tuple[float, float] | None:
    """95% percentile bootstrap of the images for a metric of classes; None where no class is known."""
    from src.metrics.registry import get_metric

    rows = scored.frame[scored.frame["target"].notna() & scored.frame["said"].notna()]
    if len(rows) < 2:
        return None
    codes, _ = pd.factorize(pd.concat([rows["target"], rows["said"]]))
    truth, said = codes[: len(rows)], codes[len(rows) :]
    metric, random = get_metric(name), np.random.default_rng(0)
    draws = random.integers(0, len(rows), size=(300, len(rows)))
    values = [value for draw in draws if (value := metric.value(said[draw], truth[draw])) is not None]
    if not values:
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _interval(name: str, scored: ScoredSet, rules: Rules) -> tuple[float, float] | None:
    from src.metrics.bootstrap import bootstrap_interval
    from src.metrics.registry import get_metric

    needs = get_metric(name).needs
    if needs in ("map", "mask") or (needs == "label" and rules.line is None):
        return None
    scores, labels = scored.arrays()
    if needs == "label":  # of the decisions as they are, which may differ by category
        scores = scored.called[scored.frame["label"].notna()].astype(np.float64)
    return bootstrap_interval(name, scores, labels, threshold=0.5, n=400)


def caveats(
    sets: list[ScoredSet],
    rules: Rules,
    top: dict[str, Any],
    record: dict[str, Any],
    broken: list[dict[str, Any]],
) -> list[str]:
    """What a reader must know before trusting the numbers, the gravest first."""
    found: list[str] = []
    threshold = None if rules.class_rule is not None else rules.threshold
    by_key = {scored.key: scored for scored in sets}
    oof, test = by_key.get("oof"), by_key.get("test")
    for scored in sets:
        scores = scored.frame["score"]
        if len(scores) > 1 and scores.nunique() == 1:
            found.append(
                f"{scored.title}: all {len(scores):,} scores are {wording.score(scores.iloc[0])}. "
                "The model tells no image from another."
            )
    found += weight_caveats(record, "Expect scores near chance.")
    if oof is None:
        found.append("There are no out-of-fold predictions: nothing says how the model does on images it never saw.")
    elif len(oof.normal) and not len(oof.defective):
        if threshold is not None:
            above = confusion(oof)["false_alarms"]
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
    if rules.own and rules.class_rule is None and rules.held_out is not None and top["name"].endswith("threshold"):
        found.append(
            "The out-of-fold figure is that of thresholds tuned on the same images, a category at a time. On images "
            f"held out of their tuning it is {wording.metric_value(rules.held_out)}."
        )
    found += disagreement(top["interval"], top["graded"])
    if test is not None and threshold is not None and len(test.frame) > 1:
        flagged = int(test.called.sum())
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
    return found + code_caveats(record)


def _bound(threshold: dict[str, Any]) -> str:
    bound = threshold.get("false_alarm_bound")
    if not wording.is_number(bound):
        return ""
    return f"So few cannot vouch for less than {100 * bound:.2g}% false alarms among new normal images. "


def confusion_views(sets: list[ScoredSet]) -> list[dict[str, Any]]:
    """Per set with known labels: the four counts, rates as text, and whether each class is there."""
    views = []
    for scored in sets:
        n_normal, n_defective = len(scored.normal), len(scored.defective)
        if not n_normal and not n_defective:
            continue
        counts = confusion(scored)
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


def score_range(sets: list[ScoredSet]) -> tuple[float, float]:
    """Lowest and highest value on the common score axis of the gallery's strips."""
    values = np.concatenate([scored.frame[column].dropna() for scored in sets for column in ("score", "line")])
    return float(values.min()), float(values.max())
