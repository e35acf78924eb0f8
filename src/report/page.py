"""report.html of a run: gathers the evidence, draws the figures, fills the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.atomic import write_text
from src.competition import Competition
from src.report import figures, gallery, overlay, record_view, summary, wording
from src.report.evidence import ScoredSet, kinds, scored_sets
from src.runs import shown_path

MAX_SET_ASIDE = 200  # rows of the table of unreadable images


def build_report(
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
) -> Path:
    """Write `<run>/report.html`, one self-contained file, and `<run>/figures/{roc,pr,histogram,gallery}.png`.

    Any of `oof`, `test` and `solution` may be None, and every part of `metrics` (metrics.json) and `record`
    (run.json) may be missing: the page then says what it cannot show. A figure that cannot be drawn is not
    written, and an older one of that name is removed. `broken` holds {id, path, reason, split} of images that
    could not be read.

    Maps are read from `<run>/predictions/`. They lie on the model's canvas: `record["preprocess"]` (a
    PreprocessSpec as a dict) says how pictures were laid on it; without it they cover the whole picture.

    Returns:
        The path of report.html.

    Raises:
        ProjectError: predictions of ids outside the manifest, scores that are not finite, a full disk.
    """
    broken = [{**item, "path": _below(item["path"], competition.root)} for item in broken]
    sets = scored_sets(manifest, oof, test, solution, run / "predictions")
    threshold = summary.read_threshold(metrics)
    line = threshold["value"] if threshold else None
    top = summary.headline(metrics, sets, threshold)
    context = {
        "title": f"{competition.name} · {run.name}",
        "competition": competition,
        "run": run.name,
        "identity": record_view.identity(run, record),
        "top": top,
        "threshold": threshold,
        "threshold_origin": summary.threshold_origin(threshold),
        "submission": record_view.submission(run, record),
        "caveats": summary.caveats(sets, threshold, top, record, broken),
        "n_train": int((manifest["split"] == "train").sum()),
        "charts": _charts(run, sets, line),
        "confusions": summary.confusion_views(sets, line) if line is not None else [],
        "kinds": kinds(sets, line) if line is not None else [],
        "kind_columns": [scored for scored in sets if len(scored.defective)],
        "gallery": _gallery(run, sets, line, broken, record.get("preprocess")),
        "table": summary.metric_table(metrics, sets),
        "broken": broken[:MAX_SET_ASIDE],
        "n_broken": len(broken),
        "blocks": record_view.blocks(run, record, competition, manifest),
        "config": record_view.config_text(run),
        "run_path": shown_path(run),
        "light": figures.LIGHT,
        "dark": figures.DARK,
    }
    target = run / "report.html"
    write_text(target, _render(context))
    return target


def _render(context: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        score=wording.score, metric=wording.metric_value, percent=wording.percent, number="{:,}".format
    )
    return environment.get_template("page.html.j2").render(context)


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
    charts = []
    for name, title, draw, usable, note in plans:
        path = run / "figures" / f"{name}.png"
        if not usable:
            path.unlink(missing_ok=True)
            continue
        figure = draw(usable, line)
        figures.save_png(figure, path)
        svg = figures.themed_svg(figure, name, f"{title}. {note}")
        charts.append({"title": title, "svg": svg, "note": note})
    return charts


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
                            "uri": overlay.data_uri(image),
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


def _below(path: str, root: Path) -> str:
    """The path as the competition's tables give it, below the root where it lies there."""
    return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else str(path)


def _label(row: Any) -> str:
    if row.label is pd.NA:
        return "label unknown"
    if row.target:
        return row.target
    return "defective" if row.label == 1 else "normal"
