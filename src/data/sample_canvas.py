"""How the bundled detection sample paints an object: polygons on a fine canvas, averaged down, rounded off by light."""

from collections.abc import Sequence
from math import cos, pi, sin
from typing import NamedTuple

import cv2
import numpy as np

from src.data.draws import Draws

OVER = 3  # canvas pixels along a picture pixel
SHIFT = 4  # fractional bits of a polygon's corners
MARGIN = 0.12  # free space around an object, share of its longer side

Points = Sequence[tuple[float, float]] | np.ndarray
Colour = tuple[float, float, float]


class Cutout(NamedTuple):
    """One drawn object: `colour` H x W x 3 float32 RGB in [0, 1], `alpha` H x W float32 coverage in [0, 1]."""

    colour: np.ndarray
    alpha: np.ndarray


class Canvas:
    """Collects filled polygons in object coordinates, then paints them at the size that is asked for."""

    def __init__(self) -> None:
        self._fills: list[tuple[np.ndarray, Colour, bool]] = []

    def fill(self, points: Points, colour: Colour, *, clip: bool = False) -> None:
        """A polygon; with `clip` only where something is painted already."""
        self._fills.append((np.asarray(points, np.float64), colour, clip))

    def line(self, points: Points, width: float | Sequence[float], colour: Colour, *, clip: bool = False) -> None:
        """A band along a path; one width, or one for each point."""
        self.fill(band(points, width), colour, clip=clip)

    def cutout(self, draws: Draws, matrix: np.ndarray, size: float, light: tuple[float, float]) -> Cutout:
        """The painting turned, mirrored and slanted by `matrix` (2 x 2), `size` pixels along its longer side.

        light: unit vector (x, y) towards the light.
        """
        fills = [(points @ matrix.T, colour, clip) for points, colour, clip in self._fills]
        reached = np.concatenate([points for points, _, clip in fills if not clip])
        low, high = reached.min(0), reached.max(0)
        scale = size * OVER / (high - low).max()
        border = int(np.ceil(size * MARGIN)) + 1
        width, height = (int(np.ceil(side * scale / OVER)) + 2 * border for side in high - low)
        offset = np.array([width, height]) * OVER / 2 - (low + high) / 2 * scale - 0.5
        mask = np.zeros((height * OVER, width * OVER), np.uint8)
        paint = np.zeros((height * OVER, width * OVER, 3), np.uint8)
        for points, colour, clip in fills:
            corners = np.rint((points * scale + offset) * (1 << SHIFT)).astype(np.int32)
            value = tuple(int(round(255 * min(max(part, 0.0), 1.0))) for part in colour)
            cv2.fillPoly(paint, [corners], value, cv2.LINE_8, SHIFT)
            if not clip:  # what a clipped polygon leaves outside the mask is painted over later, or wiped in the end
                cv2.fillPoly(mask, [corners], 255, cv2.LINE_8, SHIFT)
        paint = cv2.bitwise_and(paint, paint, mask=mask)
        alpha = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        mixed = cv2.resize(paint, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        mixed = mixed / np.maximum(alpha, 1 / 255)[..., None]
        return Cutout(np.clip(_lit(draws, mixed, alpha, size, light), 0, 1), alpha)


# --- polygons -------------------------------------------------------------------------------------------------------


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 2 * pi, n: int = 40) -> Points:
    """Points of an elliptic arc; angles from the x axis towards y (clockwise as seen)."""
    angles = [start + (stop - start) * step / n for step in range(n + 1)]
    return [(x + rx * cos(angle), y + ry * sin(angle)) for angle in angles]


def curve(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float], n: int = 12) -> Points:
    """A quadratic Bezier curve from `a` towards `b` to `c`."""
    steps = [step / n for step in range(n + 1)]
    return [tuple((1 - t) ** 2 * a[i] + 2 * t * (1 - t) * b[i] + t * t * c[i] for i in (0, 1)) for t in steps]


def band(points: Points, width: float | Sequence[float]) -> Points:
    """Outline of a path of the given width."""
    path = np.asarray(points, np.float64)
    along = np.concatenate([path[1:2] - path[:1], path[2:] - path[:-2], path[-1:] - path[-2:-1]])
    along /= np.maximum(np.sqrt((along * along).sum(1, keepdims=True)), 1e-9)
    side = np.stack([-along[:, 1], along[:, 0]], 1) * (np.broadcast_to(width, len(path))[:, None] / 2)
    return np.concatenate([path + side, (path - side)[::-1]])


def star(points: int, inner: float) -> Points:
    """A star with `points` tips at radius 1 and notches at radius `inner`; one tip is up."""
    corners = []
    for step in range(2 * points):
        radius = inner if step % 2 else 1.0
        angle = pi * step / points
        corners.append((radius * sin(angle), -radius * cos(angle)))
    return corners


# --- colour ---------------------------------------------------------------------------------------------------------


def tone(hue: float, saturation: float, value: float) -> Colour:
    """RGB in [0, 1] of a hue (0 red, 1/3 green, 2/3 blue, any number), saturation and value."""
    sector = hue % 1.0 * 6
    parts = []
    for shift in (5, 3, 1):
        k = (shift + sector) % 6
        parts.append(value * (1 - saturation * min(max(min(k, 4 - k), 0.0), 1.0)))
    return tuple(parts)


def lighter(colour: Colour, share: float) -> Colour:
    """Towards white, or towards black where `share` is negative."""
    goal = 1.0 if share > 0 else 0.0
    return tuple(part + abs(share) * (goal - part) for part in colour)


# --- light ----------------------------------------------------------------------------------------------------------


def _lit(draws: Draws, colour: np.ndarray, alpha: np.ndarray, size: float, light: tuple[float, float]) -> np.ndarray:
    """Round the flat drawing off: slope light, a gloss, a rim, and an uneven surface."""
    height, width = alpha.shape
    spread = max(3, int(size * 0.28) | 1)
    bulge = cv2.GaussianBlur(alpha, (spread, spread), 0)
    down, across = np.gradient(bulge)
    facing = -(across * light[0] + down * light[1]) * spread
    y, x = np.mgrid[:height, :width]
    ramp = ((x / width - 0.5) * light[0] + (y / height - 0.5) * light[1]) * draws.uniform(0.1, 0.5)
    shade = 1 + draws.uniform(0.25, 0.55) * facing + ramp
    edge = np.clip((bulge - 0.5) * 4, 0, 1)
    shade = shade * (1 - draws.uniform(0.0, 0.5) * (1 - edge))
    cells = max(2, int(size / draws.uniform(5, 14)))
    coarse = draws.noise(cells, cells).astype(np.float32)
    grain = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    shade = shade * (1 + draws.uniform(0.02, 0.12) * grain)
    result = colour * shade[..., None]
    gloss = draws.uniform(-0.25, 0.5)
    if gloss > 0:
        far = (x / width - 0.5 - 0.2 * light[0]) ** 2 + (y / height - 0.5 - 0.2 * light[1]) ** 2
        spot = np.clip(1 - far / draws.uniform(0.008, 0.03), 0, 1) ** 2
        result = result + (gloss * spot)[..., None]
    return result
