"""What an anomaly run's page shows: the evidence gathered, the figures drawn, the pictures chosen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.competition import Competition
from src.report import charts
from src.report.anomaly import figures, gallery, overlay, summary
from src.report.anomaly.evidence import ScoredSet, kinds, scored_sets
from src.report.scoreboard import metric_table
from src.report.thumbnails import data_uri

TEMPLATE = "anomaly/page.html.j2"
FIGURES = ("histogram", "roc", "pr", "gallery")


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

    Writes figures/{histogram,roc,pr,gallery}.png. Maps are read from `<run>/predictions/`. They lie on the model's
    canvas: `record["preprocess"]` (a PreprocessSpec as a dict) says how pictures were laid on it; without it they
    cover the whole picture.
    """
    sets = scored_sets(manifest, oof, test, solution, run / "predictions")
    threshold = summary.read_threshold(metrics)
    line = threshold["value"] if threshold else None
    top = summary.headline(metrics, sets, threshold)
    train = manifest["split"] == "train"
    return {
        "top": top,
        "threshold": threshold,
        "threshold_origin": summary.threshold_origin(threshold),
        "caveats": summary.caveats(sets, threshold, top, record, broken),
        "n_train": int(train.sum()),
        "charts": _charts(run, sets, line),
        "confusions": summary.confusion_views(sets, line) if line is not None else [],
        "kinds": kinds(sets, line) if line is not None else [],
        "kind_columns": [scored for scored in sets if len(scored.defective)],
        "gallery": _gallery(run, sets, line, broken, record.get("preprocess")),
        "table": metric_table(metrics, {scored.key: len(scored.known) for scored in sets}),
        "facts": [("labelled defects among them", f"{int((manifest.loc[train, 'label'] == 1).sum()):,}")],
    }


def _charts(run: Path, sets: list[ScoredSet], line: float | None) -> list[dict[str, str]]:
    """Draw what can be drawn; a chart is its title, inline SVG, and the sentence that says how to read it."""
    curves = [scored for scored in sets if scored.has_both]
    plans = [
        (
            "histogram", "Score histogram", figures.draw_histogram, sets,
            (
                "The further the colours stand apart, the easier the task was for the model."
                if curves
                else "Nobody has labelled a defect here: look for a second hill beyond the threshold."
            )
            + (" Ticks below the axis are single images." if any(map(figures.has_ticks, sets)) else ""),
        ),
        (
            "roc", "ROC", figures.draw_roc, curves,
            "Defects found against false alarms as the threshold sinks; the dot is the threshold in use.",
        ),
        (
            "pr", "Precision and recall", figures.draw_precision_recall, curves,
            "How many alarms are right as more defects are found; the level depends on "
            "how many images are defective.",
        ),
    ]  # fmt: skip
    drawn = []
    for name, title, draw, usable, note in plans:
        path = run / "figures" / f"{name}.png"
        if not usable:
            path.unlink(missing_ok=True)
            continue
        figure = draw(usable, line)
        charts.save_png(figure, path)
        svg = charts.themed_svg(figure, name, f"{title}. {note}")
        drawn.append({"title": title, "svg": svg, "note": note})
    return drawn


def _gallery(
    run: Path, sets: list[ScoredSet], line: float | None, broken: list[dict[str, Any]], preprocess: dict | None
) -> dict[str, Any] | None:
    """Groups of cards with inlined pictures, and the common colour scale; None if there is nothing to show."""
    path = run / "figures" / "gallery.png"
    groups = []
    for scored in sets:
        split = "train" if scored.key == "oof" else "test"
        unread = {str(item["id"]) for item in broken if item["split"] == split}
        groups += gallery.choose(scored, line, unread)
    if not groups:
        path.unlink(missing_ok=True)
        return None
    scale = gallery.load(groups, preprocess)
    gallery.save_contact_sheet(groups, scale, path)
    low, high = summary.score_range(sets, line)
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return round(100 * (value - low) / span, 1)

    views = []
    for group in groups:
        cards = []
        for card in group.cards:
            shown = gallery.panels(card, scale)
            height, width = shown[0][1].shape[:2] if shown else (1, 1)
            cards.append(
                {
                    "id": card.row.id,
                    "score": card.row.score,
                    "at": at(card.row.score),
                    "label": _label(card.row),
                    "colour": "unknown" if card.row.label is pd.NA else "defect" if card.row.label == 1 else "normal",
                    "verdict": card.verdict,
                    "shape": "single" if len(shown) == 1 else "stacked" if width > 2 * height else "",
                    "images": [
                        {
                            "uri": data_uri(image),
                            "what": what,
                            "height": image.shape[0],
                            "width": image.shape[1],
                        }
                        for what, image in shown
                    ],
                    "notes": card.notes,
                }
            )
        views.append({"title": group.title, "note": group.note, "key": group.key, "cards": cards})
    titles = {scored.key: scored.title for scored in sets}
    return {
        "sections": [
            {"key": key, "title": titles[key], "groups": [view for view in views if view["key"] == key]}
            for key in titles
            if any(view["key"] == key for view in views)
        ],
        "scale": scale,
        "stops": overlay.colour_stops(),
        "line_at": None if line is None else at(line),
        "outlined": any(card.mask is not None for group in groups for card in group.cards),
    }


def _label(row: Any) -> str:
    if row.label is pd.NA:
        return "label unknown"
    if row.target:
        return row.target
    return "defective" if row.label == 1 else "normal"
