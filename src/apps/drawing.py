"""An answer's boxes drawn on a copy of its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from src.apps.count import Answer

COLOURS = ((230, 57, 70), (29, 118, 219), (42, 157, 85), (244, 162, 40), (142, 68, 173), (0, 160, 170))


def draw(image: np.ndarray, answer: Answer) -> np.ndarray:
    """A copy of the picture (H×W×3 uint8 RGB) with the counted boxes, numbered from 1, a colour a thing."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(np.array(image, dtype=np.uint8))
    pen = ImageDraw.Draw(picture)
    thickness = max(2, round(max(picture.size) / 400))
    font = ImageFont.load_default(size=max(12, round(max(picture.size) / 50)))  # Latin letters only
    for index, one in enumerate(answer.counted):
        colour = COLOURS[index % len(COLOURS)]
        for number, box in enumerate(one.detections.boxes, start=1):
            pen.rectangle([float(v) for v in box], outline=colour, width=thickness)
            place = (float(box[0]) + thickness, float(box[1]) + thickness)
            label = f"{one.names} {number}"
            pen.rectangle(pen.textbbox(place, label, font=font), fill=colour)
            pen.text(place, label, fill=(255, 255, 255), font=font)
    return np.asarray(picture)
