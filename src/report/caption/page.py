"""What a caption run's page shows: the evidence gathered, the figures drawn, the pictures chosen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.captions.tokenizers import get_tokenizer
from src.competition import Competition
from src.report import charts
from src.report.caption import figures, gallery, summary, words
from src.report.caption.caveats import caveats
from src.report.caption.evidence import CaptionSet, caption_sets, read_decision, read_frequencies, read_metric
from src.report.thumbnails import data_uri

TEMPLATE = "caption/page.html.j2"
MAX_REPORTS = 200  # rows of the table of mended captions
PICTURE_BYTES = 3_500_000  # of all inlined pictures; beyond, they are pressed harder
QUALITIES = (80, 60, 40)


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

    Writes figures/{words,gallery}.png. Captions stand as they are on the page; in gallery.png they are left out where
    no installed font has their letters.
    """
    reports = list(manifest.attrs.get("caption_reports") or [])
    metric, decision = read_metric(metrics, competition.metric), read_decision(metrics)
    train = manifest[manifest["split"] == "train"]
    training = [
        (str(name), list(texts or []))
        for name, texts in zip(train["id"], train.get("captions", pd.Series([None] * len(train))), strict=True)
    ]
    sets = caption_sets(
        manifest,
        oof,
        test,
        solution,
        decision=decision,
        metric=metric,
        frequencies=read_frequencies(run, [texts for _, texts in training], metric),
        predictions=run / "predictions",
    )
    tokenizer = get_tokenizer(metric.tokenizer)
    counted = {scored.key: words.words_of(scored, training, tokenizer) for scored in sets}
    top = summary.headline(metrics, sets, metric)
    folder = run / "figures"
    return {
        "top": top,
        "decided": summary.decisions(metrics, decision, metric),
        "caveats": caveats(metrics, sets, counted, top, metric, record, broken, reports),
        "n_train": len(train),
        "replaced": summary.replaced(metrics, sets),
        "sentences": _sentences(folder, [each for each in counted.values() if each is not None], metric),
        "gallery": _gallery(folder, sets, broken, metric),
        "table": summary.metric_table(metrics, metric),
        "signature": (metrics.get("oof") or metrics.get("graded") or {}).get("signature"),
        "facts": _facts(training),
        "reports": reports[:MAX_REPORTS],
        "n_reports": len(reports),
    }


def _facts(training: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[str, str]]:
    known = [texts for _, texts in training if texts]
    facts = [("captions", f"{sum(map(len, known)):,} of {len(known):,} images")]
    if len(known) < len(training):
        facts.append(("images without captions", f"{len(training) - len(known):,}"))
    return facts


def _sentences(folder: Path, counted: Sequence[words.Words], metric: Any) -> list[dict[str, Any]]:
    """What the captions of each set are made of; the PNG shows the first."""
    path = folder / "words.png"
    if not counted:
        path.unlink(missing_ok=True)
        return []
    title, unit = summary.metric_title(metric), summary.UNITS.get(metric.tokenizer, "tokens")
    views = []
    for each in counted:
        captions, others, other = each.captions.lengths, each.others.lengths, each.others.title
        key, values = each.scored.key, each.scored.values[np.isfinite(each.scored.values)]
        if not views:
            figure = figures.draw_both(captions, others, values, other=other, unit=unit, name=title)
            charts.save_png(figure, path)
        lengths = figures.draw_lengths(captions, others, other=other, unit=unit)
        drawn = [("Length of the sentences", "lengths", lengths)]
        if len(values):
            drawn.append((f"{title} of each image", "values", figures.draw_values(values, name=title)))
        views.append(
            {
                "title": each.scored.title,
                "other": other,
                "charts": [
                    {"title": name, "svg": charts.themed_svg(figure, f"{key}-{part}", name)}
                    for name, part, figure in drawn
                ],
                "unit": unit,
                "table": words.table(each, unit),
                "repeated": words.repeated(each),
                "n": len(each.captions.texts),
                "n_repeated": len(each.captions.repeated),
                "unequal": words.unequal(each) if metric.tokenizer != "char" else {},
                "registers": words.registers(each),
            }
        )
    return views


def _gallery(
    folder: Path, sets: Sequence[CaptionSet], broken: Sequence[dict[str, Any]], metric: Any
) -> dict[str, Any] | None:
    """Groups of cards with inlined pictures; None if there is nothing to show."""
    path = folder / "gallery.png"
    title, groups = summary.metric_title(metric), []
    for scored in sets:
        split = "train" if scored.key == "oof" else "test"
        unread = {str(item["id"]) for item in broken if item["split"] == split}
        unread |= {name for name, flags in zip(scored.ids, scored.flags, strict=True) if "unread" in flags}
        groups += gallery.choose(scored, unread, metric=metric, name=title)
    if not groups:
        path.unlink(missing_ok=True)
        return None
    gallery.load(groups)
    gallery.save_contact_sheet(groups, path)
    pictures = inlined([card.picture for group in groups for card in group.cards])
    views, at = [], 0
    for group in groups:
        cards = [gallery.card_view(card, pictures[at + i], metric) for i, card in enumerate(group.cards)]
        views.append({"title": group.title, "note": group.note, "key": group.key, "cards": cards})
        at += len(cards)
    return {
        "metric": title,
        "problems": summary.PROBLEMS,
        "with_references": any(len(scored.known) for scored in sets),
        "with_image_scores": any(
            row["image"] is not None for view in views for card in view["cards"] for row in card["candidates"]
        ),
        "sections": [
            {"title": scored.title, "groups": [view for view in views if view["key"] == scored.key]}
            for scored in sets
            if any(view["key"] == scored.key for view in views)
        ],
    }


def inlined(pictures: Sequence[np.ndarray | None]) -> list[str | None]:
    """The address of each picture, None for those that could not be read; pressed until all fit into PICTURE_BYTES."""
    for quality in QUALITIES:
        found = [None if picture is None else data_uri(picture, quality) for picture in pictures]
        if sum(len(uri or "") for uri in found) <= PICTURE_BYTES:
            break
    return found
