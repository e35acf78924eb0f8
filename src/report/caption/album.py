"""A self-contained page of pictures with their captions, to leaf through what a model says of new pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.atomic import write_text
from src.data.images import read_image
from src.errors import ProjectError
from src.report import charts
from src.report.page import render
from src.report.thumbnails import data_uri, shrink

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("id", "path", "caption", "candidates")
SIDE = 360  # pixels of a picture's longer side
PAGE_BYTES = 24_000_000  # of all pictures; beyond, they are made smaller
SIDES = (SIDE, 240, 160)


def write_album(table: "pd.DataFrame", target: str | Path, *, title: str) -> Path:
    """Write one HTML file with a card a row: the picture, its caption, and below it the further candidates.

    Args:
        table: `id`, `path` (absolute; None where there is no picture), `caption`, `candidates` (a list of texts; the
            caption itself among them is not repeated). In its order.

    Raises:
        ProjectError: a column is missing.
    """
    lacking = [name for name in COLUMNS if name not in table]
    if lacking:
        raise ProjectError(f"an album needs the columns {', '.join(COLUMNS)}; '{lacking[0]}' is missing.")
    rows = list(zip(*(table[name].tolist() for name in COLUMNS), strict=True))
    pictures = _pictures([path for _, path, _, _ in rows])
    cards = [
        {
            "id": str(identifier),
            "uri": uri,
            "note": note,
            "caption": str(caption),
            "candidates": _further(candidates, str(caption)),
        }
        for (identifier, _, caption, candidates), (uri, note) in zip(rows, pictures, strict=True)
    ]
    context = {
        "title": title,
        "cards": cards,
        "with_candidates": any(card["candidates"] for card in cards),
        "light": charts.LIGHT,
        "dark": charts.DARK,
    }
    target = Path(target)
    write_text(target, render("caption/album.html.j2", context))
    return target


def _pictures(paths: Sequence[Any]) -> list[tuple[str | None, str | None]]:
    """(address, None) of each picture, or (None, why there is none); smaller where they would weigh too much."""
    for side in SIDES:
        found, size = [], 0
        for path in paths:
            uri, note = _picture(path, side)
            found.append((uri, note))
            size += len(uri or "")
            if size > PAGE_BYTES and side != SIDES[-1]:
                break
        else:
            return found
    return found


def _picture(path: Any, side: int) -> tuple[str | None, str | None]:
    if not isinstance(path, str | Path):
        return None, "There is no picture."
    try:
        return data_uri(shrink(read_image(path), side), 80), None
    except ProjectError as error:
        return None, f"The picture cannot be read: {error}"


def _further(candidates: Any, caption: str) -> list[str]:
    """Different candidates beside the caption, in their order."""
    if candidates is None or isinstance(candidates, float):
        return []
    texts = [candidates] if isinstance(candidates, str) else [str(text) for text in candidates]
    return [text for text in dict.fromkeys(texts) if text.strip() and text != caption]
