"""How well classes are told apart: a table, the confusion, and the confusions that happen most, with pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from src.errors import ProjectError
from src.report import charts, wording
from src.report.anomaly.evidence import ScoredSet
from src.report.fonts import drawn_names, properties
from src.report.thumbnails import data_uri, shrink

SHOWN = 20  # classes that a confusion shows one by one
LISTED = 8  # pairs of classes in the list of confusions
EXAMPLES = 3  # pictures of each
SIDE = 104  # pixels of an example's longer side
LETTERS = 22  # of a class's name in the confusion
KEYS = {"oof": "oof", "graded": "test"}  # of metrics.json's figures, and of the set that they are of


def class_view(metrics: dict[str, Any], sets: list[ScoredSet]) -> dict[str, Any] | None:
    """All that the section of classes shows; None where a run tells no classes."""
    found = metrics.get("classes") or {}
    parts = [(key, found[key]) for key in KEYS if found.get(key)]
    if not parts:
        return None
    by_key = {scored.key: scored for scored in sets}
    normal = found.get("normal") or []
    views = []
    for key, figures in parts:
        scored = by_key.get(KEYS[key])
        views.append(
            {
                "key": key,
                "title": "Out of fold" if key == "oof" else "Test, graded afterwards",
                "n": figures["n"],
                "macro_f1": wording.metric_value(figures.get("macro_f1"), figures["n"]),
                "accuracy": wording.metric_value(figures.get("accuracy"), figures["n"]),
                "balanced_accuracy": wording.metric_value(figures.get("balanced_accuracy"), figures["n"]),
                "confusion": confusion_view(figures),
                "pairs": confused_pairs(figures, scored, normal),
            }
        )
    return {"views": views, **_table(dict(parts))}


def _table(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Rows of classes, the worst F1 of the first part first; `columns` says which parts stand beside."""
    keys = list(parts)
    by_class: dict[str, dict[str, Any]] = {}
    for key, figures in parts.items():
        for row in figures["per_class"]:
            by_class.setdefault(row["class"], {})[key] = row

    def ease(name: str) -> tuple[float, str]:
        row = by_class[name].get(keys[0])
        return (row["f1"] if row and wording.is_number(row.get("f1")) else 2.0), name

    rows = [
        {"name": name, **{key: _class_cells(by_class[name].get(key)) for key in keys}}
        for name in sorted(by_class, key=ease)
    ]
    return {"rows": rows, "columns": keys}


def _class_cells(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "n": row["n"],
        "f1": row["f1"] if wording.is_number(row.get("f1")) else None,
        **{key: wording.metric_value(row.get(key)) for key in ("precision", "recall")},
    }


def shortened(name: str, letters: int = LETTERS) -> str:
    """A long name without its middle: categories begin alike, and kinds of defects end apart."""
    if len(name) <= letters:
        return name
    tail = (letters - 1) * 3 // 5
    return f"{name[: letters - 1 - tail]}…{name[-tail:]}"


def folded(table: np.ndarray, names: Sequence[str], shown: int = SHOWN) -> tuple[np.ndarray, list[str], int]:
    """The (C, C) confusion of at most `shown` classes, and how many it leaves out.

    Of more classes those in the most mistakes are kept, in their own order, and all others are one more row and column
    at the end, "others". Its diagonal counts every answer from one of them to one of them.
    """
    if len(names) <= shown:
        return table, list(names), 0
    mistakes = table - np.diag(np.diag(table))
    order = np.argsort(-(mistakes.sum(axis=0) + mistakes.sum(axis=1)), kind="stable")
    kept = sorted(i for i in order[: shown - 1] if mistakes[i].any() or mistakes[:, i].any())
    place = np.full(len(names), len(kept))
    place[np.array(kept, dtype=np.int64)] = np.arange(len(kept))
    result = np.zeros((len(kept) + 1, len(kept) + 1), dtype=np.int64)
    np.add.at(result, (place[:, None], place[None, :]), table)
    return result, [*(names[i] for i in kept), "others"], len(names) - len(kept)


def confusion_view(figures: dict[str, Any]) -> dict[str, Any]:
    """The confusion for the template: rows of cells {n, share of the row in percent, right}."""
    whole = np.array(figures["confusion"], dtype=np.int64)
    table, names, left_out = folded(whole, figures["names"])
    rows = []
    for index, name in enumerate(names):
        total = int(table[index].sum())
        cells = [
            {
                "n": int(n),
                "share": round(100 * int(n) / max(1, total)),
                "right": column == index,
                "void": bool(left_out) and column == index == len(names) - 1,
            }
            for column, n in enumerate(table[index])
        ]
        rows.append({"name": name, "short": shortened(name), "n": total, "cells": cells})
    right, n = int(np.trace(whole)), int(whole.sum())
    return {
        "rows": rows,
        "columns": [{"name": name, "short": shortened(name)} for name in names],
        "left_out": left_out,
        "right": right,
        "n": n,
        "right_rate": wording.percent(right, n),
    }


def draw_confusion(found: dict[str, Any]) -> Any:
    """Matplotlib figure of the confusion, rows as shares; of the graded images beside those out of fold."""
    from matplotlib.figure import Figure

    parts = [(title, found[key]) for key, title in (("oof", "Out of fold"), ("graded", "Test")) if found.get(key)]
    tables = [folded(np.array(figures["confusion"]), figures["names"]) for _, figures in parts]
    side = 1.8 + 0.24 * max(len(names) for _, names, _ in tables)
    figure = Figure(figsize=(side * len(parts), side), layout="constrained")
    panels = figure.subplots(1, len(parts), squeeze=False)[0]
    for axes, (title, _), (table, names, _) in zip(panels, parts, tables, strict=True):
        drawn, path = drawn_names([shortened(name) for name in names])
        font = properties(path, 7)
        share = table / np.maximum(1, table.sum(axis=1, keepdims=True))
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row, column in zip(*np.nonzero(table), strict=True):
            dark = share[row, column] > 0.6
            axes.text(
                column, row, f"{table[row, column]:,}", ha="center", va="center", fontsize=6.5,
                color="white" if dark else charts.LIGHT["ink"],
            )  # fmt: skip
        places = range(len(names))
        axes.set_xticks(places, drawn, rotation=90, fontproperties=font)
        axes.set_yticks(places, drawn, fontproperties=font)
        axes.tick_params(length=0, colors=charts.LIGHT["muted"])
        axes.set_xlabel("said", color=charts.LIGHT["muted"], fontsize=8)
        axes.set_ylabel("true", color=charts.LIGHT["muted"], fontsize=8)
        axes.set_title(title, loc="left", fontsize=9, color=charts.LIGHT["ink"])
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def confused_pairs(
    figures: dict[str, Any], scored: ScoredSet | None, normal: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The most frequent confusions: {truth, said, n, of, note, examples}; the surest mistakes are the examples."""
    table, names = np.array(figures["confusion"], dtype=np.int64), figures["names"]
    wrong = table.copy()
    np.fill_diagonal(wrong, 0)
    order = np.lexsort((np.arange(wrong.size), -wrong.ravel()))[:LISTED]
    pairs = []
    for row, column in (divmod(int(place), len(names)) for place in order):
        n = int(wrong[row, column])
        if not n:
            break
        truth, said = names[row], names[column]
        note = ""
        if (truth in normal) != (said in normal):
            note = "false alarm" if truth in normal else "defect missed"
        pairs.append(
            {
                "truth": truth,
                "said": said,
                "n": n,
                "of": int(table[row].sum()),
                "note": note,
                "examples": _examples(scored, truth, said),
            }
        )
    return pairs


def _examples(scored: ScoredSet | None, truth: str, said: str) -> list[dict[str, Any]]:
    if scored is None:
        return []
    from src.data.images import read_image

    frame = scored.frame
    rows = frame[(frame["target"] == truth) & (frame["said"] == said)].sort_values("sure", ascending=False)
    shown = []
    for row in rows.itertuples(index=False):
        try:
            picture = shrink(read_image(row.path), SIDE)
        except ProjectError:
            continue  # named in the gallery or under “Set aside”; another example stands for it
        shown.append(
            {
                "id": row.id,
                "uri": data_uri(picture),
                "height": picture.shape[0],
                "width": picture.shape[1],
                "sure": wording.probability(row.sure),
            }
        )
        if len(shown) == EXAMPLES:
            break
    return shown
