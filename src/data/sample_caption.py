"""Recipe of the bundled competition `sample_caption`: a few painted objects on a calm ground, and sentences about them.

Objects and photographs are those of the detection sample. Here an object is painted in one colour that has a name, no
object covers another, and one or two groups of a kind lie where a sentence can say it: on grass, on gravel or before a
brick wall, whose photographs stay sharp and are named, or else on another photograph, blurred until nothing in it can
be named, at the left, right, top, bottom or middle of the picture, or beside or below another group. Places keep a
margin, so that left and right, or one and the middle, are never in doubt.

A picture's ground is a crop inside one window of a photograph; windows of training and test pictures are disjoint, as
in the detection sample. Facts and sentences are the same on every machine; grey levels may differ by rounding.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import cos, pi, sin
from pathlib import Path

import cv2
import numpy as np

from src.data import sample_objects
from src.data.draws import Draws
from src.data.sample_detection import PHOTOGRAPHS, Table, edges, expose, load_photographs, paint
from src.data.sample_sentences import GROUNDS, PLACES, SIDES, Facts, Group, sentences

SEED = 20250417
TRAIN, TEST = 2000, 200  # pictures
LONG_SIDE = 176  # pixels of a picture's longer side
COLOURS = {  # what an object is painted in
    "사과": ("red", "green"),
    "바나나": ("yellow", "green"),
    "컵": ("red", "yellow", "blue", "white"),
    "물고기": ("red", "yellow", "blue", "purple"),
    "별": ("red", "yellow", "blue", "purple"),
    "우산": ("red", "yellow", "green", "blue", "purple"),
}
LOST = {"grass": ("green",), "brick": ("red",), "gravel": ("white",)}  # colours that a ground would swallow
LOST_UNNAMED = ("white",)
FORMS = ("group on ground",) * 7 + ("group in place",) * 5 + ("pair on ground",) * 4 + ("pair in place",) * 4
PAIRS = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1))  # objects of the two groups
PLACE_COUNTS = {"왼쪽": 3, "오른쪽": 3, "가운데": 2, "위쪽": 3, "아래쪽": 3}  # the most objects at a place
PLACE_AREAS = {  # x, y, width, height as shares of the picture
    "왼쪽": (0.02, 0.03, 0.38, 0.94),
    "오른쪽": (0.6, 0.03, 0.38, 0.94),
    "가운데": (0.15, 0.28, 0.7, 0.44),
    "위쪽": (0.03, 0.02, 0.94, 0.38),
    "아래쪽": (0.03, 0.6, 0.94, 0.38),
}
SIDE_AREAS = {
    "across": ((0.02, 0.04, 0.44, 0.92), (0.54, 0.04, 0.44, 0.92)),
    "down": ((0.04, 0.02, 0.92, 0.44), (0.04, 0.54, 0.92, 0.44)),
}
GRIDS = {1: ((1, 1),), 2: ((1, 2), (2, 1)), 3: ((1, 3), (2, 2)), 4: ((2, 2),)}  # rows, columns of a scattered group

Area = tuple[float, float, float, float]


@dataclass(frozen=True)
class Row:
    """One picture to make: what it shows, on which photograph's window (`group`)."""

    id: str
    split: str
    facts: Facts
    photograph: str
    window: tuple[int, int]

    @property
    def group(self) -> str:
        return f"{self.photograph}-{self.window[0]}{self.window[1]}"

    @property
    def file(self) -> str:
        return f"images/{self.split}/{self.id}.jpg"

    @property
    def captions(self) -> list[str]:
        return sentences(self.facts, SEED, self.id, "sentences")


def plan(seed: int = SEED) -> list[Row]:
    """Every picture in the order of the tables."""
    rows: list[Row] = []
    for split, count in (("train", TRAIN), ("test", TEST)):
        forms = Draws(seed, split, "forms").shuffle([FORMS[index % len(FORMS)] for index in range(count)])
        for form in forms:
            id_ = f"{len(rows):04d}"
            draws = Draws(seed, id_, "facts")
            named = form.endswith("ground")
            photograph = draws.pick([name for name in PHOTOGRAPHS if (name in GROUNDS) == named])
            held = PHOTOGRAPHS[photograph][0]
            board = [(row, column) for row in (0, 1) for column in (0, 1)]
            window = held if split == "test" else draws.pick([cell for cell in board if cell != held])
            rows.append(Row(id_, split, _facts(draws, form, photograph), photograph, window))
    return rows


def _facts(draws: Draws, form: str, photograph: str) -> Facts:
    """Kinds, colours, numbers and place of a picture of one of FORMS."""
    named, alone = form.endswith("ground"), form.startswith("group")
    lost = LOST[photograph] if named else LOST_UNNAMED
    place, counts = None, (1 + draws.integer(4),)
    if alone and not named:
        place = draws.pick(PLACES)
        counts = (1 + draws.integer(PLACE_COUNTS[place]),)
    elif not alone:
        place, counts = (None if named else draws.pick(tuple(SIDES))), draws.pick(PAIRS)
    kinds = draws.shuffle(list(sample_objects.CLASSES))
    groups = []
    for kind, count in zip(kinds, counts, strict=False):
        colours = [colour for colour in COLOURS[kind] if colour not in lost]
        groups.append(Group(kind, draws.pick(colours), count))
    return Facts(tuple(groups), photograph if named else None, place)


# --- one picture ----------------------------------------------------------------------------------------------------


def make_picture(row: Row, photographs: dict[str, np.ndarray], seed: int = SEED) -> np.ndarray:
    """H x W x 3 uint8 RGB."""
    draws = Draws(seed, row.id, "picture")
    table = _ground(draws, row, photographs)
    for group, cells in zip(row.facts.groups, _cells(draws, row.facts), strict=True):
        for cell in cells:
            _put(draws, table, group, cell)
    return expose(draws, table.value)


def _ground(draws: Draws, row: Row, photographs: dict[str, np.ndarray]) -> Table:
    """A crop of the row's window, mirrored at random: paled where it has a name, else blurred as well."""
    photograph = photographs[row.photograph]
    top, bottom, left, right = edges(photograph, row.window)
    own = photograph[top:bottom, left:right]
    short = round(LONG_SIDE * draws.uniform(0.8, 1.0))
    height, width = (LONG_SIDE, short) if draws.chance(0.4) else (short, LONG_SIDE)
    zoom = min(own.shape[0] / height, own.shape[1] / width) * draws.uniform(0.75, 1.0)
    h, w = int(height * zoom), int(width * zoom)
    y, x = draws.integer(own.shape[0] - h + 1), draws.integer(own.shape[1] - w + 1)
    crop = own[y : y + h, x : x + w]
    if draws.chance(0.5):
        crop = crop[:, ::-1]
    value = cv2.resize(np.ascontiguousarray(crop), (width, height), interpolation=cv2.INTER_AREA)
    value = value.astype(np.float32) / 255
    if row.facts.ground is None:
        value = cv2.GaussianBlur(value, (0, 0), 9.0, borderType=cv2.BORDER_REFLECT)
        value = 0.62 + (value - 0.5) * draws.uniform(0.4, 0.6)
    else:
        value = 0.55 + (value - 0.5) * draws.uniform(0.6, 0.8)
    angle = draws.uniform(0, 2 * pi)
    return Table(np.clip(value, 0, 1).astype(np.float32), LONG_SIDE / 256, (cos(angle), sin(angle)))


def _cells(draws: Draws, facts: Facts) -> list[list[Area]]:
    """For each group the cells that its objects are put into, one object a cell; no two cells overlap."""
    counts = [group.count for group in facts.groups]
    if len(counts) == 2:
        areas = SIDE_AREAS[facts.place or "across"]
        down = facts.place != "down"
        return [_line(area, count, down=down) for area, count in zip(areas, counts, strict=True)]
    if facts.place is not None:
        down = facts.place in SIDES["across"]
        return [_line(PLACE_AREAS[facts.place], counts[0], down=down)]
    rows, columns = draws.pick(GRIDS[counts[0]])
    board = [(0.03 + 0.94 * c / columns, 0.03 + 0.94 * r / rows) for r in range(rows) for c in range(columns)]
    return [[(x, y, 0.94 / columns, 0.94 / rows) for x, y in draws.shuffle(board)[: counts[0]]]]


def _line(area: Area, count: int, *, down: bool) -> list[Area]:
    """`count` cells of an area, one below the other or side by side; one object keeps to the area's middle half."""
    x, y, width, height = area
    if count == 1:
        return [(x, y + height / 4, width, height / 2) if down else (x + width / 4, y, width / 2, height)]
    if down:
        return [(x, y + height * step / count, width, height / count) for step in range(count)]
    return [(x + width * step / count, y, width / count, height) for step in range(count)]


def _put(draws: Draws, table: Table, group: Group, cell: Area) -> None:
    """Paint one object somewhere in its cell, filling most of it."""
    height, width = table.value.shape[:2]
    x, y, w, h = (share * side for share, side in zip(cell, (width, height, width, height), strict=True))
    room = min(w, h, 0.62 * min(width, height))
    size = room * draws.uniform(0.75, 0.97)
    cutout = sample_objects.draw(draws, group.kind, size, table.light, group.colour)
    rows, columns = cutout.alpha.shape
    slack_x, slack_y = w - size, h - size
    centre_x = x + w / 2 + draws.uniform(-0.5, 0.5) * slack_x
    centre_y = y + h / 2 + draws.uniform(-0.5, 0.5) * slack_y
    paint(draws, table, cutout, (round(centre_y - rows / 2), round(centre_x - columns / 2)))


# --- the folder -----------------------------------------------------------------------------------------------------


def write(folder: Path) -> None:
    """Pictures and tables.

    images/train, images/test: JPEG. train.csv: id, file, group, caption, five rows a picture. test.csv: id, file.
    solution.csv: id, caption, five rows a picture. sample_submission.csv: id, caption, one row a picture.
    """
    import pandas as pd

    photographs, rows = load_photographs(), plan()
    for split in ("train", "test"):
        (folder / "images" / split).mkdir(parents=True)

    def draw(row: Row) -> None:
        quality = [cv2.IMWRITE_JPEG_QUALITY, 85 + Draws(SEED, row.id, "quality").integer(11)]
        encoded = cv2.imencode(".jpg", make_picture(row, photographs)[..., ::-1], quality)[1]
        (folder / row.file).write_bytes(encoded.tobytes())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(draw, rows))

    train, test = ([row for row in rows if row.split == split] for split in ("train", "test"))
    pd.DataFrame(
        [(row.id, row.file, row.group, caption) for row in train for caption in row.captions],
        columns=["id", "file", "group", "caption"],
    ).to_csv(folder / "train.csv", index=False)
    pd.DataFrame([(row.id, row.file) for row in test], columns=["id", "file"]).to_csv(folder / "test.csv", index=False)
    pd.DataFrame([(row.id, caption) for row in test for caption in row.captions], columns=["id", "caption"]).to_csv(
        folder / "solution.csv", index=False
    )
    pd.DataFrame({"id": [row.id for row in test], "caption": "사진이다."}).to_csv(
        folder / "sample_submission.csv", index=False
    )
