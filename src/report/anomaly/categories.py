"""The table of categories: how each does out of fold and graded, its scores, and its threshold."""

from typing import Any

import numpy as np

from src.report import wording
from src.report.anomaly.answers import Rules
from src.report.anomaly.evidence import ScoredSet

WIDTH, HEIGHT = 200, 26  # pixels of the scores' strip in a row
MOST_TICKS = 80  # of one kind in a strip
SKEWED = 8  # times the median that the highest score is, from which the axis is logarithmic


def category_view(
    metrics: dict[str, Any], sets: list[ScoredSet], rules: Rules, *, test_known: bool, allowed: bool
) -> dict[str, Any] | None:
    """The table for the template, hardest category first; None where a run has no categories.

    Args:
        test_known: whether the categories of the test images are known, so that decisions may use them.
        allowed: whether the configuration lets them.
    """
    found = metrics.get("categories") or {}
    tables = {key: {row["category"]: row for row in found.get(key) or []} for key in ("oof", "graded")}
    names = sorted({name for table in tables.values() for name in table})
    if not names:
        return None
    first = "oof" if tables["oof"] else "graded"

    def ease(name: str) -> tuple[float, float, str]:
        row = tables[first].get(name) or tables["graded"].get(name) or {}
        return tuple(row[key] if wording.is_number(row.get(key)) else 2.0 for key in ("auroc", "f1")) + (name,)

    drawn = next((scored for scored in sets if scored.key == ("oof" if first == "oof" else "test")), None)
    strips = _strips(drawn, names)
    rows = [
        {
            "name": name,
            "own": name in rules.own,
            "strip": strips.get(name),
            **{key: _cells(tables[key].get(name)) for key in tables},
        }
        for name in sorted(names, key=ease)
    ]
    return {
        "rows": rows,
        "with_oof": bool(tables["oof"]),
        "with_graded": bool(tables["graded"]),
        "with_strips": bool(strips),
        "logarithmic": _skewed(drawn),
        "with_threshold": any(wording.is_number(row.get("threshold")) for row in tables[first].values()),
        "note": _note(metrics, rules, test_known, allowed),
        "width": WIDTH,
        "height": HEIGHT,
    }


def _cells(row: dict[str, Any] | None) -> dict[str, str] | None:
    """A category's figures as text."""
    if row is None:
        return None
    n = int(row.get("n_normal") or 0) + int(row.get("n_anomalous") or 0)
    return {
        "n_normal": wording.metric_value(row.get("n_normal")),
        "n_defective": wording.metric_value(row.get("n_anomalous")),
        "auroc": wording.metric_value(row.get("auroc"), n),
        "f1": wording.metric_value(row.get("f1"), n),
        "threshold": wording.score(row.get("threshold")),
    }


def _note(metrics: dict[str, Any], rules: Rules, test_known: bool, allowed: bool) -> str:
    """Whether decisions make use of the categories, and why not."""
    if not test_known:
        return (
            "The categories of the test images are not known beforehand, so that nothing may be decided by them: one "
            "threshold and one scale serve all."
        )
    if not allowed:
        return "One threshold and one scale serve all categories, as calibration.by_category=null says."
    said = []
    if rules.class_rule is not None:
        said.append("An image gets a class of its own category only.")
    elif rules.own:
        compared = wording.is_number((metrics.get("category_thresholds") or {}).get("cross_validated"))
        why = "cross-validation found them better than one for all" if compared else "each from its own normal images"
        said.append(f"Categories have their own thresholds: {why}.")
    else:
        said.append("One threshold serves all categories: cross-validation did not find own ones better.")
    said.append(
        "Scores were first put on one scale by each category's normal images, which cross-validation found better."
        if metrics.get("category_scale")
        else "Scores are compared as they are: a scale for each category was not clearly better."
    )
    return " ".join(said)


def _skewed(scored: ScoredSet | None) -> bool:
    """Whether a long tail would press all other scores together, so that their axis is logarithmic."""
    if scored is None or not len(scored.known):
        return False
    scores = scored.known["score"].to_numpy()
    line = scored.known["line"].min()  # NaN where there is none
    return bool(scores.min() > 0 and not line <= 0 and scores.max() > SKEWED * np.median(scores))


def _strips(scored: ScoredSet | None, names: list[str]) -> dict[str, dict[str, Any]]:
    """For each category two rows of ticks, normal above defective, and its threshold, on one axis for all."""
    if scored is None:
        return {}
    frame = scored.known
    frame = frame[frame["category"].isin(names)]
    if frame.empty:
        return {}
    shown = np.append(frame["score"], frame["line"].dropna())
    scale = np.log if _skewed(scored) else np.asarray
    low, high = float(scale(shown.min())), float(scale(shown.max()))
    if not high > low:
        return {}

    def x(values: Any) -> np.ndarray:
        return 2 + (scale(np.asarray(values, dtype=np.float64)) - low) / (high - low) * (WIDTH - 4)

    strips = {}
    for name, group in frame.groupby("category"):
        ticks = {}
        for colour, label, top in (("normal", 0, 2), ("defect", 1, HEIGHT / 2 + 1)):
            values = np.sort(group.loc[(group["label"] == label).fillna(False), "score"].to_numpy())
            if len(values) > MOST_TICKS:
                values = np.quantile(values, np.linspace(0, 1, MOST_TICKS))
            ticks[colour] = "".join(f"M{at:.1f} {top:g}v{HEIGHT / 2 - 3:g}" for at in x(values))
        own = group["line"].dropna()
        strips[str(name)] = {**ticks, "line": round(float(x(own.iloc[:1])[0]), 1) if len(own) else None}
    return strips
