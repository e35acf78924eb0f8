"""What out-of-fold rows have chosen, each with its cross-validated value against the plain way, for a table."""

from typing import Any

from src.report import wording
from src.report.anomaly.answers import Rules
from src.report.anomaly.certainty import short_name


def choices(metrics: dict[str, Any], rules: Rules) -> list[dict[str, Any]]:
    """Rows {what, choice, metric, value, against, plain, kept}; value and plain as text, "–" where not measured.

    kept: the plain way stood, since the other one was no clear gain.
    """
    found = [
        _map_rule(metrics.get("map_rule")),
        _scale(metrics.get("fold_scale"), ("fold's model", "folds' models"), "held-out"),
        _scale(metrics.get("category_scale"), ("category", "categories"), "own"),
        _own_thresholds(metrics.get("category_thresholds"), rules),
        _class_rule(rules),
        _pixel_threshold(metrics.get("pixel_threshold")),
    ]
    return [row for row in found if row is not None]


def _row(
    what: str, choice: str, against: str, metric: Any, value: Any, plain: Any, *, kept: bool = False
) -> dict[str, Any]:
    return {
        "what": what,
        "choice": choice,
        "against": against,
        "metric": short_name(str(metric)) if metric else "",
        "value": wording.metric_value(value),
        "plain": wording.metric_value(plain),
        "kept": kept,
    }


def _map_rule(rule: dict[str, Any] | None) -> dict[str, Any] | None:
    if not rule:
        return None
    sigma, kind, share = rule.get("sigma") or 0, rule.get("score"), rule.get("share")
    of = f"the heatmap, smoothed by a Gaussian of {sigma:g} pixels" if sigma else "the heatmap"
    if kind == "max":
        choice = f"The highest pixel of {of}"
    elif kind == "top":
        choice = f"The mean of the highest {100 * share:g}% of the pixels of {of}"
    else:
        choice = f"The model's own score; heatmaps are smoothed by a Gaussian of {sigma:g} pixels"
    if not wording.is_number(rule.get("cross_validated")):
        choice += " (given, not tuned)"
    return _row(
        "Score of an image", choice, "the model's own score", rule.get("metric"), rule.get("cross_validated"),
        rule.get("plain"),
    )  # fmt: skip


def _scale(scale: dict[str, Any] | None, names: tuple[str, str], whose: str) -> dict[str, Any] | None:
    if not scale:
        return None
    n = wording.count(len(scale.get("centres") or {}), *names)
    return _row(
        f"Scale of the {names[1]}",
        f"Each of {n} by the centre and spread of its {whose} normal images",
        "scores as they are",
        scale.get("metric"), scale.get("value"), scale.get("plain"),
    )  # fmt: skip


def _own_thresholds(found: dict[str, Any] | None, rules: Rules) -> dict[str, Any] | None:
    if not found or not rules.own or rules.class_rule is not None:
        return None
    choice = wording.count(len(rules.own), "category has its own", "categories have their own")
    if found.get("metric") == "false_alarm_rate":
        choice += ", each from its own normal images"
    return _row(
        "Thresholds of the categories", choice, "one threshold for all", found.get("metric"),
        found.get("cross_validated"), found.get("plain"),
    )  # fmt: skip


def _class_rule(rules: Rules) -> dict[str, Any] | None:
    rule = rules.class_rule
    if rule is None:
        return None
    if rule.kind == "gated":
        choice = f"Defective from a score of {wording.score(rule.threshold)} on, then the likeliest class of that side"
        return _row("Class of an image", choice, "the likeliest class", rule.metric, rule.value, rule.plain)
    return _row(
        "Class of an image", "The likeliest class", "asking the score first whether anything is wrong", rule.metric,
        rule.plain, rule.gated, kept=True,
    )  # fmt: skip


def _pixel_threshold(pixels: dict[str, Any] | None) -> dict[str, Any] | None:
    if not pixels:
        return None
    area = pixels.get("min_area") or 0
    choice = f"Defective from {wording.score(pixels['value'])} on"
    choice += f"; regions of fewer than {area:,} pixels are dropped" if area else "; regions of any size stand"
    if pixels.get("source") == "normal_quantile":
        return _row(
            "Pixels of a mask",
            f"{choice}. From normal images only: {100 * pixels['score']:.2g}% of their pixels reach it",
            "", None, None, None,
        )  # fmt: skip
    return _row(
        "Pixels of a mask", choice, "regions of any size", pixels.get("metric"), pixels.get("cross_validated"),
        pixels.get("plain"),
    )  # fmt: skip
