"""The pictures worth looking at: which ones, their heatmaps on one common scale, true masks outlined."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from src.atomic import atomic_path
from src.data.images import read_image, read_mask
from src.errors import ProjectError
from src.report.anomaly.answers import Rules
from src.report.anomaly.evidence import ScoredSet
from src.report.anomaly.overlay import on_picture, outline, overlay, read_finite_map
from src.report.thumbnails import SIDE, file_name, shrink

PER_GROUP = 6
CELL, GAP, HEADING, CAPTION = 124, 12, 30, 24  # pixels of the contact sheet
HEATMAP_SIDE = 640  # pixels of a picture's longer side in write_heatmaps


@dataclass
class Card:
    """One shown image; what could not be read is None, and `notes` says why.

    `picture` is H×W×3 uint8, `mask` H×W uint8 {0,1} of any size, `map` h×w float32 over the whole picture.
    """

    row: Any  # a namedtuple of ScoredSet.frame
    verdict: str
    picture: np.ndarray | None = None
    mask: np.ndarray | None = None
    map: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Group:
    """Cards under one heading; `note` says how they were chosen."""

    title: str
    note: str
    key: str  # the set's key: "oof" | "test"
    cards: list[Card]


def choose(scored: ScoredSet, rules: Rules, skip: set[str]) -> list[Group]:
    """Best hits, worst misses, false alarms and wrong classes of one set, at most PER_GROUP each.

    Without decisions or labels it shows what there is: the extremes, and the images nearest to the line or least sure
    of their class. `skip` holds the ids without a readable image.
    """
    frame = scored.frame[~scored.frame["id"].isin(skip)].sort_values(["score", "id"], ascending=[False, True])
    label = frame["label"].fillna(-1).astype(int)
    called = (frame["called"] == 1).fillna(False).astype(bool)
    normal, defective, unknown = frame[label == 0], frame[label == 1], frame[label == -1]
    by_class, decided = rules.class_rule is not None, rules.decides
    groups = []
    if by_class:
        wrong = frame[_wrong_class(frame)]
        if len(wrong):
            note = (
                f"{len(wrong):,} of {int((label >= 0).sum()):,} images are rightly called normal or defective, but get "
                "another class; the surest mistake first."
            )
            groups.append(("Wrong classes", note, wrong.sort_values("sure", ascending=False, kind="stable"), ""))
    if len(defective):
        hits, misses = defective[called[defective.index]], defective[~called[defective.index]][::-1]
        if not decided:
            groups.append(("Highest-scoring defects", "There is no threshold to call them found.", defective, "defect"))
            groups.append(
                (
                    "Lowest-scoring defects",
                    "The ones a threshold would lose first.",
                    defective[::-1],
                    "defect",
                )
            )
        else:
            groups.append(
                (
                    "Best hits",
                    f"{len(hits):,} of {len(defective):,} defects are found; highest score first.",
                    hits,
                    "hit",
                )
            )
            if len(misses):
                where = "are called normal" if by_class else "stay below the threshold"
                note = f"{len(misses):,} of {len(defective):,} defects {where}; lowest score first."
                groups.append(("Worst misses", note, misses, "miss"))
            else:
                note = "No defect is missed; these came closest to it."
                groups.append(("Nearest to a miss", note, defective[::-1], "hit"))
    if len(normal):
        alarms = normal[called[normal.index]]
        if len(alarms):
            where = "are called defective" if by_class else "reach the threshold"
            note = f"{len(alarms):,} of {len(normal):,} normal images {where}; highest score first."
            groups.append(("False alarms", note, alarms, "false alarm"))
        else:
            note = "No normal image raises an alarm; these came closest to it."
            if not decided:
                note = "There is no threshold to call them alarms."
            groups.append(("Highest-scoring normal images", note, normal, "passed"))
    if len(unknown):
        note = "What the model finds most unusual; nobody has said whether it is right."
        groups.append(("Highest scores", note, unknown, ""))
        if unknown["line"].notna().any():
            order = (unknown["score"] - unknown["line"]).abs().sort_values(kind="stable").index
            note = "Where a small change of the threshold changes the answer."
            groups.append(("Nearest to the threshold", note, unknown.loc[order], ""))
        if by_class and unknown["sure"].notna().any():
            order = unknown["sure"].dropna().sort_values(kind="stable").index
            note = "Their likeliest class is the least probable: the ones to label first."
            groups.append(("Least sure of their class", note, unknown.loc[order], ""))
    return [
        Group(
            title,
            note,
            scored.key,
            [Card(row, _verdict(row, verdict, by_class)) for row in rows.head(PER_GROUP).itertuples(index=False)],
        )
        for title, note, rows, verdict in groups
        if len(rows)
    ]


def _wrong_class(frame: pd.DataFrame) -> np.ndarray:
    """(N,) bool: images whose class is not the one that is said, though both are normal or both defective."""
    told = frame["target"].notna() & frame["said"].notna() & (frame["target"] != frame["said"])
    return (told & (frame["called"] == frame["label"]).fillna(False)).to_numpy(bool)


def _verdict(row: Any, verdict: str, by_class: bool) -> str:
    """A group's verdict, but "wrong class" for an image on the right side of which another class is said."""
    right_side = row.label is not pd.NA and row.called is not pd.NA and row.label == row.called
    if by_class and right_side and row.target and row.said and row.target != row.said:
        return "wrong class"
    return verdict


def load(
    groups: Sequence[Group], preprocess: dict[str, Any] | None = None, side: int = SIDE
) -> tuple[float, float] | None:
    """Read every card's picture, mask and map; return the map values where the colours begin and end.

    All shown maps share one scale, or a quiet picture would glow like a defective one: it begins at the median
    of the shown maps' values and ends where the peaks of three maps in four lie below. None without maps.
    `preprocess` is the model's PreprocessSpec as a dict: it takes a map from the model's canvas to the picture.
    """
    values, peaks = [], []
    for card in (card for group in groups for card in group.cards):
        try:
            card.picture = shrink(read_image(card.row.path), side)
        except ProjectError as error:
            card.notes.append(f"The image cannot be read: {error}")
        if card.row.mask:
            try:
                card.mask = (read_mask(card.row.mask) > 0).astype(np.uint8)
            except ProjectError as error:
                card.notes.append(f"The mask cannot be read: {error}")
        if card.row.map:
            try:
                card.map = read_finite_map(card.row.map)
                if card.picture is not None:
                    card.map = on_picture(card.map, card.picture.shape[:2], preprocess)
            except ProjectError as error:
                card.notes.append(f"The heatmap cannot be read: {error}")
            else:
                step = max(1, max(card.map.shape) // 128)
                values.append(card.map[::step, ::step].ravel())
                peaks.append(card.map.max())
    if not values:
        return None
    return float(np.median(np.concatenate(values))), float(np.percentile(peaks, 75))


def panels(card: Card, scale: tuple[float, float] | None) -> list[tuple[str, np.ndarray]]:
    """What a card shows, as (description, H×W×3 uint8): the bare picture, then heatmap and outline."""
    if card.picture is None:
        return []
    shown = [("image", card.picture)]
    outlined = card.mask is not None and bool(card.mask.any())
    if card.map is not None and scale is not None:
        over = overlay(card.picture, card.map, scale)
        shown.append(("heatmap, true mask outlined", outline(over, card.mask)) if outlined else ("heatmap", over))
    elif outlined:
        shown.append(("true mask outlined", outline(card.picture, card.mask)))
    return shown


def save_contact_sheet(groups: Sequence[Group], scale: tuple[float, float] | None, path: Path) -> None:
    """Write all cards as one PNG for loggers, a row a group. It shows no ids: no font draws every script."""
    from matplotlib.figure import Figure

    from src.report.charts import LIGHT
    from src.report.wording import score

    width, height = PER_GROUP * (2 * CELL + GAP) + GAP, len(groups) * (CELL + HEADING + CAPTION) + GAP
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    for row, group in enumerate(groups):
        top = row * (CELL + HEADING + CAPTION) + HEADING
        where = "Out of fold" if group.key == "oof" else "Test"
        figure.text(
            GAP / width, 1 - (top - 8) / height, f"{where}: {group.title}", fontsize=10, color=LIGHT["ink"]
        )  # fmt: skip
        for column, card in enumerate(group.cards):
            left = GAP + column * (2 * CELL + GAP)
            for offset, (_, image) in enumerate(panels(card, scale)):
                small = shrink(image, CELL)
                y = top + (CELL - small.shape[0]) // 2
                x = left + offset * CELL + (CELL - small.shape[1]) // 2
                canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
            figure.text(
                left / width, 1 - (top + CELL + 16) / height, f"score {score(card.row.score)}", fontsize=8,
                color=LIGHT["muted"],
            )  # fmt: skip
    figure.figimage(canvas, origin="upper")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor="white")


def write_heatmaps(
    rows: pd.DataFrame, *, folder: Path, target: Path, preprocess: dict[str, Any] | None = None
) -> list[Path]:
    """Write picture and heatmap side by side, a PNG a row, named by rank and id; all on one colour scale.

    `rows` has id, path and map (relative to `folder`, or missing) in the order wanted. Rows whose picture or map
    cannot be read are left out. Heatmaps that an earlier call left in `target` are removed. `preprocess` as in
    `load`.
    """
    import cv2

    cards = [
        Card(
            SimpleNamespace(path=row.path, mask=None, map=None if pd.isna(row.map) else str(folder / row.map)),
            "",
        )
        for row in rows.itertuples(index=False)
    ]
    scale = load([Group("", "", "test", cards)], preprocess, HEATMAP_SIDE)
    for old in target.glob("[0-9][0-9][0-9]_*.png"):
        old.unlink()
    written = []
    for rank, (name, card) in enumerate(zip(rows["id"], cards, strict=True), start=1):
        if card.picture is None or card.map is None:
            continue
        sheet = np.concatenate([image for _, image in panels(card, scale)], axis=1)
        path = target / file_name(rank, name, ".png")
        with atomic_path(path) as temporary:
            temporary.write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
        written.append(path)
    return written
