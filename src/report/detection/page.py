"""What a detection run's page shows: the evidence gathered, the figures drawn, the pictures chosen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.boxes.count_rule import CountRule
from src.boxes.postprocess import Postprocess
from src.competition import Competition
from src.flows.detection_panel import Decision
from src.report import charts, palette
from src.report.detection import figures, gallery, summary
from src.report.detection.caveats import caveats
from src.report.detection.evidence import BoxSet, box_sets, curves
from src.report.detection.marks import mark_limit
from src.report.detection.marks import marks as marks_of
from src.report.fonts import drawn_names
from src.report.scoreboard import metric_table
from src.report.thumbnails import data_uri

TEMPLATE = "detection/page.html.j2"
MAX_REPORTS = 200  # rows of the table of mended boxes
PICTURE_BYTES = 3_500_000  # of all inlined pictures; beyond, they are pressed harder
QUALITIES = (82, 60, 40)


def contents(
    run: Path,
    *,
    competition: Competition,
    manifest: pd.DataFrame,
    oof: pd.DataFrame | None,
    test: pd.DataFrame | None,
    solution: pd.DataFrame | None,
    metrics: dict[str, Any],
    record: dict[str, Any],
    broken: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What the template takes beside the shared parts; arguments as of `src.report.build_report`.

    Writes figures/{pr,counts,confusion,gallery}.png. Names of classes stand as they are on the page; in the PNGs
    they are in English where no installed font has their letters.
    """
    names = list(map(str, manifest.attrs["classes"]))
    reports = list(manifest.attrs.get("box_reports") or [])
    decision = _decision(metrics, names)
    sets = box_sets(manifest, oof, test, solution, decision, run / "predictions")
    top = summary.headline(metrics, sets, decision)
    by_key = {scored.key: scored for scored in sets}
    drawn = {key: curves(scored) if len(scored.with_boxes) else {} for key, scored in by_key.items()}
    shown = by_key.get("oof") if drawn.get("oof") else by_key.get("test")
    own = drawn.get(shown.key, {}) if shown is not None else {}
    train = manifest[manifest["split"] == "train"]
    places = palette.places(_objects(train, len(names)))
    folder = run / "figures"
    return {
        "top": top,
        "decided": summary.decisions(metrics, decision, names),
        "caveats": caveats(sets, top, decision, names, record, broken, reports),
        "n_train": len(train),
        "classes": summary.class_rows(metrics, sets, own, names, places),
        "curves": _curves(folder, shown, own, drawn.get("test", {}), names, places),
        "counts": _counts(folder, sets),
        "confusions": _confusions(folder, sets, names),
        "gallery": _gallery(folder, sets, decision, names, places, broken),
        "table": metric_table(
            metrics, {key: len(scored.with_boxes) or len(scored.with_counts) for key, scored in by_key.items()}
        ),
        "facts": _facts(train, names),
        "reports": reports[:MAX_REPORTS],
        "n_reports": len(reports),
        "mended": summary.mended(reports),
        "light": palette.variables(palette.LIGHT),
        "dark": palette.variables(palette.DARK),
    }


def _decision(metrics: dict[str, Any], names: Sequence[str]) -> Decision:
    """What metrics.json says was decided; without it the detector's own boxes and the plain rule."""
    if "count_rule" in metrics and "postprocess" in metrics:
        return Decision.from_dict(metrics)
    return Decision(Postprocess(), CountRule.plain(names))


def _objects(train: pd.DataFrame, n_classes: int) -> list[int]:
    """Known objects of each class in the training images."""
    counts = [row for row in train["counts"] if row is not None] if "counts" in train else []
    return np.sum(counts, axis=0).astype(int).tolist() if counts else [0] * n_classes


def _facts(train: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, str]]:
    known = [boxes for boxes in train["boxes"] if boxes is not None] if "boxes" in train else []
    counted = [counts for counts in train["counts"] if counts is not None] if "counts" in train else []
    facts = [("classes", f"{len(names):,}: {', '.join(names[:12])}{' …' if len(names) > 12 else ''}")]
    if known:
        facts.append(("annotated boxes", f"{sum(map(len, known)):,} on {len(known):,} images"))
        facts.append(("images without objects", f"{sum(not len(boxes) for boxes in known):,}"))
    elif counted:
        facts.append(
            ("counted objects", f"{int(sum(counts.sum() for counts in counted)):,} on {len(counted):,} images")
        )
    return facts


def _curves(
    folder: Path,
    shown: BoxSet | None,
    own: dict[int, Any],
    graded: dict[int, Any],
    names: Sequence[str],
    places: Sequence[int],
) -> dict[str, Any] | None:
    """The precision-recall chart with its key, the graded curves thin beside out-of-fold ones."""
    path = folder / "pr.png"
    if shown is None or not own:
        path.unlink(missing_ok=True)
        return None
    lines = figures.drawn_curves(own)
    beside = graded if shown.key == "oof" else {}
    labels, font = drawn_names(names)
    charts.save_png(figures.draw_precision_recall(lines, beside, places=places, names=labels, font=font), path)
    svg = charts.themed_svg(
        figures.draw_precision_recall(lines, beside, places=places),
        "pr",
        "Precision over recall of each class at IoU 0.5",
        palette.variables(palette.LIGHT),
    )
    key = [
        {
            "name": names[line.label],
            "colour": palette.variable(places[line.label]),
            "dash": " ".join(str(1.8 * length) for length in palette.dashes(places[line.label])),
            "ap50": line.ap50,
            "n": line.n,
        }
        for line in lines
    ]
    return {"svg": svg, "key": key, "title": shown.title, "left_out": len(own) - len(lines), "thin": bool(beside)}


def _counts(folder: Path, sets: Sequence[BoxSet]) -> list[dict[str, Any]]:
    """Scatter and histogram per set with known counts; the PNG shows the first."""
    views = []
    path = folder / "counts.png"
    for scored, counted, true in figures.counted_pairs(sets):
        if not len(counted):
            continue
        if not views:
            charts.save_png(figures.draw_counts_and_errors(counted, true), path)
        cells = len(scored.with_counts) * scored.n_classes
        drawn = (
            ("scatter", "Counted against true", figures.draw_counts),
            ("errors", "Errors of counts", figures.draw_errors),
        )
        views.append(
            {
                "title": scored.title,
                "charts": [
                    {"title": title, "svg": charts.themed_svg(draw(counted, true), f"{scored.key}-{name}", title)}
                    for name, title, draw in drawn
                ],
                "cells": cells,
                "empty": cells - len(counted),
                "exact": int((counted == true).sum()),
                "shown": len(counted),
                "under": int((counted < true).sum()),
                "over": int((counted > true).sum()),
                "total": int(true.sum()),
                "total_counted": int(counted.sum()),
            }
        )
    if not views:
        path.unlink(missing_ok=True)
    return views


def _confusions(folder: Path, sets: Sequence[BoxSet], names: Sequence[str]) -> list[dict[str, Any]]:
    views = [(scored, summary.confusion_view(scored, names)) for scored in sets]
    views = [(scored, view) for scored, view in views if view is not None]
    path = folder / "confusion.png"
    if not views:
        path.unlink(missing_ok=True)
        return []
    labels, font = drawn_names(names)
    table, shown = summary.folded_confusion(views[0][0].confusion, labels)
    charts.save_png(figures.draw_confusion(table, names=shown, font=font), path)
    return [{**view, "most": gallery.said_pairs(scored, names)} for scored, view in views]


def _gallery(
    folder: Path,
    sets: Sequence[BoxSet],
    decision: Decision,
    names: Sequence[str],
    places: Sequence[int],
    broken: Sequence[dict[str, Any]],
) -> dict[str, Any] | None:
    """Groups of cards with inlined pictures and what is drawn on them; None if there is nothing to show."""
    path = folder / "gallery.png"
    thresholds = [rule.threshold for rule in decision.rule.rules]
    groups = []
    for scored in sets:
        split = "train" if scored.key == "oof" else "test"
        unread = {str(item["id"]) for item in broken if item["split"] == split}
        groups += gallery.choose(scored, names, thresholds, unread)
    if not groups:
        path.unlink(missing_ok=True)
        return None
    gallery.load(groups)
    gallery.save_contact_sheet(groups, path, places=places)
    pictures, limit = _inlined(groups), mark_limit(groups)
    views = [
        {
            "title": group.title,
            "note": group.note,
            "key": group.key,
            "cards": [_card(card, pictures[id(card)], names, places, limit) for card in group.cards],
        }
        for group in groups
    ]
    return {
        "sections": [
            {"title": scored.title, "groups": [view for view in views if view["key"] == scored.key]}
            for scored in sets
            if any(view["key"] == scored.key for view in views)
        ],
        "with_truth": any(len(scored.with_boxes) for scored in sets),
        "with_counts": any(len(scored.with_counts) for scored in sets),
        "key": [{"name": name, "colour": palette.variable(label)} for label, name in enumerate(names)]
        if len(names) <= summary.palette_size()
        else [],
    }


def _inlined(groups: Sequence[gallery.Group]) -> dict[int, str | None]:
    """The address of each card's picture, by the card's identity; pressed until all fit into PICTURE_BYTES."""
    cards = [card for group in groups for card in group.cards]
    for quality in QUALITIES:
        found = {id(card): None if card.picture is None else data_uri(card.picture, quality) for card in cards}
        if sum(len(uri or "") for uri in found.values()) <= PICTURE_BYTES:
            break
    return found


def _card(
    card: gallery.Card, uri: str | None, names: Sequence[str], places: Sequence[int], limit: int
) -> dict[str, Any]:
    outcome = card.scored.outcomes.get(card.index)
    verdicts, marks = [], marks_of(card, names, places, limit)
    notes = [f"{marks['left_out']:,} boxes and objects are not drawn; mistakes go first."] if marks["left_out"] else []
    if outcome is not None:
        verdicts = [(outcome.missed, "missed"), (outcome.false, "false")]
    return {
        "id": card.scored.ids[card.index],
        "fold": card.scored.folds[card.index],
        "uri": uri,
        "marks": marks,
        "tally": gallery.tally(card, names, places),
        "verdicts": [f"{n} {what}" for n, what in verdicts if n],
        "perfect": outcome is not None and not outcome.errors,
        "notes": [*card.notes, *notes],
    }
