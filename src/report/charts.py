"""Drawing that all figures share: colours, axes, legend; a PNG for loggers and a themed SVG for the page."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from src.atomic import atomic_path

# Each colour stands for itself in the PNG and becomes a CSS variable of the same name in the SVG, so that one
# drawing serves light and dark pages. The values must differ from each other.
LIGHT = {
    "ink": "#1c1e22",
    "muted": "#666b74",
    "rule": "#e2e3df",
    "normal": "#2a6fb0",
    "defect": "#c8501e",
    "unknown": "#8a8f98",
}
DARK = {
    "ink": "#ecebe6",
    "muted": "#9ba0a9",
    "rule": "#34373d",
    "normal": "#6fb1ee",
    "defect": "#ff9560",
    "unknown": "#7d828c",
}
SIZE = (3.5, 3.2)  # inches; shown about 330 pixels wide, so that 9 points read as 12 pixels
MAX_POINTS = 400  # of a drawn curve: more cannot be seen, and 20,000 would weigh megabytes as SVG


def canvas(x_label: str, y_label: str, size: tuple[float, float] = SIZE) -> tuple[Any, Any]:
    """A figure of `size` inches and its axes, plain."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    dress(axes, x_label, y_label)
    return figure, axes


def share_axes(axes: Any) -> None:
    """Both axes from 0 to 1, a little air around."""
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)


def dress(axes: Any, x_label: str, y_label: str) -> None:
    """The project's axes: a line below, faint lines across, small grey labels."""
    axes.set_axisbelow(True)
    axes.grid(True, axis="y", color=LIGHT["rule"], linewidth=0.8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LIGHT["muted"])
    axes.tick_params(colors=LIGHT["muted"], labelsize=8.5, length=0)
    axes.set_xlabel(x_label, color=LIGHT["muted"], fontsize=9)
    axes.set_ylabel(y_label, color=LIGHT["muted"], fontsize=9)


def legend(axes: Any, *, columns: int, right: bool, font: Any = None) -> None:
    """Above the axes, where it hides no data."""
    drawn = axes.legend(
        loc="lower right" if right else "lower left", bbox_to_anchor=(float(right), 1.0), ncols=columns,
        frameon=False, fontsize=8.5, labelcolor=LIGHT["ink"], handlelength=1.4, handletextpad=0.5,
        columnspacing=1.0, borderaxespad=0.2, borderpad=0.2,
    )  # fmt: skip
    for text in drawn.get_texts() if font is not None else ():
        text.set_fontproperties(font)


def thinned(n: int) -> np.ndarray:
    """Indices of at most MAX_POINTS evenly spaced points of n, both ends kept."""
    return np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS)).round().astype(int))


def save_png(figure: Any, path: Path) -> None:
    """Write the figure as a whole PNG file on white."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=160, facecolor="white")
    figure.set_layout_engine("none")  # settled: drawing it again as SVG need not solve it again


def themed_svg(figure: Any, name: str, description: str, more: Mapping[str, str] | None = None) -> str:
    """The figure as an inline SVG element: CSS variables for colours and font, ids made unique by `name`.

    `more` are colours beside LIGHT, {CSS variable: value in the figure}.
    """
    import matplotlib
    from markupsafe import escape

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    box = re.search(r'viewBox="([^"]+)"', svg).group(1)
    body = svg[svg.index(">") + 1 :].replace("xlink:href", "href")
    for before in (' id="', "url(#", ' href="#'):
        body = body.replace(before, f"{before}{name}-")
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", body)
    for colour, value in {**LIGHT, **(more or {})}.items():
        body = body.replace(value, f"var(--{colour})")
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(description)}">{body.strip()}'
