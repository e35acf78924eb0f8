"""Precision-recall per class, counted against true numbers, count errors, and the confusion of a detection run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from src.report import palette
from src.report.charts import LIGHT, SIZE, canvas, dress, share_axes, thinned
from src.report.detection.evidence import BoxSet, Curve
from src.report.fonts import properties

MOST_CURVES = 12
WIDEST = 8  # count errors beyond are drawn in the last bars


def drawn_curves(curves: Mapping[int, Curve]) -> list[Curve]:
    """The curves that are drawn, at most twelve, of the classes with the most objects; in the order of classes."""
    most = sorted(curves.values(), key=lambda curve: (-curve.n, curve.label))[:MOST_CURVES]
    return sorted(most, key=lambda curve: curve.label)


def draw_precision_recall(
    shown: Sequence[Curve],
    test: Mapping[int, Curve],
    *,
    places: Sequence[int],
    names: Sequence[str] = (),
    font: str = "",
) -> Any:
    """Matplotlib figure of precision over recall, a line a class; graded test curves are thin, the dot is where
    counting works. `places` are the classes' among the colours. `names` of all classes, drawable by `font`, make a
    legend; without them there is none."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2) if names else (5.0, 3.5), layout="constrained")
    axes = figure.subplots()
    dress(axes, "Recall: objects found", "Precision: boxes that are right")
    share_axes(axes)
    for curve in shown:
        colour, pattern = _colour(places[curve.label]), palette.dashes(places[curve.label])
        style: Any = (0, pattern) if pattern else "-"
        graded = test.get(curve.label)
        if graded is not None:
            _line(axes, graded, color=colour, linewidth=0.8, linestyle=style, alpha=0.55)
        label = f"{names[curve.label]}  {curve.ap50:.3f}" if names else None
        _line(axes, curve, color=colour, linewidth=1.8, linestyle=style, label=label)
    for curve in shown:
        if curve.point is not None:
            axes.plot(
                *curve.point, "o", markersize=6.5, color=_colour(places[curve.label]), markeredgecolor=LIGHT["ink"],
                markeredgewidth=0.9, clip_on=False, zorder=4,
            )  # fmt: skip
    if names:
        axes.legend(
            loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, prop=properties(font, 8.5), title="AP50",
            title_fontsize=8.5,
        )  # fmt: skip
    return figure


def _line(axes: Any, curve: Curve, **style: Any) -> None:
    keep = thinned(len(curve.recall))
    axes.plot(curve.recall[keep], curve.precision[keep], drawstyle="steps-pre", clip_on=False, **style)


def _colour(place: int) -> str:
    return palette.LIGHT[place % len(palette.LIGHT)]


def counted_pairs(sets: Sequence[BoxSet]) -> list[tuple[BoxSet, np.ndarray, np.ndarray]]:
    """(set, counted, true) of all cells (an image and a class) whose number is known, without those of 0 and 0."""
    pairs = []
    for scored in sets:
        if len(scored.with_counts):
            counted, true = scored.counted[scored.with_counts].ravel(), scored.counts[scored.with_counts].ravel()
            some = (counted > 0) | (true > 0)
            pairs.append((scored, counted[some], true[some]))
    return pairs


def draw_counts(counted: np.ndarray, true: np.ndarray) -> Any:
    """Matplotlib figure of counted over true numbers, a dot a pair of numbers, larger where it is more frequent."""
    figure, axes = canvas("", "")
    _scatter(axes, counted, true)
    return figure


def draw_errors(counted: np.ndarray, true: np.ndarray) -> Any:
    """Matplotlib figure of how often the counted number is off by how much; errors beyond ±8 in the last bars."""
    figure, axes = canvas("", "")
    _histogram(axes, counted, true)
    return figure


def draw_counts_and_errors(counted: np.ndarray, true: np.ndarray) -> Any:
    """Both side by side, for loggers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * SIZE[0], SIZE[1]), layout="constrained")
    left, right = figure.subplots(1, 2)
    _scatter(left, counted, true)
    _histogram(right, counted, true)
    return figure


def _scatter(axes: Any, counted: np.ndarray, true: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    dress(axes, "True number", "Counted")
    top = int(max(counted.max(initial=1), true.max(initial=1)))
    axes.plot([0, top], [0, top], color=LIGHT["muted"], linewidth=0.9, zorder=1)
    points, often = np.unique(np.column_stack([true, counted]), axis=0, return_counts=True)
    step = min(30.0, 190 / (top + 1.5))  # points between neighbouring whole numbers
    area = np.maximum(10.0, (0.92 * step) ** 2 * np.sqrt(often / often.max(initial=1)))  # or rare ones would vanish
    for colour, mask in (
        ("muted", points[:, 0] == points[:, 1]),
        ("normal", points[:, 1] < points[:, 0]),
        ("defect", points[:, 1] > points[:, 0]),
    ):
        axes.scatter(
            points[mask, 0], points[mask, 1], s=area[mask], color=LIGHT[colour], linewidths=0, zorder=2, clip_on=False
        )  # fmt: skip
    margin = max(0.6, 0.03 * top)
    axes.set_xlim(-margin, top + margin)
    axes.set_ylim(-margin, top + margin)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))


def _histogram(axes: Any, counted: np.ndarray, true: np.ndarray) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    dress(axes, "Counted minus true", "Counts")
    off = (counted - true).astype(int)
    reach = int(np.clip(np.abs(off).max(initial=0), 2, WIDEST))
    values, often = np.unique(np.clip(off, -reach, reach), return_counts=True)
    for value, n in zip(values, often, strict=True):
        colour = LIGHT["muted" if value == 0 else "normal" if value < 0 else "defect"]
        axes.bar(value, n, width=0.82, color=colour, linewidth=0)
        axes.annotate(
            f"{n:,}", (value, n), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8,
            color=LIGHT["ink"],
        )  # fmt: skip
    cut = bool((np.abs(off) > reach).any())
    axes.xaxis.set_major_locator(FixedLocator(list(range(-reach, reach + 1, 2 if reach > 5 else 1))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _signed(int(value), reach if cut else None)))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlim(-reach - 0.6, reach + 0.6)
    axes.set_ylim(0, often.max(initial=1) * 1.1)


def _signed(value: int, last: int | None) -> str:
    sign = "+" if value > 0 else "−" if value < 0 else ""
    beyond = "≤" if value == -(last or 0) else "≥"
    return f"{beyond if last and abs(value) == last else ''}{sign}{abs(value)}"


def draw_confusion(table: np.ndarray, *, names: Sequence[str], font: str) -> Any:
    """Matplotlib figure of a confusion (R, R) whose last row and column are the background; coloured by row."""
    from matplotlib.figure import Figure

    side = max(3.4, 0.5 * len(table) + 1.6)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1.25)
    for row, column in zip(*np.nonzero(table), strict=True):
        colour = "white" if share[row, column] > 0.7 else LIGHT["ink"]
        axes.text(column, row, f"{table[row, column]:,}", ha="center", va="center", fontsize=8, color=colour)
    text = properties(font, 8.5)
    axes.set_xticks(range(len(table)), [*names, "missed"], rotation=90 if len(table) > 6 else 0, fontproperties=text)
    axes.set_yticks(range(len(table)), [*names, "nothing there"], fontproperties=text)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("Box says", color=LIGHT["muted"], fontsize=9)
    axes.set_ylabel("Truth", color=LIGHT["muted"], fontsize=9)
    axes.tick_params(length=0, colors=LIGHT["ink"])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure
