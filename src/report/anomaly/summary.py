"""What the anomaly page says in words: the headline, its interval, the caveats, decisions at the threshold."""

from typing import Any

import numpy as np

from src.report import wording
from src.report.anomaly.evidence import ScoredSet, confusion
from src.report.scoreboard import code_caveats, disagreement, read_graded, read_main, strip, weight_caveats


def read_threshold(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """The threshold as metrics.json keeps it (`src.calibration.threshold`), None where there is none."""
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


def headline(metrics: dict[str, Any], sets: list[ScoredSet], threshold: dict[str, Any] | None) -> dict[str, Any]:
    """The competition's metric: name, out-of-fold value, bootstrap interval, graded value, a strip for them."""
    name, value = read_main(metrics)
    oof = next((scored for scored in sets if scored.key == "oof"), None)
    interval = _interval(name, oof, threshold) if value is not None and oof is not None and oof.has_both else None
    graded = read_graded(metrics, name)
    return {
        "name": wording.metric_name(name) if name else "Metric",
        "value": value,
        "interval": interval,
        "graded": graded,
        "n": len(oof.known) if oof else 0,
        "n_normal": len(oof.normal) if oof else 0,
        "n_defective": len(oof.defective) if oof else 0,
        "strip": strip(value, interval, graded),
    }


def _interval(name: str, scored: ScoredSet, threshold: dict[str, Any] | None) -> tuple[float, float] | None:
    from src.metrics.bootstrap import bootstrap_interval
    from src.metrics.registry import get_metric

    needs = get_metric(name).needs
    if needs in ("map", "mask") or (needs == "label" and threshold is None):
        return None
    return bootstrap_interval(name, *scored.arrays(), threshold=threshold["value"] if threshold else None, n=400)


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
    found += weight_caveats(record, "Expect scores near chance.")
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
    found += disagreement(top["interval"], top["graded"])
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
    return found + code_caveats(record)


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
