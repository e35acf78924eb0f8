"""Boxes drawn on pictures as files: class colours, names, scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.atomic import atomic_path
from src.boxes.types import Detections
from src.errors import ProjectError
from src.report.fonts import drawn_names
from src.report.palette import dashes, ink_on, rgb
from src.report.thumbnails import file_name

SIDE = 1280  # pixels of the longer side of a written picture
TRUTH = (91, 255, 131)


def write_pictures(
    shown: Sequence[tuple[str, str | Path, Detections]], *, target: Path, classes: Sequence[str]
) -> list[Path]:
    """Write each (id, path of the picture, its detections) as a JPEG with boxes, named by rank and id.

    Letters of the id that a file system may refuse become "_". Pictures are shrunk to 1280 pixels. One that cannot
    be read is left out, with a line that says so. Pictures that an earlier call left in `target` are removed.

    Returns:
        The paths written, in order.
    """
    from src.data.images import read_image

    for old in target.glob("[0-9][0-9][0-9]_*.jpg"):
        old.unlink()
    names, font = drawn_names(classes)
    written = []
    for rank, (identifier, source, found) in enumerate(shown, start=1):
        try:
            picture = read_image(source)
        except ProjectError as error:
            print(f"WARNING   no picture of {identifier}: {error}")
            continue
        path = target / file_name(rank, identifier, ".jpg")
        with atomic_path(path) as temporary:
            draw_boxes(picture, found, names=names, font=font).save(temporary, format="JPEG", quality=90)
        written.append(path)
    return written


def draw_boxes(
    picture: np.ndarray,
    found: Detections,
    *,
    names: Sequence[str],
    font: str,
    side: int = SIDE,
    letters: int = 15,
    truth: np.ndarray | None = None,
) -> Any:
    """A Pillow image, at most `side` pixels long, of H×W×3 uint8 with the boxes over it, the surest on top.

    `letters`: height of the names in pixels; 0 draws boxes alone. `truth`: (N, 4) boxes drawn dashed below.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(picture)
    image.thumbnail((side, side))
    scale = image.width / picture.shape[1], image.height / picture.shape[0]
    draw = ImageDraw.Draw(image)
    width = max(2, round(max(image.size) / 350)) if letters else 1
    face = ImageFont.truetype(font, letters) if letters else None
    for each in [] if truth is None else truth.tolist():
        box = [value * scale[i % 2] for i, value in enumerate(each)]
        _frame(draw, box, colour=TRUTH, width=width, pattern=(4, 3))
    for index in np.argsort(found.scores, kind="stable"):
        label = int(found.labels[index])
        box = [value * scale[i % 2] for i, value in enumerate(found.boxes[index].tolist())]
        _frame(draw, box, colour=rgb(label), width=width, pattern=dashes(label))
        if face is not None:
            _tag(draw, box, f"{names[label]} {found.scores[index]:.2f}", colour=rgb(label), face=face, size=image.size)
    return image


def _frame(
    draw: Any, box: Sequence[float], *, colour: tuple[int, int, int], width: int, pattern: Sequence[int]
) -> None:
    """A rectangle with a dark casing, so that it reads on any ground; `pattern` in line widths."""
    x1, y1, x2, y2 = box
    draw.rectangle([x1 - 1, y1 - 1, x2 + 1, y2 + 1], outline=(20, 20, 20), width=width + 2)
    if not pattern:
        draw.rectangle(box, outline=colour, width=width)
        return
    for (ax, ay), (bx, by) in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))):
        length = max(abs(bx - ax), abs(by - ay))
        at, step = 0.0, 0
        while at < length:
            end = min(length, at + pattern[step % len(pattern)] * width)
            if step % 2 == 0:
                part = [(ax + (bx - ax) * t / length, ay + (by - ay) * t / length) for t in (at, end)]
                draw.line(part, fill=colour, width=width)
            at, step = end, step + 1


def _tag(
    draw: Any, box: Sequence[float], text: str, *, colour: tuple[int, int, int], face: Any, size: tuple[int, int]
) -> None:
    """The name on its colour, above the box, or inside where there is no room."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=face)
    width, height = right - left + 6, bottom - top + 5
    x = min(max(0, box[0]), max(0, size[0] - width))
    y = box[1] - height if box[1] >= height else min(box[1], max(0, size[1] - height))
    draw.rectangle([x, y, x + width, y + height], fill=colour)
    draw.text((x + 3 - left, y + 2 - top), text, fill=ink_on(colour), font=face)
