"""The pictures worth looking at with their captions: which ones, and a sheet of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from src.atomic import atomic_path
from src.data.images import read_image
from src.errors import ProjectError
from src.report import wording
from src.report.caption.evidence import CaptionSet, values_of
from src.report.fonts import hangul_font, plain_font, writes
from src.report.thumbnails import shrink

PER_GROUP = 6
SIDE = 420  # pixels of a thumbnail's longer side
CELL, GAP, HEADING, WRITING = 200, 10, 26, 44  # pixels of the contact sheet


@dataclass
class Card:
    """One shown image; `picture` H×W×3 uint8 is None when it could not be read, and `notes` says why."""

    scored: CaptionSet
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


Plan = tuple[str, str, list[int]]


def choose(scored: CaptionSet, skip: set[str], *, metric: Any, name: str, seed: int = 0) -> list[Group]:
    """Replaced, worst, best, re-ranked and random images of one set, an image once; at most PER_GROUP each.

    `skip` holds the ids without a readable image; `name` is the metric's as the page has it.
    """
    usable = [
        i for i, (image, path) in enumerate(zip(scored.ids, scored.paths, strict=True)) if path and image not in skip
    ]
    shuffled = np.random.default_rng(seed).permutation(usable).tolist()
    replaced = [i for i in usable if scored.chosen[i].state != "kept"]
    plans: list[Plan] = []
    if replaced:
        note = f"In {wording.count(len(replaced), 'image')} the model's first caption could not stand."
        plans.append(("Replaced captions", note, replaced))
    judged = [i for i in usable if np.isfinite(scored.values[i])]
    if judged:
        order = sorted(judged, key=lambda i: (scored.values[i], i))
        # of so few that the halves would meet, an image is either bad or good
        plans.append(("Worst captions", f"The lowest {name} against the references.", order[: -(-len(order) // 2)]))
        plans.append(("Best captions", f"The highest {name} against the references.", order[::-1][: len(order) // 2]))
        moved = [i for i in judged if scored.chosen[i].state == "kept" and scored.chosen[i].index > 0]
        plans += _reranked(scored, moved, metric)
    else:
        unsure = sorted((i for i in usable if scored.scores[i]), key=lambda i: (max(scored.scores[i]), i))
        plans.append(("Least sure", "The lowest scores that the model gave its own captions.", unsure))
    plans.append(("Drawn at random", "What captions look like: images drawn by chance.", shuffled))
    shown: set[int] = set()
    groups = []
    for title, note, order in plans:
        fresh = [i for i in order if i not in shown][:PER_GROUP]
        shown.update(fresh)
        if fresh:
            groups.append(Group(title, note, scored.key, [Card(scored, i) for i in fresh]))
    return groups


def _reranked(scored: CaptionSet, moved: list[int], metric: Any) -> list[Plan]:
    """The images where another candidate than the model's first was chosen, by how much the metric changed."""
    if not moved:
        return []
    known = [scored.references[i] for i in scored.known]
    references = [scored.references[i] for i in moved]
    first = values_of([scored.candidates[i][0] for i in moved], references, metric, known)
    gain = dict(zip(moved, scored.values[moved] - first, strict=True))
    better, worse = sum(each > 1e-9 for each in gain.values()), sum(each < -1e-9 for each in gain.values())
    note = (
        f"Another candidate than the first was chosen for {len(moved):,} images: better for {better:,}, worse for "
        f"{worse:,}; the largest changes."
    )
    return [("Re-ranked", note, sorted(moved, key=lambda i: (-abs(gain[i]), i)))]


def load(groups: Sequence[Group]) -> None:
    """Read every card's picture, shrunk."""
    for card in (card for group in groups for card in group.cards):
        try:
            card.picture = shrink(read_image(card.scored.paths[card.index]), SIDE)
        except ProjectError as error:
            card.notes.append(f"The image cannot be read: {error}")


def card_view(card: Card, uri: str | None, metric: Any) -> dict[str, Any]:
    """What the template takes of a card: texts, values of the caption and of each candidate, chips."""
    scored, index = card.scored, card.index
    chosen, candidates, references = scored.chosen[index], scored.candidates[index], scored.references[index]
    values = np.full(len(candidates), np.nan)
    if references:
        known = [scored.references[i] for i in scored.known]
        values = values_of(candidates, [references] * len(candidates), metric, known)
    scores = scored.scores[index] or [None] * len(candidates)
    images = scored.image_scores[index] or [None] * len(candidates)
    rows = [
        {
            "text": text,
            "score": _score(score),
            "image": _score(image),
            "value": _value(value),
            "chosen": at == chosen.index,
        }
        for at, (text, score, image, value) in enumerate(zip(candidates, scores, images, values, strict=True))
    ]
    edited = 0 <= chosen.index < len(candidates) and candidates[chosen.index] != chosen.text
    return {
        "id": scored.ids[index],
        "uri": uri,
        "notes": card.notes,
        "caption": chosen.text,
        "value": _value(scored.values[index]),
        "state": chosen.state,
        "refused": candidates[0] if chosen.state != "kept" and candidates else None,
        "problems": chosen.problems,
        "edited": edited,
        "moved": chosen.state == "kept" and chosen.index > 0,
        "place": chosen.index + 1,
        "references": references,
        "candidates": rows,
        "flags": scored.flags[index],
    }


def _score(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}".replace("-", "−")


def _value(value: float) -> str | None:
    return wording.metric_value(float(value)) if np.isfinite(value) else None


def save_contact_sheet(groups: Sequence[Group], path: Path) -> None:
    """Write all cards as one PNG for loggers, a row a group, with their captions where an installed font has the
    letters."""
    from PIL import Image, ImageDraw, ImageFont

    height = CELL + HEADING + WRITING + GAP
    sheet = Image.new("RGB", (PER_GROUP * (CELL + GAP) + GAP, len(groups) * height + GAP), (255, 255, 255))
    pen, face = ImageDraw.Draw(sheet), ImageFont.truetype(plain_font(), 14)
    for row, group in enumerate(groups):
        top = row * height + GAP
        where = "Out of fold" if group.key == "oof" else "Test"
        pen.text((GAP, top), f"{where}: {group.title}", fill=(28, 30, 34), font=face)
        for column, card in enumerate(group.cards):
            left = GAP + column * (CELL + GAP)
            if card.picture is not None:
                small = Image.fromarray(card.picture)
                small.thumbnail((CELL, CELL))
                sheet.paste(small, (left + (CELL - small.width) // 2, top + HEADING + (CELL - small.height) // 2))
            text = card.scored.texts[card.index]
            font = next((file for file in (plain_font(), hangul_font()) if file and writes(file, text)), None)
            if font is not None:
                letters = ImageFont.truetype(font, 13)
                for number, line in enumerate(_wrapped(text, letters)):
                    pen.text((left, top + HEADING + CELL + 3 + 18 * number), line, fill=(28, 30, 34), font=letters)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def _wrapped(text: str, font: Any, lines: int = 2) -> list[str]:
    """The text's first lines of a cell's width, broken between letters where a word is longer; … for the rest."""
    found, line = [], ""
    for letter in text:
        if font.getlength(line + letter) > CELL:
            if len(found) == lines - 1:
                return [*found, line[:-1] + "…"]
            cut = line.rfind(" ") + 1 or len(line)
            if letter == " ":
                cut = len(line)
            found.append(line[:cut].rstrip())
            line = line[cut:]
        line += letter
    return [*found, line.strip()]
