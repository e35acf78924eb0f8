"""The closing lines of an anomaly run: what was reached, what was decided, and how sure that is."""

from typing import Any


def closing_lines(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Lines as (label, text) from the content of metrics.json."""
    name, value, threshold = metrics["metric"]["name"], metrics["metric"]["value"], metrics["threshold"]
    undefined = f"{name} undefined: no labelled defect among the held-out rows"
    lines = [("OOF", f"{name} {value:.4f}" if value is not None else undefined)]
    if metrics.get("map_rule"):
        rule = metrics["map_rule"]
        share = f" {100 * rule['share']:g}%" if rule.get("share") else ""
        how = "given" if rule.get("cross_validated") is None else "cross-validated on OOF"
        lines.append(("map rule", f"score {rule['score']}{share}, sigma {rule['sigma']:g} ({how})"))
    if metrics.get("fold_scale"):
        lines.append(("scale", "each fold's model by its held-out normal images (cross-validated on OOF)"))
    if metrics.get("category_scale"):
        lines.append(("scale", "each category by its own normal images (cross-validated on OOF)"))
    if metrics["class_rule"]:
        rule = metrics["class_rule"]
        gate = f"anomalous from score {rule['threshold']:.6g} on" if rule["kind"] == "gated" else "the likeliest class"
        lines.append(("classes", gate))
    elif threshold:
        how = "tuned on OOF" if threshold["source"] == "oof" else "from held-out normal scores"
        own = metrics["category_thresholds"]
        more = f"; {len(own['own'])} categories have their own" if own else ""
        lines.append(("threshold", f"{threshold['value']:.6g} ({how}){more}"))
    if metrics["pixel_threshold"]:
        pixels = metrics["pixel_threshold"]
        area = f", regions from {pixels['min_area']} pixels" if pixels["min_area"] else ""
        lines.append(("masks", f"pixels from {pixels['value']:.6g}{area}"))
    sure = metrics["certainty"]
    if sure and not metrics["class_rule"]:
        lines.append(
            ("expected", f"{sure['metric']} {sure['low']:.3f} to {sure['high']:.3f} on the test "
             f"({sure['level']:.0%} of cases, if defects are as frequent there as out of fold)")
        )  # fmt: skip
    if metrics["graded"] and metrics["graded"].get("metric") is not None:
        lines.append(("graded", f"{name} {metrics['graded']['metric']:.4f} (on the solution)"))
    return lines
