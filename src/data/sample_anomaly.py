"""Recipe of the bundled competition `sample_anomaly`: real textures, changing light and pose, drawn defects with masks.

Brick, grass and gravel are photographs that scikit-image ships in its wheel (512 x 512, grey, public domain). Each is
cut into a 2 x 2 board of disjoint windows; every picture is a crop inside one window, and a window belongs either to
train (three of each photograph) or to test (one). So no test picture shows a pixel of a training picture, and the
`group` column of train.csv (the window) lets a cross-validation keep the same distance between its folds. Foreign
matter alone is not so kept apart: it is cut from smaller photographs (coins, a page, a text) mirrored up to size.

The pixel arrays are the same on every machine: random numbers are raw Philox words (the one numpy stream that is
frozen by contract), and pictures are made with + - * / and square roots on float64 only, which IEEE 754 rounds in one
way (no sin, exp or power, no matrix product, no float sum). The JPEG bytes may differ between encoder versions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from src.data.draws import Draws

SIZE = 224  # pixels, height and width of a picture
SEED = 20240607
BOARD = 2  # windows along each side of a texture
TEXTURES = ("brick", "grass", "gravel")
FOREIGN = ("coins", "page", "text")  # where foreign matter is cut from
TEST_CELLS = {  # (row, column) on the board
    "brick": (1, 0),
    "grass": (1, 1),
    "gravel": (1, 0),
    "coins": (1, 1),
    "page": (0, 1),
    "text": (1, 0),
}
KINDS = ("scratch", "stain", "foreign", "hole", "bend")
TRAIN_NORMAL, TEST_NORMAL = 240, 95
TRAIN_DEFECTS, TEST_DEFECTS = 4, 13  # of each kind


class Picture(NamedTuple):
    """One made picture: `image` H x W x 3 uint8 RGB, `mask` H x W bool (all False when normal)."""

    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Row:
    """One picture to make; `kind` is "normal" or one of KINDS, `group` names the texture's window."""

    id: str
    split: str
    texture: str
    window: tuple[int, int]
    kind: str

    @property
    def label(self) -> str:
        return "normal" if self.kind == "normal" else "defect"

    @property
    def group(self) -> str:
        return f"{self.texture}-{self.window[0]}{self.window[1]}"


def load_textures() -> dict[str, np.ndarray]:
    """The photographs, 512 x 512 uint8; those of foreign matter are smaller and mirrored on to that size."""
    from skimage import data

    textures = {}
    for name in (*TEXTURES, *FOREIGN):
        picture = np.asarray(getattr(data, name)())
        missing = [(0, max(0, 512 - side)) for side in picture.shape]
        textures[name] = np.ascontiguousarray(np.pad(picture, missing, mode="symmetric")[:512, :512])
    return textures


def windows(texture: str, split: str) -> list[tuple[int, int]]:
    """Board cells (row, column) of a split."""
    cells = [(row, column) for row in range(BOARD) for column in range(BOARD)]
    held = TEST_CELLS[texture]
    return [cell for cell in cells if (cell == held) == (split == "test")]


def plan(seed: int = SEED) -> list[Row]:
    """Every picture of the competition in the order of its tables; labels are spread at random over the ids."""
    rows: list[Row] = []
    for split, normal, defects in (
        ("train", TRAIN_NORMAL, TRAIN_DEFECTS),
        ("test", TEST_NORMAL, TEST_DEFECTS),
    ):
        kinds = ["normal"] * normal + [kind for kind in KINDS for _ in range(defects)]
        cells = [(texture, cell) for cell in range(BOARD * BOARD) for texture in TEXTURES]
        planned = []
        for index, kind in enumerate(kinds):
            texture, cell = cells[index % len(cells)]
            own = windows(texture, split)
            planned.append((texture, own[cell % len(own)], kind))
        for texture, window, kind in Draws(seed, split, "order").shuffle(planned):
            rows.append(Row(f"{len(rows):04d}", split, texture, window, kind))
    return rows


def make_picture(row: Row, textures: dict[str, np.ndarray], seed: int = SEED) -> Picture:
    """Crop, damage (unless normal), light and photograph one row."""
    draws = Draws(seed, row.id)
    grid = _grid()
    pose = _pose(draws, row.texture, row.window)
    spoil = Draws(seed, row.id, "defect")
    warp, mask = None, np.zeros((SIZE, SIZE), dtype=bool)
    if row.kind == "bend":
        warp, shade, mask = _bend(spoil, grid)
    surface = _crop(textures[row.texture], row.window, pose, grid, warp)[..., None] * np.ones(3)
    if row.kind == "bend":
        surface = surface * shade[..., None]
    elif row.kind == "foreign":
        surface, mask = _foreign(spoil, grid, surface, row, textures)
    elif row.kind != "normal":
        surface, mask = _PAINTERS[row.kind](spoil, grid, surface)
    return Picture(_photograph(draws, grid, surface), mask)


# --- geometry -------------------------------------------------------------------------------------------------------


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres (x, y), each H x W, in units of the picture's side, zero in the middle."""
    line = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    return np.broadcast_to(line, (SIZE, SIZE)), np.broadcast_to(line[:, None], (SIZE, SIZE))


def _pose(draws: Draws, texture: str, window: tuple[int, int]) -> tuple[float, ...]:
    """A square footprint that stays inside the window: centre, side (pixels), cosine, sine, mirror, perspective."""
    half_turn = draws.uniform(-0.07, 0.07) if texture == "brick" else draws.uniform(-0.11, 0.11)
    cosine = (1 - half_turn * half_turn) / (1 + half_turn * half_turn)  # tan(angle / 2): exact without sin and cos
    sine = 2 * half_turn / (1 + half_turn * half_turn)
    quarter = 2 * draws.integer(2) if texture == "brick" else draws.integer(4)
    for _ in range(quarter):
        cosine, sine = -sine, cosine
    mirror = draws.sign()
    perspective = draws.uniform(-0.12, 0.12)
    top, bottom, left, right = _edges(window)
    reach = (abs(cosine) + abs(sine)) * (1 + abs(perspective) / 2) / 2  # half the footprint's extent for side 1
    room = min(bottom - top, right - left) / 2 - 2  # the bicubic taps need two pixels
    side = draws.uniform(0.78, 1.0) * min(room / reach, 215.0)
    centre = [
        draws.uniform(low + reach * side + 2, high - reach * side - 2) for low, high in ((left, right), (top, bottom))
    ]
    return (*centre, side, cosine, sine, mirror, perspective)


def _edges(window: tuple[int, int]) -> tuple[int, int, int, int]:
    """top, bottom, left, right of a window, in texture pixels."""
    row, column = window
    return 512 * row // BOARD, 512 * (row + 1) // BOARD, 512 * column // BOARD, 512 * (column + 1) // BOARD


def _crop(
    texture: np.ndarray,
    window: tuple[int, int],
    pose: tuple[float, ...],
    grid: tuple[np.ndarray, np.ndarray],
    warp: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Bicubic (Keys, a = -1/2) sampling of the posed footprint: H x W float64, about [0, 1]. Reads the window only."""
    centre_x, centre_y, side, cosine, sine, mirror, perspective = pose
    across, down = grid if warp is None else (grid[0] + warp[0], grid[1] + warp[1])
    across = across * mirror * (1 + perspective * down)
    x = centre_x + side * (cosine * across - sine * down) - 0.5
    y = centre_y + side * (sine * across + cosine * down) - 0.5
    top, bottom, left, right = _edges(window)
    own = texture[top:bottom, left:right].astype(np.float64) / 255.0
    x0, y0 = np.floor(x), np.floor(y)
    weights_x, weights_y = _keys(x - x0), _keys(y - y0)
    columns = [np.clip(x0.astype(np.int64) + tap - left, 0, right - left - 1) for tap in (-1, 0, 1, 2)]
    result = np.zeros_like(x)
    for tap_y, weight_y in zip((-1, 0, 1, 2), weights_y, strict=True):
        start = np.clip(y0.astype(np.int64) + tap_y - top, 0, bottom - top - 1) * (right - left)
        line = np.zeros_like(x)
        for column, weight_x in zip(columns, weights_x, strict=True):
            line = line + weight_x * own.ravel()[start + column]
        result = result + weight_y * line
    return result


def _keys(t: np.ndarray) -> tuple[np.ndarray, ...]:
    """Weights of the four taps around a fractional position."""
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


# --- light and camera -----------------------------------------------------------------------------------------------


def _photograph(draws: Draws, grid: tuple[np.ndarray, np.ndarray], surface: np.ndarray) -> np.ndarray:
    """Uneven light, exposure, tone curve, tint, slight blur and sensor noise: H x W x 3 float reflectance to uint8."""
    x, y = grid
    light = 1 + draws.uniform(-0.3, 0.3) * x + draws.uniform(-0.3, 0.3) * y
    spot_x, spot_y = x - draws.uniform(-0.6, 0.6), y - draws.uniform(-0.6, 0.6)
    light = light * (1 - draws.uniform(0.0, 0.25) * (spot_x * spot_x + spot_y * spot_y))
    tint = np.array([1 + draws.uniform(-0.05, 0.05) for _ in range(3)])
    value = surface * (draws.uniform(0.75, 1.25) * light)[..., None] * tint
    value = np.clip(value, 0.0, 1.0)
    value = value + draws.uniform(-0.3, 0.3) * value * (1 - value)  # a tone curve in place of gamma: no power function
    value = value + draws.uniform(0.0, 0.8) * (_blur(value) - value)
    grain = draws.uniform(0.004, 0.014)
    value = value + grain * draws.noise(SIZE, SIZE)[..., None] + 0.3 * grain * draws.noise(SIZE, SIZE, 3)
    return np.rint(np.clip(value, 0.0, 1.0) * 255.0).astype(np.uint8)


def _blur(value: np.ndarray) -> np.ndarray:
    """Binomial 3 x 3, edges repeated."""
    padded = np.pad(value, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4


# --- defects: each returns the damaged surface and its mask ----------------------------------------------------------

Grid = tuple[np.ndarray, np.ndarray]


def _smooth(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smoothstep from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _blob(draws: Draws, grid: Grid, radius: float) -> np.ndarray:
    """An irregular smooth field, about 1 in the middle and 0 outside `radius` pixels: five overlapping balls."""
    middle = [draws.uniform(-0.34, 0.34), draws.uniform(-0.34, 0.34)]
    field = np.zeros((SIZE, SIZE))
    for ball in range(5):
        size = radius / SIZE * (draws.uniform(0.5, 0.8) if ball else 0.8)
        offset = [draws.uniform(-0.5, 0.5) * radius / SIZE if ball else 0.0 for _ in range(2)]
        x, y = grid[0] - middle[0] - offset[0], grid[1] - middle[1] - offset[1]
        bump = np.clip(1 - (x * x + y * y) / (size * size), 0.0, 1.0)
        field = field + bump * bump
    return np.clip(field, 0.0, 1.0)


def _scratch(draws: Draws, grid: Grid, surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A thin curved line (quadratic Bezier) that bares a lighter or darker ground, thinning at its ends."""
    width, length = draws.uniform(3.5, 7.0) / SIZE, draws.uniform(100, 200) / SIZE
    ground = draws.uniform(0.0, 0.06) if draws.integer(2) else draws.uniform(0.9, 1.0)
    strength = draws.uniform(0.85, 1.0)
    start = [draws.uniform(-0.35, 0.35), draws.uniform(-0.35, 0.35)]
    direction = [draws.uniform(-1, 1), draws.uniform(-1, 1)]
    norm = (direction[0] ** 2 + direction[1] ** 2) ** 0.5 + 1e-9
    along = [length * part / norm for part in direction]
    if (start[0] + along[0]) ** 2 + (start[1] + along[1]) ** 2 > start[0] ** 2 + start[1] ** 2:
        along = [-part for part in along]  # run towards the middle, to stay in the picture
    bow = draws.uniform(-0.25, 0.25)
    bent = [start[0] + along[0] / 2 - bow * along[1], start[1] + along[1] / 2 + bow * along[0]]
    steps = [step / 24 for step in range(25)]
    points = [
        [(1 - t) * (1 - t) * start[i] + 2 * t * (1 - t) * bent[i] + t * t * (start[i] + along[i]) for i in range(2)]
        for t in steps
    ]
    alpha = np.zeros((SIZE, SIZE))
    for step in range(24):
        (ax, ay), (bx, by) = points[step], points[step + 1]
        dx, dy = bx - ax, by - ay
        t = np.clip(((grid[0] - ax) * dx + (grid[1] - ay) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
        x, y = grid[0] - ax - t * dx, grid[1] - ay - t * dy
        middle = (step + 0.5) / 24
        taper = width * (0.4 + 2.4 * middle * (1 - middle))
        alpha = np.maximum(alpha, 1 - _smooth(np.sqrt(x * x + y * y), taper / 2, taper / 2 + 1.0 / SIZE))
    return surface + strength * alpha[..., None] * (ground - surface), alpha > 0.3


def _stain(draws: Draws, grid: Grid, surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A liquid that darkens, flattens the contrast a little and leaves a slight colour, with a soft edge."""
    alpha = _smooth(_blob(draws, grid, draws.uniform(18, 45)), 0.1, draws.uniform(0.25, 0.5))
    dark, flat = draws.uniform(0.45, 0.78), draws.uniform(0.0, 0.35)
    colour = np.array([1.0, 1.0 - draws.uniform(0.0, 0.08), 1.0 - draws.uniform(0.0, 0.15)])
    soaked = dark * colour * (surface + flat * (0.44 - surface))
    return surface + alpha[..., None] * (soaked - surface), alpha > 0.3


def _hole(draws: Draws, grid: Grid, surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A small dark opening with a lit rim."""
    field = _blob(draws, grid, draws.uniform(9, 20))
    inside, around = _smooth(field, 0.25, 0.45), _smooth(field, 0.02, 0.25)
    depth, rim = draws.uniform(0.7, 0.95), draws.uniform(0.0, 0.15)
    edged = surface + rim * (around * (1 - inside))[..., None]
    return edged + inside[..., None] * (surface * (1 - depth) - edged), around > 0.5


def _foreign(
    draws: Draws, grid: Grid, surface: np.ndarray, row: Row, textures: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Something that does not belong there, brought to the host's mean brightness and blended in."""
    other = FOREIGN[draws.integer(len(FOREIGN))]
    own = windows(other, row.split)
    window = own[draws.integer(len(own))]
    patch = _crop(textures[other], window, _pose(draws, other, window), grid)
    shift = (int(textures[row.texture].sum()) - int(textures[other].sum())) / (512 * 512 * 255.0)
    alpha = _smooth(_blob(draws, grid, draws.uniform(40, 64)), 0.1, 0.3) * draws.uniform(0.9, 1.0)
    return surface + alpha[..., None] * ((patch + shift)[..., None] - surface), alpha > 0.3


def _bend(draws: Draws, grid: Grid) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """A dent: the surface is pushed aside inside a disc and catches the light differently: (warp, shade, mask)."""
    radius, push = draws.uniform(40, 72) / SIZE, draws.uniform(0.35, 0.6)
    x, y = grid[0] - draws.uniform(-0.3, 0.3), grid[1] - draws.uniform(-0.3, 0.3)
    direction = [draws.uniform(-1, 1), draws.uniform(-1, 1)]
    norm = (direction[0] ** 2 + direction[1] ** 2) ** 0.5 + 1e-9
    unit = [part / norm for part in direction]
    inside = np.clip(1 - (x * x + y * y) / (radius * radius), 0.0, 1.0)
    field = inside * inside
    slope = 2 * inside * (x * unit[0] + y * unit[1]) / radius  # of the field, along the push
    shade = 1 + draws.sign() * draws.uniform(0.6, 1.1) * slope
    return (-push * radius * unit[0] * field, -push * radius * unit[1] * field), shade, field > 0.1


_PAINTERS: dict[str, Callable[[Draws, Grid, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "scratch": _scratch,
    "stain": _stain,
    "hole": _hole,
}
