"""What is drawn over a picture of the page: boxes, objects and their names."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from src.boxes.types import pairwise_iou
from src.report import palette
from src.report.detection.evidence import CONFUSED, FALSE, MISSED, NEUTRAL, RIGHT
from src.report.detection.gallery import Card, Group

CARD = (360, 270)  # CSS pixels that a card gives its picture, for the size of letters
LETTERS = 11.5  # CSS pixels
MOST_TAGS = 8  # boxes of a picture up to which right ones are named too
MOST_NAMED = 24  # names on a picture; more would hide it
MOST_MARKS = 6000  # boxes and objects on all pictures of the page, some 300 bytes each


def mark_limit(groups: Sequence[Group]) -> int:
    """Boxes, and objects, that a picture shows at most, so that all pictures together show at most MOST_MARKS."""
    numbers = np.array([n for group in groups for card in group.cards for n in _numbers(card)])
    limit = int(numbers.max(initial=0))
    while limit > 1 and np.minimum(numbers, limit).sum() > MOST_MARKS:
        limit = limit * 9 // 10
    return limit


def _numbers(card: Card) -> tuple[int, int]:
    """Boxes and objects of a card's image."""
    truth = card.scored.truth[card.index]
    return len(card.scored.kept[card.index]), 0 if truth is None else len(truth)


def marks(card: Card, names: Sequence[str], places: Sequence[int], limit: int) -> dict[str, Any]:
    """What is drawn over a picture, in pixels of the original image, as the template takes it.

    At most `limit` boxes and as many objects, mistakes first; `left_out` says how many are not drawn.

    `objects` below, `boxes` above (the surest last), each {x, y, width, height, state, colour, dash, tag, title}; a
    tag is {text, x, y, width, height, size, ink} or None.
    """
    scored, index = card.scored, card.index
    kept, truth, outcome = scored.kept[index], scored.truth[index], scored.outcomes.get(index)
    size = scored.sizes[index]
    unit = max(size[0] / CARD[0], size[1] / CARD[1])  # original pixels a CSS pixel
    few = len(kept) <= MOST_TAGS
    objects = []
    for i in _chosen(outcome.objects if outcome else [], limit):
        state, name = outcome.objects[i], names[truth.labels[i]]
        said = {RIGHT: "found", CONFUSED: "taken for another class", MISSED: "missed", NEUTRAL: "not judged"}[state]
        text = f"missed {name}" if state == MISSED else None
        objects.append(_mark(truth.boxes[i], state, text, f"truth: {name}, {said}", unit, size))
    boxes = []
    for i in reversed(_chosen(outcome.boxes if outcome else [""] * len(kept), limit)):
        label, state = int(kept.labels[i]), outcome.boxes[i] if outcome else ""
        text = title = f"{names[label]} {kept.scores[i]:.2f}"
        if state == RIGHT:
            overlap = pairwise_iou(kept.boxes[[i]], truth.boxes[[outcome.partner[i]]])[0, 0]
            title, text = f"{title}, right (IoU {overlap:.2f})", text if few else None
        elif state == CONFUSED:
            true = names[truth.labels[outcome.partner[i]]]
            title, text = f"{title}, is {true}", f"{text}, is {true}"
        elif state == FALSE:
            title, text = f"{title}, no such object", f"✗ {text}"
        elif not few:
            text = None
        boxes.append(
            _mark(kept.boxes[i], state, text, title, unit, size)
            | {
                "colour": palette.variable(places[label]),
                "dash": " ".join(str(2.2 * d) for d in palette.dashes(places[label])),
            }
        )
    if sum(item["tag"] is not None for item in [*objects, *boxes]) > MOST_NAMED:
        objects, boxes = [{**item, "tag": None} for item in objects], [{**item, "tag": None} for item in boxes]
    left_out = sum(_numbers(card)) - len(objects) - len(boxes)
    return {"width": size[0], "height": size[1], "objects": objects, "boxes": boxes, "left_out": left_out}


def _chosen(states: Sequence[str], limit: int) -> list[int]:
    """Indices of at most `limit` items, mistakes before the rest, in their order."""
    order = sorted(range(len(states)), key=lambda i: (states[i] in (RIGHT, NEUTRAL), i))
    return sorted(order[:limit])


def _mark(
    box: np.ndarray, state: str, text: str | None, title: str, unit: float, size: tuple[int, int]
) -> dict[str, Any]:
    x1, y1, x2, y2 = (round(float(value), 1) for value in box)
    return {
        "x": x1, "y": y1, "width": round(x2 - x1, 1), "height": round(y2 - y1, 1), "state": state, "title": title,
        "colour": None, "dash": "",
        "tag": _tag(text, (x1, y1), unit, size) if text else None,
    }  # fmt: skip


def _tag(text: str, at: tuple[float, float], unit: float, size: tuple[int, int]) -> dict[str, Any]:
    """Where a name stands: above the box, or inside where there is no room above; never beyond the picture."""
    em = LETTERS * unit
    width, height = (sum(map(_letter_width, text)) + 0.7) * em, 1.35 * em
    x = min(max(0.0, at[0]), max(0.0, size[0] - width))
    y = at[1] - height if at[1] >= height else at[1]
    return {
        "text": text, "x": round(x, 1), "y": round(y, 1), "width": round(width, 1), "height": round(height, 1),
        "size": round(em, 2), "text_x": round(x + 0.35 * em, 1), "text_y": round(y + 1.02 * em, 1),
    }  # fmt: skip


def _letter_width(letter: str) -> float:
    """About how wide a letter is, in em: no browser is at hand to ask."""
    if unicodedata.east_asian_width(letter) in "WF":
        return 0.98
    return 0.36 if letter in " .,:;'|il" else 0.66
