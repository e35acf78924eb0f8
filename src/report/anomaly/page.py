"""What an anomaly run's page shows: the evidence gathered, the figures drawn, the pictures chosen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.competition import Competition
from src.report import charts, record_view, wording
from src.report.anomaly import certainty, figures, gallery, overlay, summary
from src.report.anomaly.answers import Rules, read_rules
from src.report.anomaly.categories import category_view
from src.report.anomaly.choices import choices
from src.report.anomaly.classes import class_view, draw_confusion
from src.report.anomaly.evidence import ScoredSet, kinds, scored_sets
from src.report.scoreboard import metric_table
from src.report.thumbnails import data_uri

TEMPLATE = "anomaly/page.html.j2"


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

    Writes figures/{histogram,roc,pr,gallery,confusion}.png. Maps are read from `<run>/predictions/`. They lie on the
    model's canvas: `record["preprocess"]` (a PreprocessSpec as a dict) says how pictures were laid on it; without it
    they cover the whole picture.
    """
    rules = read_rules(metrics)
    sets = scored_sets(manifest, oof, test, solution, run / "predictions", rules)
    held_out = next((scored for scored in sets if scored.key == "oof"), None)
    sure = certainty.read_certainty(metrics)
    interval = certainty.threshold_interval(rules, sure)
    config = record_view.read_yaml(run)
    target = _number(config, "threshold", "target_false_alarm")
    top = summary.headline(metrics, sets, rules, sure)
    train = manifest["split"] == "train"
    test_known = "category" in manifest and bool(manifest.loc[~train, "category"].notna().all())
    return {
        "top": top,
        "by_class": rules.class_rule is not None,
        "own_thresholds": bool(rules.own) and rules.class_rule is None,
        "line": rules.line,
        "origin": certainty.origin(rules, interval, target),
        "small_figure": certainty.small_figure(held_out, rules.line, interval),
        "promise": certainty.promise(sure, rules, held_out, target=target),
        "caveats": summary.caveats(sets, rules, top, record, broken),
        "n_train": int(train.sum()),
        "charts": _charts(run, sets, rules, interval),
        "confusions": summary.confusion_views(sets) if rules.decides else [],
        "kinds": kinds(sets) if rules.line is not None and rules.class_rule is None else [],
        "kind_columns": [scored for scored in sets if len(scored.defective)],
        "choices": choices(metrics, rules),
        "categories": category_view(
            metrics,
            sets,
            rules,
            test_known=test_known,
            allowed=(config.get("calibration") or {}).get("by_category", "auto") is not None,
        ),
        "classes": _classes(run, metrics, sets),
        "gallery": _gallery(run, sets, rules, broken, record.get("preprocess")),
        "table": metric_table(summary.with_classes(metrics), {scored.key: len(scored.known) for scored in sets}),
        "facts": [("labelled defects among them", f"{int((manifest.loc[train, 'label'] == 1).sum()):,}")],
    }


def _number(config: dict[str, Any], section: str, key: str) -> float | None:
    """A number of config.yaml, None where it has none."""
    value = (config.get(section) or {}).get(key)
    return value if wording.is_number(value) else None


def _classes(run: Path, metrics: dict[str, Any], sets: list[ScoredSet]) -> dict[str, Any] | None:
    """The section of classes; draws their confusion for loggers too."""
    path = run / "figures" / "confusion.png"
    view = class_view(metrics, sets)
    if view is None:
        path.unlink(missing_ok=True)
        return None
    charts.save_png(draw_confusion(metrics["classes"]), path)
    return view


def _charts(
    run: Path, sets: list[ScoredSet], rules: Rules, interval: tuple[float, float] | None
) -> list[dict[str, str]]:
    """Draw what can be drawn; a chart is its title, inline SVG, and the sentence that says how to read it."""
    curves = [scored for scored in sets if scored.has_both]
    dot = "the dot is what the classes say" if rules.class_rule is not None else "the dot is the threshold in use"
    if rules.own and rules.class_rule is None:
        dot = "the dot is the decisions in use, by the categories' own thresholds"
    plans = [
        (
            "histogram", "Score histogram", lambda s: figures.draw_histogram(s, rules.line, interval), sets,
            (
                "The further the colours stand apart, the easier the task was for the model."
                if curves
                else "Nobody has labelled a defect here: look for a second hill beyond the threshold."
            )
            + (" Ticks below the axis are single images." if any(map(figures.has_ticks, sets)) else "")
            + (" The grey band is where the threshold may as well lie (95%)." if interval else "")
            + (" The line is the shared threshold." if rules.own and rules.class_rule is None else ""),
        ),
        (
            "roc", "ROC", lambda s: figures.draw_roc(s, rules.decides), curves,
            f"Defects found against false alarms as the threshold sinks; {dot}.",
        ),
        (
            "pr", "Precision and recall", lambda s: figures.draw_precision_recall(s, rules.decides), curves,
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
        figure = draw(usable)
        charts.save_png(figure, path)
        svg = charts.themed_svg(figure, name, f"{title}. {note}")
        drawn.append({"title": title, "svg": svg, "note": note})
    return drawn


def _gallery(
    run: Path, sets: list[ScoredSet], rules: Rules, broken: list[dict[str, Any]], preprocess: dict | None
) -> dict[str, Any] | None:
    """Groups of cards with inlined pictures, and the common colour scale; None if there is nothing to show."""
    path = run / "figures" / "gallery.png"
    groups = []
    for scored in sets:
        split = "train" if scored.key == "oof" else "test"
        unread = {str(item["id"]) for item in broken if item["split"] == split}
        groups += gallery.choose(scored, rules, unread)
    if not groups:
        path.unlink(missing_ok=True)
        return None
    scale = gallery.load(groups, preprocess)
    gallery.save_contact_sheet(groups, scale, path)
    low, high = summary.score_range(sets)
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
                    "line_at": None if np.isnan(card.row.line) else at(card.row.line),
                    "said": card.row.said,
                    "sure": None if card.row.said is None else wording.probability(card.row.sure),
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
        "with_line": any(scored.frame["line"].notna().any() for scored in sets),
        "with_said": any(scored.frame["said"].notna().any() for scored in sets),
        "outlined": any(card.mask is not None for group in groups for card in group.cards),
    }


def _label(row: Any) -> str:
    if row.label is pd.NA:
        return "label unknown"
    if row.target:
        return row.target
    return "defective" if row.label == 1 else "normal"
