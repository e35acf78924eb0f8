"""Tiles of large pictures: rows that name a window of their picture, and the pixels in it.

A row's `window` is (x1, y1, x2, y2), whole pixels of the upright picture; None (or no such column) is all of it.
"""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from src.data.geometry import lay_out, place
from src.data.images import ImageError, read_image, read_resized, read_size, resize
from src.data.parallel import parallel
from src.data.scene import cut_boxes
from src.errors import ProjectError

if TYPE_CHECKING:
    from src.data.transforms import PreprocessSpec

Window = tuple[int, int, int, int]
MIN_VISIBLE = 0.5  # a tile answers for an object of which it shows at least this share


def windows_of(rows: pd.DataFrame) -> list[Window | None]:
    """The rows' windows.

    Raises:
        ProjectError: one that is not four whole numbers with x1 < x2 and y1 < y2.
    """
    if "window" not in rows:
        return [None] * len(rows)
    return [_window(value, row) for value, row in zip(rows["window"], rows["id"], strict=True)]


def _window(value: object, row: object) -> Window | None:
    if value is None or isinstance(value, float):  # joining tables turns None into NaN
        return None
    numbers = np.asarray(value)
    if numbers.shape != (4,) or numbers.dtype.kind not in "iu" or not (numbers[:2] >= 0).all():
        raise ProjectError(f"row {row}: window must be four whole numbers x1, y1, x2, y2, not {value!r}")
    x1, y1, x2, y2 = (int(number) for number in numbers)
    if x1 >= x2 or y1 >= y2:
        raise ProjectError(f"row {row}: window {value!r} is empty; it is x1, y1, x2, y2 with x1 < x2, y1 < y2")
    return x1, y1, x2, y2


def read_placed(path: str, window: Window | None, spec: PreprocessSpec) -> tuple[np.ndarray, tuple[int, int]]:
    """A picture, or a window of it, on the model's canvas: H×W×3 uint8, and the (height, width) before.

    The last large picture stays decoded, for its tiles follow one another.

    Raises:
        ImageError: the file cannot be read, or the window lies outside of it.
    """
    if window is None:
        return read_resized(path, spec)
    return lay_window(_decoded(path), window, spec, path)


def lay_window(
    picture: np.ndarray, window: Window, spec: PreprocessSpec, path: str
) -> tuple[np.ndarray, tuple[int, int]]:
    """A window of a decoded picture on the canvas, and its (height, width). Raises ImageError."""
    x1, y1, x2, y2 = window
    height, width = picture.shape[:2]
    if x2 > width or y2 > height:
        raise ImageError(path, f"window {list(window)} lies outside of the picture, {width}×{height} pixels")
    size = (y2 - y1, x2 - x1)
    placement = place(size, spec)
    scaled = resize(picture[y1:y2, x1:x2], (placement.scaled_height, placement.scaled_width), spec.interpolation)
    return np.ascontiguousarray(lay_out(scaled, placement, (spec.height, spec.width), spec.pad_value)), size


@lru_cache(maxsize=1)
def _decoded(path: str) -> np.ndarray:
    return read_image(path)


def expand_tiles(
    rows: pd.DataFrame, size: int, overlap: float, *, keep_empty: bool = True, min_visible: float = MIN_VISIBLE
) -> pd.DataFrame:
    """Manifest rows of pictures → rows of their tiles, in the same order, with columns `window` and `parent`.

    Each keeps its picture's index label, by which folds are looked up.

    `size` and `overlap` as in `src.boxes.tiles.tile_windows`. A tile's id is `<id>#<number>`, `parent` the
    picture's id, `width`, `height` its own size, `group` the picture's group, else its id: tiles of one
    picture share a fold. Boxes are in pixels of the tile. A box cut down to less than `min_visible` is ignored
    there; `counts` and `tags` follow from the boxes that stay, and are unknown where boxes are. Without
    `keep_empty`, tiles of split "train" whose boxes are known to be none are left out.

    A row whose size is unknown (an unreadable file) stays one row without a window.

    Raises:
        ProjectError: the rows have windows already, or no columns `width` and `height` (`with_sizes`).
    """
    from src.boxes.tiles import tile_windows

    if "window" in rows:
        raise ProjectError("these rows are tiles already: expand the manifest once")
    if not {"width", "height"} <= set(rows.columns):
        raise ProjectError("tiles need the columns width and height, which a detection manifest has")
    tiles: list[dict] = []
    labels: list = []
    for label, row in zip(rows.index, rows.to_dict("records"), strict=True):
        group = row.get("group")
        row |= {"parent": row["id"], "window": None, "group": row["id"] if _unknown(group) else group}
        if pd.isna(row["width"]) or pd.isna(row["height"]):
            tiles.append(row)
            labels.append(label)
            continue
        windows = tile_windows(int(row["width"]), int(row["height"]), size=size, overlap=overlap)
        for number, window in enumerate(windows):
            tile = _tile(row, number, tuple(int(v) for v in window), min_visible)
            empty = not _unknown(tile.get("boxes")) and not len(tile["boxes"])
            if keep_empty or not empty or row.get("split") == "test":
                tiles.append(tile)
                labels.append(label)
    columns = [*rows.columns, *(name for name in ("group", "parent", "window") if name not in rows)]
    out = pd.DataFrame({name: _series([tile[name] for tile in tiles], name) for name in columns})
    out.index = pd.Index(labels, dtype=rows.index.dtype)
    out.attrs = dict(rows.attrs)
    return out


def with_sizes(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `width` and `height`, Int64, read from the files' headers if absent; <NA> where unreadable."""
    if {"width", "height"} <= set(rows.columns):
        return rows
    paths = rows["path"].astype(str).tolist()
    sizes: list[tuple[int, int] | None] = [None] * len(paths)

    def read(position: int) -> None:
        with contextlib.suppress(ImageError):  # the pass over the pictures reports it
            sizes[position] = read_size(paths[position])

    parallel(read, len(paths), what="image sizes", closing=lambda: "for tiles")
    sides = {
        name: pd.array([pd.NA if size is None else size[axis] for size in sizes], dtype="Int64")
        for axis, name in enumerate(("height", "width"))
    }
    return rows.assign(**sides)


def _series(values: list, name: str) -> pd.Series:
    return pd.Series(values, dtype="Int64" if name in ("label", "width", "height") else object)


def _tile(row: dict, number: int, window: Window, min_visible: float) -> dict:
    x1, y1, x2, y2 = window
    tile = row | {"id": f"{row['id']}#{number}", "window": window, "width": x2 - x1, "height": y2 - y1}
    if _unknown(row.get("boxes")):
        # That something is in the picture does not say in which tile.
        return tile | {name: None for name in ("counts", "tags") if name in row}
    boxes = np.asarray(row["boxes"], np.float64).reshape(-1, 4) - np.array([x1, y1] * 2)
    cut, visible, stays = cut_boxes(boxes, np.ones(len(boxes)), x2 - x1, y2 - y1, min_visible=0, min_side=0)
    labels = np.asarray(row["labels"], np.int64).reshape(-1)
    ignored = np.zeros(len(boxes), bool) if _unknown(row.get("ignored")) else np.asarray(row["ignored"], bool)
    ignored = (ignored | (visible < min_visible))[stays]
    tile |= {"boxes": cut[stays], "labels": labels[stays], "ignored": ignored}
    counted = tile["labels"][~ignored]
    if not _unknown(row.get("counts")):
        tile["counts"] = np.bincount(counted, minlength=len(row["counts"])).astype(np.int64)
    if "tags" in row:
        tile["tags"] = np.unique(counted)
    return tile


def _unknown(value: object) -> bool:
    return value is None or isinstance(value, float)
