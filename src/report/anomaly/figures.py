"""ROC, precision-recall and score histogram of an anomaly run."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from src.report.anomaly.evidence import ScoredSet, confusion
from src.report.charts import LIGHT, SIZE, canvas, dress, legend, share_axes, thinned

MAX_TICKS = 60  # images of one class that the histogram also shows singly


def draw_roc(sets: Sequence[ScoredSet], decided: bool) -> Any:
    """Matplotlib figure of the ROC curves; test is dashed; the dot marks the decisions, where there are any."""
    from sklearn.metrics import roc_auc_score, roc_curve

    def curve(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        x, y, _ = roc_curve(labels, scores)
        return x, y, roc_auc_score(labels, scores)

    def mark(counts: dict[str, int]) -> tuple[float, float]:
        alarms, hits = counts["false_alarms"], counts["hits"]
        return alarms / (alarms + counts["passed"]), hits / (hits + counts["misses"])

    figure, axes = canvas("False alarms among normal images", "Defects found")
    share_axes(axes)
    axes.plot([0, 1], [0, 1], color=LIGHT["rule"], linewidth=1)
    _curves(axes, sets, curve, mark if decided else None, "AUROC")
    return figure


def draw_precision_recall(sets: Sequence[ScoredSet], decided: bool) -> Any:
    """Matplotlib figure of precision over recall; test is dashed; the dot marks the decisions, where there are any."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    def curve(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        precision, recall, _ = precision_recall_curve(labels, scores, drop_intermediate=True)
        # one step for each defect found, at the threshold that just finds it, as average precision sums them
        reached, last = np.unique(recall[-2::-1], return_index=True)
        steps = precision[-2::-1][last]
        x, y = reached[reached > 0], steps[reached > 0]
        return np.append(0.0, x), np.append(y[0], y), average_precision_score(labels, scores)

    def mark(counts: dict[str, int]) -> tuple[float, float]:
        hits, alarms = counts["hits"], counts["false_alarms"]
        return hits / (hits + counts["misses"]), hits / max(1, hits + alarms)

    figure, axes = canvas("Recall: defects found", "Precision: alarms that are right")
    share_axes(axes)
    _curves(axes, sets, curve, mark if decided else None, "AP", steps=True)
    return figure


def draw_histogram(
    sets: Sequence[ScoredSet], threshold: float | None, interval: tuple[float, float] | None = None
) -> Any:
    """Matplotlib figure of the scores per class, one panel a set over a common axis, with the threshold.

    `interval` is that of the threshold, a band behind it.

    Counts go logarithmic when one class would vanish beside the other; a class of few images also shows every
    score as a tick below the axis.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    figure = Figure(figsize=SIZE, layout="constrained")
    panels = figure.subplots(len(sets), 1, sharex=True, squeeze=False)[:, 0]
    edges, log_x = _score_bins(np.concatenate([scored.frame["score"] for scored in sets]), threshold, interval)
    for axes, scored in zip(panels, sets, strict=True):
        unknown = scored.frame.loc[scored.frame["label"].isna(), "score"].to_numpy()
        groups = [("normal", "normal", scored.normal), ("defective", "defect", scored.defective)]
        groups = [group for group in [*groups, ("no label", "unknown", unknown)] if len(group[2])]
        peaks = []
        for position, (name, colour, values) in enumerate(groups):
            counts, _ = np.histogram(values, edges)
            peaks.append(counts.max())
            label = f"{name} {len(values):,}"
            axes.stairs(counts, edges, fill=True, color=LIGHT[colour], alpha=0.28, linewidth=0)
            axes.stairs(counts, edges, color=LIGHT[colour], linewidth=1.4, label=label)
            if len(values) <= MAX_TICKS:
                height = np.full(len(values), -0.035 - 0.045 * position)
                axes.plot(
                    values, height, "|", color=LIGHT[colour], markersize=5, markeredgewidth=1, clip_on=False,
                    transform=axes.get_xaxis_transform(), zorder=3,
                )  # fmt: skip
        if min(peaks) * 12 < max(peaks):
            axes.set_yscale("symlog", linthresh=1)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylim(bottom=0)
        if interval is not None:
            axes.axvspan(*interval, color=LIGHT["ink"], alpha=0.1, linewidth=0, zorder=0)
        if threshold is not None:
            axes.axvline(threshold, color=LIGHT["ink"], linewidth=1.2, linestyle=(0, (4, 2)))
        dress(axes, "", "Images")
        legend(axes, columns=len(groups), right=True)
        if len(sets) > 1:
            title = "Out of fold" if scored.key == "oof" else "Test"
            axes.set_title(title, loc="left", fontsize=8.5, color=LIGHT["ink"])
    panels[-1].tick_params(axis="x", pad=9 if has_ticks(sets[-1]) else 3)
    panels[-1].set_xlabel("Score" + (" (logarithmic)" if log_x else ""))
    if log_x:
        panels[-1].set_xscale("log")
        panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panels[-1].xaxis.set_minor_formatter(NullFormatter())
    panels[-1].set_xlim(edges[0], edges[-1])
    if threshold is not None:
        place = panels[0].transData.transform((threshold, 0))
        left = panels[0].transAxes.inverted().transform(place)[0] < 0.6
        panels[0].annotate(
            "threshold", (threshold, 1), xycoords=("data", "axes fraction"), xytext=(3 if left else -3, -1),
            textcoords="offset points", ha="left" if left else "right", va="top", fontsize=8,
            color=LIGHT["ink"],
        )  # fmt: skip
    return figure


def has_ticks(scored: ScoredSet) -> bool:
    """Whether the histogram of this set marks single images below its axis."""
    return any(0 < len(values) <= MAX_TICKS for values in (scored.normal, scored.defective))


def _curves(
    axes: Any,
    sets: Sequence[ScoredSet],
    curve: Callable,
    mark: Callable | None,
    summary: str,
    steps: bool = False,
) -> None:
    for scored in sets:
        if not scored.has_both:
            continue
        x, y, area = curve(*scored.arrays())
        keep = thinned(len(x))
        test = scored.key == "test"
        axes.plot(
            x[keep], y[keep], color=LIGHT["muted"] if test else LIGHT["ink"], linewidth=1.6, clip_on=False,
            linestyle=(0, (4, 2)) if test else "-", drawstyle="steps-pre" if steps else "default",
            label=f"{'test' if test else 'out of fold'}, {summary} {area:.3f}",
        )  # fmt: skip
        if mark is not None:
            axes.plot(
                *mark(confusion(scored)), "o", markersize=7, color=LIGHT["defect"],
                markeredgewidth=0, clip_on=False, zorder=4,
            )  # fmt: skip
    legend(axes, columns=1, right=False)


def _score_bins(
    scores: np.ndarray, threshold: float | None, interval: tuple[float, float] | None = None
) -> tuple[np.ndarray, bool]:
    """Shared bin edges, and whether they are spaced logarithmically (positive scores with a long tail)."""
    values = np.append(scores, [] if threshold is None else [threshold])
    low, high = float(values.min()), float(values.max())
    if interval is not None:  # as much of it as leaves the scores two thirds of the axis
        room = (high - low) / 4
        low, high = min(low, max(interval[0], low - room)), max(high, min(interval[1], high + room))
    log_x = low > 0 and high > 40 * float(np.median(scores))
    margin = max(0.03 * (high - low), 1e-9 + 0.02 * abs(high) if high == low else 0)
    n_bins = int(np.clip(math.sqrt(len(scores)) * 2, 12, 48))
    if log_x:
        return np.geomspace(low * 0.95, high * 1.05, n_bins + 1), True
    return np.linspace(low - margin, high + margin, n_bins + 1), False
