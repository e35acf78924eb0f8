"""Charts of a caption run: lengths beside the references', and the metric of each image."""

from typing import Any

import numpy as np

from src.report.charts import LIGHT, SIZE, canvas, dress, legend

BINS = 24


def draw_lengths(captions: np.ndarray, others: np.ndarray, *, other: str, unit: str) -> Any:
    """Matplotlib figure of the share of sentences by their number of tokens: captions as bars, `other` as a line."""
    figure, axes = canvas("", "")
    _lengths(axes, captions, others, other, unit)
    return figure


def draw_values(values: np.ndarray, *, name: str) -> Any:
    """Matplotlib figure of how many images have which value of the metric; the line is their mean."""
    figure, axes = canvas("", "")
    _values(axes, values, name)
    return figure


def draw_both(
    captions: np.ndarray, others: np.ndarray, values: np.ndarray, *, other: str, unit: str, name: str
) -> Any:
    """Lengths and values side by side, for loggers; lengths alone where no value is known."""
    from matplotlib.figure import Figure

    columns = 2 if len(values) else 1
    figure = Figure(figsize=(columns * SIZE[0], SIZE[1]), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    _lengths(axes[0], captions, others, other, unit)
    if len(values):
        _values(axes[1], values, name)
    return figure


def _lengths(axes: Any, captions: np.ndarray, others: np.ndarray, other: str, unit: str) -> None:
    from matplotlib.ticker import MaxNLocator

    dress(axes, f"{unit.capitalize()} in a sentence", "Sentences, %")
    # a few sentences that never end would press all others into one bar
    top = int(max(np.quantile(captions, 0.995), np.quantile(others, 0.995), 3)) + 1
    width = max(1, -(-(top + 1) // 40))
    edges = np.arange(0, top + 1 + width, width) - 0.5
    shares = [
        100 * np.histogram(np.minimum(lengths, top), bins=edges)[0] / max(len(lengths), 1)
        for lengths in (captions, others)
    ]
    middles = edges[:-1] + width / 2
    axes.bar(middles, shares[0], width=0.82 * width, color=LIGHT["normal"], linewidth=0, label="Captions")
    axes.stairs(shares[1], edges, color=LIGHT["ink"], linewidth=1.4, label=other)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    drawn = np.flatnonzero(shares[0] + shares[1])
    axes.set_xlim(edges[max(0, drawn.min() - 1)], edges[min(len(edges) - 1, drawn.max() + 2)])
    axes.set_ylim(0, 1.08 * max(share.max() for share in shares))
    legend(axes, columns=2, right=True)


def _values(axes: Any, values: np.ndarray, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    dress(axes, name, "Images")
    top = max(float(values.max(initial=0.0)), 1e-6)
    often, edges = np.histogram(values, bins=BINS, range=(min(0.0, float(values.min(initial=0.0))), top))
    axes.bar((edges[:-1] + edges[1:]) / 2, often, width=0.86 * np.diff(edges), color=LIGHT["normal"], linewidth=0)
    axes.axvline(values.mean(), color=LIGHT["defect"], linewidth=1.4)
    axes.annotate(
        f"mean {values.mean():.3g}", (values.mean(), 1.0), xycoords=("data", "axes fraction"), xytext=(5, -2),
        textcoords="offset points", va="top", fontsize=8.5, color=LIGHT["defect"],
    )  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_ylim(0, max(1.0, 1.08 * often.max(initial=1)))
