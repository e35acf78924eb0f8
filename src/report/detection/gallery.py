"""The pictures worth looking at: which ones, and a sheet of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from src.atomic import atomic_path
from src.data.images import read_image
from src.errors import ProjectError
from src.report import palette
from src.report.detection.evidence import CONFUSED, NEUTRAL, BoxSet
from src.report.drawing import draw_boxes
from src.report.fonts import plain_font
from src.report.thumbnails import shrink

PER_GROUP = 6
SIDE = 480  # pixels of a thumbnail's longer side
CELL, GAP, HEADING = 200, 8, 26  # pixels of the contact sheet
NEAR = 0.1  # of score: how near to the threshold a doubtful box is


@dataclass
class Card:
    """One shown image; `picture` H×W×3 uint8 is None when it could not be read, and `notes` says why."""

    scored: BoxSet
    index: int
    picture: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Group:
    """Cards under one heading; `note` says how they were chosen."""

    title: str
    note: str
    key: str  # the set's key: "oof" | "test"
    cards: list[Card]


def choose(scored: BoxSet, names: Sequence[str], thresholds: Sequence[float], skip: set[str]) -> list[Group]:
    """Worst images, confusions, crowded and best ones of one set, an image once; at most PER_GROUP each.

    Where only counts are known, worst and best go by them; without any truth it shows the most counted and the
    most doubtful images. `skip` holds the ids without a readable image; `thresholds` are the count rule's, a class.
    """
    usable = [
        i for i, (name, path) in enumerate(zip(scored.ids, scored.paths, strict=True)) if path and name not in skip
    ]
    if len(scored.with_boxes):
        plans = _by_boxes(scored, names, [i for i in usable if i in scored.outcomes])
    elif len(scored.with_counts):
        known = set(scored.with_counts.tolist())
        plans = _by_counts(scored, [i for i in usable if i in known])
    else:
        plans = _by_detections(scored, np.asarray(thresholds), usable)
    shown: set[int] = set()
    groups = []
    for title, note, order in plans:
        fresh = [i for i in order if i not in shown][:PER_GROUP]
        shown.update(fresh)
        if fresh:
            groups.append(Group(title, note, scored.key, [Card(scored, i) for i in fresh]))
    return groups


Plan = tuple[str, str, list[int]]


def _by_boxes(scored: BoxSet, names: Sequence[str], usable: list[int]) -> list[Plan]:
    found = scored.outcomes
    objects = {i: int((found[i].objects != NEUTRAL).sum()) for i in usable}
    wrong = [i for i in usable if found[i].errors]
    right = [i for i in usable if not found[i].errors and objects[i]]
    worst = sorted(wrong, key=lambda i: (-found[i].errors, -objects[i], i))
    note = f"{len(wrong):,} of {len(usable):,} images have a missed or false object; the most errors first."
    plans = [("Worst images", note, worst)] if wrong else []
    pairs = scored.worst_pairs()
    if pairs:
        often = {i: _confusions(scored, i, pairs) for i in usable}
        order = sorted((i for i in usable if any(often[i])), key=lambda i: ([-n for n in often[i]], i))
        plans.append(("Biggest confusions", f"{said_pairs(scored, names)}.", order))
    crowded = sorted((i for i in usable if objects[i]), key=lambda i: (-objects[i], i))
    plans.append(("Most crowded", "The most objects first, of the images not shown above.", crowded))
    best = sorted(right, key=lambda i: (-objects[i], i))
    note = f"In {len(right):,} images with objects, every one is found and nothing else; the most objects first."
    return [*plans, ("Best images", note, best)]


def said_pairs(scored: BoxSet, names: Sequence[str]) -> str:
    """The most frequent confusions in words, "" where there are none."""
    table = scored.confusion
    return "; ".join(f"{names[t]} taken for {names[p]} {table[t, p]:,}×" for t, p in scored.worst_pairs())


def _confusions(scored: BoxSet, index: int, pairs: list[tuple[int, int]]) -> list[int]:
    """How often each (true, said) pair occurs in an image."""
    outcome, kept, truth = scored.outcomes[index], scored.kept[index], scored.truth[index]
    mixed = outcome.boxes == CONFUSED
    true, said = truth.labels[outcome.partner[mixed]], kept.labels[mixed]
    return [int(((true == t) & (said == p)).sum()) for t, p in pairs]


def _by_counts(scored: BoxSet, usable: list[int]) -> list[Plan]:
    off = np.abs(scored.counted - scored.counts).sum(axis=1)
    objects = scored.counts.sum(axis=1)
    worst = sorted((i for i in usable if off[i]), key=lambda i: (-off[i], i))
    crowded = sorted(usable, key=lambda i: (-objects[i], i))
    best = [i for i in crowded if not off[i] and objects[i]]
    note = f"{len(worst):,} of {len(usable):,} images have a wrong count; the furthest off first."
    return [
        ("Worst counts", note, worst),
        ("Most crowded", "The most objects first, of the images not shown above.", crowded),
        ("Best counts", f"{len(best):,} images with objects are counted right; the most objects first.", best),
    ]


def _by_detections(scored: BoxSet, thresholds: np.ndarray, usable: list[int]) -> list[Plan]:
    counted = scored.counted.sum(axis=1)
    doubtful = [int((np.abs(each.scores - thresholds[each.labels]) < NEAR).sum()) for each in scored.found]
    most = sorted((i for i in usable if counted[i]), key=lambda i: (-counted[i], i))
    near = sorted((i for i in usable if doubtful[i]), key=lambda i: (-doubtful[i], i))
    none = [i for i in usable if not counted[i]]
    return [
        ("Most objects", "What is counted most; nobody has said whether it is right.", most),
        ("Most doubtful", f"Many boxes within {NEAR:g} of the score that decides.", near),
        ("Nothing found", f"In {len(none):,} of {len(usable):,} images nothing is counted.", none),
    ]


def load(groups: Sequence[Group]) -> None:
    """Read every card's picture, shrunk."""
    for card in (card for group in groups for card in group.cards):
        try:
            card.picture = shrink(read_image(card.scored.paths[card.index]), SIDE)
        except ProjectError as error:
            card.notes.append(f"The image cannot be read: {error}")


def tally(card: Card, names: Sequence[str], places: Sequence[int]) -> list[dict[str, Any]]:
    """Per class that is there or is counted: name, colour, counted and true number (None where unknown)."""
    counted, true = card.scored.counted[card.index], card.scored.counts[card.index]
    known = bool((true >= 0).all())
    return [
        {
            "name": names[label],
            "colour": palette.variable(places[label]),
            "counted": int(counted[label]),
            "true": int(true[label]) if known else None,
        }
        for label in range(len(names))
        if counted[label] > 0 or true[label] > 0
    ]


def save_contact_sheet(groups: Sequence[Group], path: Path, *, places: Sequence[int]) -> None:
    """Write all cards as one PNG for loggers, a row a group: boxes without letters, true ones dashed."""
    from PIL import Image, ImageDraw, ImageFont

    sheet = Image.new(
        "RGB", (PER_GROUP * (CELL + GAP) + GAP, len(groups) * (CELL + HEADING + GAP) + GAP), (255, 255, 255)
    )
    pen, face = ImageDraw.Draw(sheet), ImageFont.truetype(plain_font(), 14)
    for row, group in enumerate(groups):
        top = row * (CELL + HEADING + GAP) + GAP
        where = "Out of fold" if group.key == "oof" else "Test"
        pen.text((GAP, top), f"{where}: {group.title}", fill=(28, 30, 34), font=face)
        for column, card in enumerate(group.cards):
            if card.picture is None:
                continue
            small = _drawn(card, np.asarray(places))
            left = GAP + column * (CELL + GAP) + (CELL - small.width) // 2
            sheet.paste(small, (left, top + HEADING + (CELL - small.height) // 2))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def _drawn(card: Card, places: np.ndarray) -> Any:
    scored, index = card.scored, card.index
    scale = np.array([card.picture.shape[1], card.picture.shape[0]] * 2) / np.array(scored.sizes[index] * 2)
    truth, kept = scored.truth[index], scored.kept[index]
    return draw_boxes(
        card.picture,
        replace(kept, boxes=kept.boxes * scale, labels=places[kept.labels]),
        names=(),
        font="",
        side=CELL,
        letters=0,
        truth=None if truth is None else truth.boxes * scale,
    )
