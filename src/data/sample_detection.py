"""Recipe of the bundled competitions `sample_detection` and `sample_counting`: drawn objects lying on real photographs.

The photographs are those that scikit-image and scikit-learn ship in their wheels. Each is cut into a 2 x 2 board of
disjoint windows; a picture's ground is a crop inside one window, and a window belongs either to train (three of each
photograph) or to test (one), so that no ground of a test picture is seen in training. The `group` column of train.csv
names the window. The photograph of a cup of coffee is left out, and stars on a flag are cut off: they are classes here.

A box is the extent of what can be seen: objects partly cover each other, and a covered part is in no box. Random
numbers are raw Philox words and polygons are filled in integers, so that objects, places and boxes are the same on
every machine; a picture's grey levels may differ by rounding, and JPEG bytes between encoder versions.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import cos, pi, sin
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from src.data import sample_objects
from src.data.draws import Draws
from src.data.sample_canvas import Cutout

SEED = 20250311
TRAIN, TEST = 640, 150  # pictures
CLASSES = tuple(sample_objects.CLASSES)
TALLY = (7, 10, 13, 14, 14, 12, 9, 7, 5, 4, 2, 2, 1)  # pictures of each hundred with 0, 1, .. 12 objects
LONG_SIDE = (256, 400)  # pixels of a picture's longer side
SIZES = (28.0, 90.0)  # an object's longer side, were the picture's longer side 256 pixels
SEEN = 0.7  # share of an object that must remain visible
TRIES = 30  # places tried for an object before it is given up
PHOTOGRAPHS = {  # name -> (row, column) of the test window, tint of a grey photograph
    "china": ((1, 0), None),
    "flower": ((0, 1), None),
    "astronaut": ((1, 1), None),
    "chelsea": ((0, 1), None),
    "rocket": ((1, 0), None),
    "motorcycle": ((1, 0), None),
    "grass": ((1, 1), (0.78, 1.0, 0.5)),
    "gravel": ((1, 0), (1.0, 0.95, 0.88)),
    "brick": ((0, 1), (1.0, 0.72, 0.6)),
    "camera": ((0, 1), (1.0, 0.97, 0.92)),
    "moon": ((1, 0), (0.95, 0.97, 1.0)),
}
FLAG = 64  # columns at the left of "astronaut", where a flag shows stars


@dataclass(frozen=True)
class Row:
    """One picture to make; `group` names the photograph's window that it lies on."""

    id: str
    split: str
    photograph: str
    window: tuple[int, int]
    objects: int

    @property
    def group(self) -> str:
        return f"{self.photograph}-{self.window[0]}{self.window[1]}"

    @property
    def file(self) -> str:
        return f"images/{self.split}/{self.id}.jpg"


class Scene(NamedTuple):
    """One made picture: `image` H x W x 3 uint8 RGB, `boxes` N x 4 int64 xyxy (x2, y2 exclusive), N class names."""

    image: np.ndarray
    boxes: np.ndarray
    labels: list[str]


def load_photographs() -> dict[str, np.ndarray]:
    """H x W x 3 uint8 RGB; grey ones are tinted."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    photographs = {}
    for name, (_, tint) in PHOTOGRAPHS.items():
        if name in ("china", "flower"):
            picture = load_sample_image(f"{name}.jpg")
        elif name == "motorcycle":
            picture = data.stereo_motorcycle()[0]
        else:
            picture = getattr(data, name)()
        picture = np.asarray(picture)
        if tint is not None:
            picture = np.rint(picture[..., None] * np.array(tint)).astype(np.uint8)
        photographs[name] = np.ascontiguousarray(picture[:, FLAG:] if name == "astronaut" else picture)
    return photographs


def edges(photograph: np.ndarray, window: tuple[int, int]) -> tuple[int, int, int, int]:
    """top, bottom, left, right of a window, in pixels."""
    (height, width), (row, column) = photograph.shape[:2], window
    return height * row // 2, height * (row + 1) // 2, width * column // 2, width * (column + 1) // 2


def plan(seed: int = SEED) -> list[Row]:
    """Every picture in the order of the tables; windows and numbers of objects are spread at random over the ids."""
    board = [(row, column) for row in (0, 1) for column in (0, 1)]
    rows: list[Row] = []
    for split, count in (("train", TRAIN), ("test", TEST)):
        windows = [
            (name, cell)
            for name, (held, _) in PHOTOGRAPHS.items()
            for cell in board
            if (cell == held) == (split == "test")
        ]
        share = np.cumsum(TALLY) / sum(TALLY)
        numbers = [int(np.searchsorted(share, (index + 0.5) / count)) for index in range(count)]
        numbers = Draws(seed, split, "objects").shuffle(numbers)
        grounds = Draws(seed, split, "grounds").shuffle([windows[i % len(windows)] for i in range(count)])
        for number, (name, cell) in zip(numbers, grounds, strict=True):
            rows.append(Row(f"{len(rows):04d}", split, name, cell, number))
    return rows


# --- one scene ------------------------------------------------------------------------------------------------------


@dataclass
class Table:
    """A picture in the making: `value` H x W x 3 float32 in [0, 1]; `owner` H x W, who is seen there (-1: ground)."""

    value: np.ndarray
    scale: float  # picture pixels of one pixel on a 256 canvas
    light: tuple[float, float]
    owner: np.ndarray = field(init=False)
    areas: list[int] = field(default_factory=list)  # pixels of each thing, covered and cut off ones too
    labels: list[str | None] = field(default_factory=list)  # None: a look-alike

    def __post_init__(self) -> None:
        self.owner = np.full(self.value.shape[:2], -1, np.int16)


def make_scene(row: Row, photographs: dict[str, np.ndarray], seed: int = SEED) -> Scene:
    """Ground, things, light and camera of one row."""
    draws = Draws(seed, row.id)
    table = _ground(draws, row, photographs)
    things: list[str | None] = _choose(draws, row.objects)
    for _ in range(draws.pick([0, 0, 1, 1, 2, 2])):
        things.insert(draws.integer(len(things) + 1), None)
    largest = SIZES[1] / (1 + 0.07 * max(0, len(things) - 3))
    for label in things:
        share = draws.uniform()
        size = table.scale * (SIZES[0] + (largest - SIZES[0]) * share**1.4)
        if label is None and draws.chance(0.2):
            cutout = _scrap(draws, row, photographs, size)
        else:
            kind = label or draws.pick(list(sample_objects.OTHERS))
            cutout = sample_objects.draw(draws, kind, size, table.light)
        _place(draws, table, cutout, label)
    kept = [index for index, label in enumerate(table.labels) if label is not None]
    boxes = np.array([_extent(table.owner == index) for index in kept], np.int64).reshape(-1, 4)
    return Scene(expose(draws, table.value), boxes, [table.labels[index] for index in kept])


def _choose(draws: Draws, count: int) -> list[str | None]:
    """Class names: evenly drawn, or in a third of the pictures mostly one class."""
    favourite = draws.pick(CLASSES) if draws.chance(0.35) else None
    return [favourite if favourite and draws.chance(0.75) else draws.pick(CLASSES) for _ in range(count)]


def _ground(draws: Draws, row: Row, photographs: dict[str, np.ndarray]) -> Table:
    """A crop of the row's window, mirrored at random, sized to the picture."""
    photograph = photographs[row.photograph]
    top, bottom, left, right = edges(photograph, row.window)
    own = photograph[top:bottom, left:right]
    long = round(draws.uniform(*LONG_SIDE))
    short = round(long * draws.uniform(0.66, 1.0))
    height, width = (long, short) if draws.chance(0.4) else (short, long)
    zoom = min(own.shape[0] / height, own.shape[1] / width) * draws.uniform(0.7, 1.0)
    h, w = int(height * zoom), int(width * zoom)
    y, x = draws.integer(own.shape[0] - h + 1), draws.integer(own.shape[1] - w + 1)
    crop = own[y : y + h, x : x + w]
    if draws.chance(0.5):
        crop = crop[:, ::-1]
    value = cv2.resize(np.ascontiguousarray(crop), (width, height), interpolation=cv2.INTER_CUBIC)
    value = value.astype(np.float32) / 255
    value = 0.5 + (value - 0.5) * draws.uniform(0.65, 1.0) + draws.uniform(-0.12, 0.12)
    value = value * np.array([draws.uniform(0.88, 1.12) for _ in range(3)], np.float32)
    angle = draws.uniform(0, 2 * pi)
    return Table(np.clip(value, 0, 1).astype(np.float32), long / 256, (cos(angle), sin(angle)))


def _scrap(draws: Draws, row: Row, photographs: dict[str, np.ndarray], size: float) -> Cutout:
    """A rag cut from the row's window of another photograph: texture with an irregular outline."""
    others = [name for name in PHOTOGRAPHS if name != row.photograph]
    name = draws.pick(others)
    held = PHOTOGRAPHS[name][0]
    cell = held if row.split == "test" else draws.pick([c for c in ((0, 0), (0, 1), (1, 0), (1, 1)) if c != held])
    top, bottom, left, right = edges(photographs[name], cell)
    side = int(size * 1.3) + 4
    h = w = min(side, bottom - top, right - left)
    y, x = top + draws.integer(bottom - top - h + 1), left + draws.integer(right - left - w + 1)
    colour = cv2.resize(photographs[name][y : y + h, x : x + w], (side, side), interpolation=cv2.INTER_CUBIC)
    corners = 9 + draws.integer(8)
    reach = [draws.uniform(0.55, 1.0) * size / 2 for _ in range(corners)]
    points = [
        (side / 2 + r * cos(2 * pi * step / corners), side / 2 + r * sin(2 * pi * step / corners))
        for step, r in enumerate(reach)
    ]
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.rint(np.array(points) * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
    alpha = cv2.GaussianBlur(mask, (3, 3), 0).astype(np.float32) / 255
    return Cutout(colour.astype(np.float32) / 255, alpha)


def _place(draws: Draws, table: Table, cutout: Cutout, label: str | None) -> None:
    """Lay a thing down where it hides nothing too much; where no such place is found it is left out."""
    solid = cutout.alpha > 0.5
    own = int(np.count_nonzero(solid))
    height, width = table.owner.shape
    h, w = solid.shape
    taken = np.argwhere(table.owner >= 0)
    near = len(taken) > 0 and draws.chance(0.25)
    for _ in range(TRIES):
        if near:
            y, x = taken[draws.integer(len(taken))]
            top, left = int(y + draws.uniform(-1.2, 0.2) * h), int(x + draws.uniform(-1.2, 0.2) * w)
        else:
            top = int(draws.uniform(-0.25, height / h - 0.75) * h)
            left = int(draws.uniform(-0.25, width / w - 0.75) * w)
        y0, y1, x0, x1 = max(top, 0), min(top + h, height), max(left, 0), min(left + w, width)
        if y1 <= y0 or x1 <= x0:
            continue
        part = solid[y0 - top : y1 - top, x0 - left : x1 - left]
        if np.count_nonzero(part) < 0.75 * own:
            continue
        owner = table.owner.copy()
        owner[y0:y1, x0:x1][part] = len(table.areas)
        if _all_visible(owner, [*table.areas, own]):
            paint(draws, table, cutout, (top, left))
            table.owner = owner
            table.areas.append(own)
            table.labels.append(label)
            return


def _all_visible(owner: np.ndarray, areas: list[int]) -> bool:
    seen = np.bincount(owner[owner >= 0].ravel(), minlength=len(areas))
    return all(pixels >= SEEN * area for pixels, area in zip(seen, areas, strict=True))


def paint(draws: Draws, table: Table, cutout: Cutout, corner: tuple[int, int]) -> None:
    """The thing's shadow, away from the light, then the thing."""
    side = max(cutout.alpha.shape)
    reach = side * draws.uniform(0.02, 0.1)
    soft = max(3, int(side * draws.uniform(0.06, 0.2)) | 1)
    pad = int(reach) + soft
    shadow = cv2.GaussianBlur(np.pad(cutout.alpha, pad), (soft, soft), 0) * np.float32(draws.uniform(0.25, 0.6))
    drop_y, drop_x = (round(-reach * part) for part in (table.light[1], table.light[0]))
    _blend(table.value, np.zeros(3, np.float32), shadow, (corner[0] - pad + drop_y, corner[1] - pad + drop_x))
    _blend(table.value, cutout.colour, cutout.alpha, corner)


def _blend(value: np.ndarray, colour: np.ndarray, alpha: np.ndarray, corner: tuple[int, int]) -> None:
    """Lay `colour` over `value` in place; what lies outside the picture is cut off."""
    (top, left), (h, w), (height, width) = corner, alpha.shape, value.shape[:2]
    y0, y1, x0, x1 = max(top, 0), min(top + h, height), max(left, 0), min(left + w, width)
    if y1 <= y0 or x1 <= x0:
        return
    inside = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    under = value[y0:y1, x0:x1]
    under += alpha[inside][..., None] * ((colour[inside] if colour.ndim == 3 else colour) - under)


def _extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of a mask's True pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def expose(draws: Draws, value: np.ndarray) -> np.ndarray:
    """Uneven light, exposure, tone curve, tint, blur and sensor noise: H x W x 3 float to uint8."""
    height, width = value.shape[:2]
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    light = 1 + draws.uniform(-0.3, 0.3) * x + draws.uniform(-0.3, 0.3) * y
    light = light * (1 - draws.uniform(0.0, 0.5) * (x * x + y * y)) * draws.uniform(0.75, 1.2)
    tint = np.array([draws.uniform(0.94, 1.06) for _ in range(3)], np.float32)
    value = np.clip(value * light[..., None] * tint, 0, 1)
    value = value + np.float32(draws.uniform(-0.3, 0.3)) * value * (1 - value)
    blurred = cv2.GaussianBlur(value, (5, 5), 1.2)
    value = value + np.float32(draws.uniform(0.1, 0.9)) * (blurred - value)
    grain = draws.uniform(0.004, 0.02)
    grey = draws.noise(height, width).astype(np.float32)
    coarse = draws.noise(height // 2, width // 2, 3).astype(np.float32)  # colour noise is coarser after demosaicing
    value = value + np.float32(grain) * grey[..., None]
    value = value + np.float32(0.5 * grain) * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.rint(np.clip(value, 0, 1) * 255).astype(np.uint8)


# --- the folder -----------------------------------------------------------------------------------------------------


def write(folder: Path) -> None:
    """Pictures and tables of both competitions.

    images/train, images/test: JPEG. train.csv: id, file, group. test.csv: id, file. boxes.csv: id, label, x1, y1, x2,
    y2 (pixels, x2 and y2 exclusive), no row where an image is empty. counts.csv: id and a column a class. Of the test
    images solution_boxes.csv and solution_counts.csv hold the same; sample_submission.csv and
    sample_submission_counts.csv are what a submission must look like.
    """
    import pandas as pd

    photographs, rows = load_photographs(), plan()
    for split in ("train", "test"):
        (folder / "images" / split).mkdir(parents=True)

    def draw(row: Row) -> Scene:
        scene = make_scene(row, photographs)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 80 + Draws(SEED, row.id, "quality").integer(16)]
        encoded = cv2.imencode(".jpg", scene.image[..., ::-1], quality)[1]
        (folder / row.file).write_bytes(encoded.tobytes())
        return scene._replace(image=np.zeros(0, np.uint8))  # the pictures of all rows need not be held

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scenes = dict(zip((row.id for row in rows), pool.map(draw, rows), strict=True))

    images = pd.DataFrame({"id": r.id, "file": r.file, "group": r.group, "split": r.split} for r in rows)
    boxes = pd.DataFrame(
        [
            (id_, label, *box)
            for id_, scene in scenes.items()
            for label, box in zip(scene.labels, scene.boxes.tolist(), strict=True)
        ],
        columns=["id", "label", "x1", "y1", "x2", "y2"],
    )
    counts = pd.DataFrame(
        [{"id": id_, **{name: scene.labels.count(name) for name in CLASSES}} for id_, scene in scenes.items()]
    )
    test_ids = images.loc[images["split"] == "test", "id"]
    images[images["split"] == "train"].drop(columns="split").to_csv(folder / "train.csv", index=False)
    images.loc[images["split"] == "test", ["id", "file"]].to_csv(folder / "test.csv", index=False)
    for table, own, hidden in ((boxes, "boxes", "solution_boxes"), (counts, "counts", "solution_counts")):
        held = table["id"].isin(test_ids)
        table[~held].to_csv(folder / f"{own}.csv", index=False)
        table[held].to_csv(folder / f"{hidden}.csv", index=False)
    empty = pd.DataFrame({"id": test_ids, "PredictionString": ""})
    empty.to_csv(folder / "sample_submission.csv", index=False)
    zeros = pd.DataFrame({"id": test_ids, **dict.fromkeys(CLASSES, 0)})
    zeros.to_csv(folder / "sample_submission_counts.csv", index=False)
