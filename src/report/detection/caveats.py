"""What a reader of the detection page must know before trusting its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from src.flows.detection_panel import Decision
from src.report import wording
from src.report.detection.evidence import BoxSet
from src.report.scoreboard import code_caveats, disagreement, weight_caveats

FEW_OBJECTS = 10  # of a class, out of fold: its numbers are anecdotes
COCO_LIMIT = 100  # boxes an image and class that COCO's metrics look at


def caveats(
    sets: Sequence[BoxSet],
    top: Mapping[str, Any],
    decision: Decision,
    names: Sequence[str],
    record: dict[str, Any],
    broken: Sequence[Mapping[str, Any]],
    reports: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Sentences, the gravest first."""
    found: list[str] = []
    oof = next((scored for scored in sets if scored.key == "oof"), None)
    for scored in sets:
        if not any(map(len, scored.found)):
            found.append(f"{scored.title}: the detector gives no box at all.")
        elif not any(map(len, scored.kept)):
            found.append(f"{scored.title}: no box reaches its class's threshold; nothing is counted anywhere.")
    found += weight_caveats(record, "It may still have learned, but more slowly and less than from pretrained ones.")
    if oof is None:
        found.append("There are no out-of-fold predictions: nothing says how the model does on images it never saw.")
    elif not len(oof.with_boxes) and not len(oof.with_counts):
        found.append("Nothing is known of what is in the images: no metric, and thresholds stay at 0.5.")
    elif not len(oof.with_boxes):
        found.append(
            "Only numbers of objects are known, not where they are: there are no precision-recall curves, no "
            "confusion, and a count may be right by chance, its boxes on the wrong things."
        )
    if oof is not None and (len(oof.with_boxes) or len(oof.with_counts)):
        found += _of_objects(oof, names)
    summary = decision.rule.summary
    if summary and not summary.get("folds"):
        found.append(
            f"The count rule was not tuned: {wording.count(int(summary.get('images', 0)), 'image')} with known "
            "counts are too few."
        )
    elif top["cross_validated"]:
        found.append(
            "The headline is cross-validated; the count charts and pictures use the final rule, which was tuned on "
            "these very images, so they look a little better than new images will."
        )
    elif summary.get("chosen", "plain") != "plain":
        found.append(
            "The count rule was tuned on the out-of-fold images shown here. Its value under “What was decided” is "
            "cross-validated; charts and pictures use the final rule and may look a little better."
        )
    found += disagreement(top["interval"], top["graded"])
    if reports:
        found.append(
            f"{wording.count(len(reports), 'annotated box', 'annotated boxes')} were mended or set aside; they are "
            "listed under “Annotations”."
        )
    in_test = sum(1 for item in broken if item.get("split") == "test")
    if in_test:
        found.append(
            f"{wording.count(in_test, 'test image')} cannot be read and got no boxes; they are listed under "
            "“Set aside”."
        )
    return found + code_caveats(record)


def _of_objects(oof: BoxSet, names: Sequence[str]) -> list[str]:
    """Classes with few or no objects, and images with more than COCO looks at."""
    objects, found = oof.n_objects, []
    if len(oof.with_boxes) and not len(oof.with_counts):
        objects = np.sum([oof.truth[i].counts(oof.n_classes) for i in oof.with_boxes], axis=0)
    none = [name for name, n in zip(names, objects, strict=True) if n == 0]
    few = [f"{name} ({n})" for name, n in zip(names, objects, strict=True) if 0 < n < FEW_OBJECTS]
    if len(none) == len(names):
        return ["The out-of-fold images hold no object: there is no average precision, and no box can be right."]
    if none:
        found.append(f"No object out of fold, so nothing is known of: {_listed(none)}.")
    if few:
        found.append(f"Few objects stand behind the numbers of {_listed(few)}: they move a lot with each of them.")
    crowded = sum(
        1 for i in oof.with_boxes if len(oof.truth[i]) and oof.truth[i].counts(oof.n_classes).max() > COCO_LIMIT
    )
    if crowded:
        found.append(
            f"{wording.count(crowded, 'image')} with more than {COCO_LIMIT} objects of a class: COCO's metrics look at "
            f"{COCO_LIMIT} boxes an image and class, so their average precision cannot reach 1."
        )
    return found


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
