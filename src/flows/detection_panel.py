"""From detections and truth to what is tuned (suppression, count rule) and to the figures of metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from src.boxes.count_rule import CountRule, tune_count_rule
from src.boxes.postprocess import Postprocess, tune_postprocess
from src.boxes.types import Detections, Truth
from src.metrics.counting import count_metrics
from src.metrics.detection import evaluate_boxes
from src.metrics.registry import Metric


@dataclass(frozen=True)
class Decision:
    """What turns a detector's boxes into an answer: suppression before boxes are submitted, and the count rule."""

    postprocess: Postprocess
    rule: CountRule

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as metrics.json keeps them."""
        return {"postprocess": self.postprocess.to_dict(), "count_rule": self.rule.to_dict()}

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Decision:
        return cls(Postprocess.from_dict(kept["postprocess"]), CountRule.from_dict(kept["count_rule"]))


@dataclass(frozen=True)
class Paired:
    """Predictions and truth of the same images, side by side; `boxes` None where only counts are known."""

    ids: list[str]
    found: list[Detections]
    sizes: list[tuple[int, int]]
    boxes: list[Truth] | None
    counts: np.ndarray | None


def detections_of(frame: pd.DataFrame) -> list[Detections]:
    """The rows of a prediction store."""
    masks = frame["masks"] if "masks" in frame else [None] * len(frame)
    columns = (frame["boxes"], frame["scores"], frame["labels"], masks)
    return [Detections(boxes, scores, labels, rows) for boxes, scores, labels, rows in zip(*columns, strict=True)]


def sizes_of(frame: pd.DataFrame) -> list[tuple[int, int]]:
    """(width, height) of each row's image."""
    return list(zip(frame["width"].astype(int), frame["height"].astype(int), strict=True))


def truth_of(rows: pd.DataFrame) -> list[Truth]:
    """The boxes of manifest or solution rows, all of them known."""
    return [
        Truth(boxes, labels, ignored)
        for boxes, labels, ignored in zip(rows["boxes"], rows["labels"], rows["ignored"], strict=True)
    ]


def pair(frame: pd.DataFrame, truth: pd.DataFrame) -> Paired:
    """Predictions joined with what is known of their images; images of which nothing is known are left out.

    Where any image has boxes, those without are left out of everything; else counts alone are the truth.
    """
    known = truth.set_index("id").reindex(frame["id"])
    with_boxes = known["boxes"].notna().to_numpy() if "boxes" in known else np.zeros(len(frame), bool)
    with_counts = known["counts"].notna().to_numpy() if "counts" in known else np.zeros(len(frame), bool)
    keep = with_boxes if with_boxes.any() else with_counts
    rows, frame = known[keep], frame[keep]
    counted = with_counts[keep].all() and keep.any()
    return Paired(
        ids=frame["id"].tolist(),
        found=detections_of(frame),
        sizes=sizes_of(frame),
        boxes=truth_of(rows) if with_boxes.any() else None,
        counts=np.stack(rows["counts"].tolist()).astype(np.int64) if counted else None,
    )


def decide(paired: Paired, *, classes: Sequence[str], metric: Metric) -> Decision:
    """Tune on out-of-fold pairs: suppression for a metric of boxes, the count rule for the metric of counts.

    Without any truth the detector's own boxes and the plain rule are kept.
    """
    postprocess = Postprocess()
    if metric.needs == "boxes" and paired.boxes is not None and any(len(truth) for truth in paired.boxes):
        postprocess, _ = tune_postprocess(
            paired.found, lambda found: metric.value(found, paired.boxes, n_classes=len(classes))
        )
    if paired.counts is None:
        return Decision(postprocess, CountRule.plain(classes))
    name = metric.name if metric.needs == "counts" else "count_exact"
    rule = tune_count_rule(paired.found, paired.counts, paired.sizes, classes=classes, metric=name)
    return Decision(postprocess, rule)


def rule_text(rule: CountRule) -> str:
    """What the tuned counting is worth, in a line: the count metric before and after, cross-validated."""
    found = rule.summary
    if not found or found.get("chosen", "plain") == "plain":
        value = "" if not found else f", {found['metric']} {found['plain']:.4f}"
        return f"boxes of score 0.5 and above{value}"
    after = found["corrected"] if found["chosen"] == "corrected" else found["tuned"]
    how = "rules and learned corrections" if found["chosen"] == "corrected" else "a rule"
    return f"{how} for each class: {found['metric']} {found['plain']:.4f} → {after:.4f} (cross-validated on OOF)"


def with_honest_counts(figures: dict[str, Any], rule: CountRule, metric: Metric) -> dict[str, Any]:
    """The panel of the rows that the rule was tuned on, its tuned metric replaced by the cross-validated value.

    What the rule reaches on its own rows stays as `<metric>_in_sample`.
    """
    found = rule.summary
    if not found or figures.get(found["metric"]) is None:
        return figures
    name, value = found["metric"], found[found["chosen"]]
    honest = {**figures, name: value, f"{name}_in_sample": figures[name]}
    return {**honest, "metric": value} if metric.name == name else honest


def panel(paired: Paired, decision: Decision, *, classes: Sequence[str], metric: Metric) -> dict[str, Any]:
    """The competition's metric first, then COCO's panel and the count panel, as far as the truth allows."""
    if not paired.ids:
        return {}
    figures: dict[str, Any] = {"metric": None}
    per_class: dict[str, dict[str, Any]] = {name: {} for name in classes}
    if paired.boxes is not None:
        found = [decision.postprocess.apply(each) for each in paired.found]
        boxes = evaluate_boxes(found, paired.boxes, classes=classes)
        for name, values in boxes.pop("per_class").items():
            per_class[name] |= values
        figures |= boxes
        if metric.needs == "boxes":
            figures["metric"] = metric.value(found, paired.boxes, n_classes=len(classes))
    if paired.counts is not None:
        counted = decision.rule.count_all(paired.found, paired.sizes)
        counts = count_metrics(counted, paired.counts, classes=classes)
        for name, values in counts.pop("per_class").items():
            per_class[name] |= values
        figures |= counts
        if metric.needs == "counts":
            figures["metric"] = metric.value(counted, paired.counts)
    return {**figures, "images": len(paired.ids), "per_class": per_class}
