"""Drawings of the bundled detection and caption samples: six classes, and the look-alikes that are none of them.

Every function draws the proportions and colours of one object and returns the sketch that paints it, in the object's
own frame: x right, y down, about -1 .. 1.
"""

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np

from src.data.draws import Draws
from src.data.sample_canvas import Canvas, Colour, Cutout, Points, curve, ellipse, lighter, star, tone

Sketch = Callable[[Canvas], None]

PALETTES: dict[str, tuple[Colour, ...]] = {  # hue, saturation, value of a class; its look-alikes share them
    "fruit": ((-0.01, 0.82, 0.78), (0.02, 0.7, 0.8), (0.13, 0.72, 0.88), (0.25, 0.68, 0.72)),
    "banana": ((0.14, 0.75, 0.92), (0.15, 0.6, 0.93), (0.19, 0.7, 0.82)),
    "cup": ((0.1, 0.05, 0.93), (0.0, 0.75, 0.75), (0.6, 0.65, 0.6), (0.47, 0.6, 0.6)),
    "fish": ((0.06, 0.85, 0.92), (0.58, 0.65, 0.75), (0.58, 0.12, 0.7), (0.02, 0.5, 0.85)),
    "star": ((0.13, 0.8, 0.95), (0.13, 0.8, 0.95), (0.11, 0.7, 0.85), (0.6, 0.12, 0.8)),
    "cloth": ((-0.02, 0.8, 0.78), (0.6, 0.7, 0.7), (0.4, 0.65, 0.6), (0.8, 0.5, 0.65), (0.92, 0.5, 0.9)),
    # one colour each, that a viewer names at a glance
    "red": ((0.0, 0.88, 0.84),),
    "yellow": ((0.145, 0.82, 0.97),),
    "green": ((0.36, 0.78, 0.62),),
    "blue": ((0.61, 0.82, 0.82),),
    "purple": ((0.77, 0.6, 0.68),),
    "white": ((0.1, 0.02, 0.98),),
}
WHITE_OR_YELLOW: tuple[Colour, ...] = ((0.95, 0.94, 0.9), (0.93, 0.8, 0.25))
TRIMS: dict[str, tuple[Colour, ...]] = {  # second colours that leave the name of the first one true
    "red": ((0.62, 0.08, 0.08), (0.95, 0.4, 0.36)),
    "yellow": ((0.85, 0.66, 0.08), (1.0, 0.93, 0.55)),
    "green": ((0.08, 0.42, 0.14), (0.45, 0.78, 0.45)),
    "blue": ((0.1, 0.2, 0.55), (0.42, 0.6, 0.95)),
    "purple": ((0.32, 0.14, 0.46), (0.72, 0.52, 0.86)),
    "white": ((0.86, 0.86, 0.86), (0.93, 0.93, 0.95)),
}


def colour_of(draws: Draws, palette: str) -> Colour:
    """A colour near one of a palette's."""
    hue, saturation, value = draws.pick(PALETTES[palette])
    return tone(
        hue + draws.uniform(-0.025, 0.025),
        min(1.0, saturation * draws.uniform(0.8, 1.15)),
        min(1.0, value * draws.uniform(0.85, 1.08)),
    )


def trim_of(draws: Draws, palette: str) -> Colour:
    """A second colour: one of the palette's trims (white or yellow where it has none), or another of the palette."""
    return draws.pick([*TRIMS.get(palette, WHITE_OR_YELLOW), colour_of(draws, palette)])


# --- the classes ----------------------------------------------------------------------------------------------------


def apple(draws: Draws, palette: str = "fruit") -> Sketch:
    base, wide, dip = colour_of(draws, palette), draws.uniform(0.92, 1.12), draws.uniform(0.26, 0.38)
    blush, leaf_side, has_leaf = draws.uniform(-0.35, 0.35), draws.sign(), draws.chance(0.75)
    stem = tone(0.08, 0.6, draws.uniform(0.25, 0.45))
    green = tone(draws.uniform(0.25, 0.36), draws.uniform(0.5, 0.8), draws.uniform(0.35, 0.65))
    lean, tall = draws.uniform(-0.25, 0.25), draws.uniform(0.45, 0.6)
    freckles = [(draws.uniform(-0.6, 0.6), draws.uniform(-0.4, 0.7)) for _ in range(draws.integer(12))]

    def radius(angle: float) -> float:  # measured from straight up
        away = min(angle, 2 * pi - angle)
        return 0.86 * (1 - dip / (1 + (away / 0.36) ** 4) - 0.13 / (1 + ((pi - away) / 0.3) ** 4))

    steps = [2 * pi * step / 60 for step in range(60)]
    outline = [(wide * radius(a) * sin(a), 0.12 - radius(a) * cos(a)) for a in steps]

    def sketch(canvas: Canvas) -> None:
        canvas.fill(outline, base)
        canvas.fill(
            [(0.62 * x + 0.18 * leaf_side, 0.62 * y + 0.02) for x, y in outline], lighter(base, blush), clip=True
        )
        for x, y in freckles:
            canvas.fill(ellipse(x, y, 0.035, 0.035, n=8), lighter(base, 0.45), clip=True)
        canvas.fill(ellipse(0, -0.46, 0.24, 0.07, n=16), lighter(base, -0.45), clip=True)
        canvas.line(curve((0, -0.4), (0, -0.7), (lean, -0.5 - tall)), [0.1 + 0.05 * s / 12 for s in range(13)], stem)
        if has_leaf:
            tip = (leaf_side * 0.72, -0.98)
            upper = curve((0.03 * leaf_side, -0.62), (leaf_side * 0.22, -1.12), tip)
            lower = curve(tip, (leaf_side * 0.55, -0.55), (0.03 * leaf_side, -0.62))
            canvas.fill([*upper, *lower], green)
            canvas.line([(0.05 * leaf_side, -0.64), tip], 0.035, lighter(green, 0.35), clip=True)

    return sketch


def banana(draws: Draws, palette: str = "banana") -> Sketch:
    base, span, thick = colour_of(draws, palette), draws.uniform(1.9, 2.6), draws.uniform(0.46, 0.6)
    tip = tone(0.09, 0.5, draws.uniform(0.2, 0.4))
    angles = [pi / 2 - span / 2 + span * step / 40 for step in range(41)]
    line = [(cos(a), sin(a)) for a in angles]
    widths = [thick * (0.34 + 0.66 * min(1.0, 2.6 * t * (1 - t) * 1.5)) for t in (step / 40 for step in range(41))]
    stem = [(cos(a), sin(a)) for a in (angles[0] - 0.22, angles[0] - 0.1, angles[0] + 0.03)]
    spots = [(draws.uniform(0.1, 0.9), draws.uniform(-0.3, 0.3)) for _ in range(draws.pick([0, 0, 3, 7]))]
    ridge = draws.uniform(0.1, 0.28)

    def along(share: float, across: float) -> tuple[float, float]:
        angle = angles[0] + span * share
        return (1 + across * thick) * cos(angle), (1 + across * thick) * sin(angle)

    def sketch(canvas: Canvas) -> None:
        canvas.line(stem, [0.13, 0.13, 0.2], lighter(tip, 0.12))
        canvas.line(line, widths, base)
        edge = [along(t / 30, ridge) for t in range(31)] + [along(t / 30, 0.7) for t in range(30, -1, -1)]
        canvas.fill(edge, lighter(base, -0.2), clip=True)
        for share, across in spots:
            canvas.fill(ellipse(*along(share, across), 0.05, 0.03, n=10), tip, clip=True)
        canvas.line([along(0.965, 0), along(1.0, 0)], 0.2, tip)

    return sketch


def cup(draws: Draws, palette: str = "cup") -> Sketch:
    base, side = colour_of(draws, palette), draws.sign()
    half, foot, tall, squash = (
        draws.uniform(0.55, 0.72),
        draws.uniform(0.66, 1.0),
        draws.uniform(1.1, 1.5),
        draws.uniform(0.2, 0.4),
    )
    kind, second = draws.integer(4), trim_of(draws, palette)
    inside = tone(0.07, 0.7, 0.3) if draws.chance(0.6) else lighter(base, -0.4)
    top, bottom = -tall / 2, tall / 2
    ring = draws.uniform(0.15, 0.2)

    def across(y: float) -> float:
        return half * (1 + (foot - 1) * (y - top) / tall)

    handle_x = side * across(0) * 0.92
    handle = ellipse(handle_x, -0.02, 0.48, 0.36 * tall / 1.2, -pi / 2, pi / 2)
    handle = [(handle_x + side * abs(x - handle_x), y) for x, y in handle]

    def belt(y0: float, y1: float) -> Points:
        lower = ellipse(0, y1, across(y1), across(y1) * squash, 0, pi, 20)
        return [*lower, *ellipse(0, y0, across(y0), across(y0) * squash, pi, 0, 20)]

    def sketch(canvas: Canvas) -> None:
        canvas.line(handle, ring, lighter(base, -0.12))
        canvas.fill(
            [(-half, top), *ellipse(0, bottom, half * foot, half * foot * squash, pi, 0, 20), (half, top)], base
        )
        if kind == 1:
            canvas.fill(belt(top + 0.35 * tall, top + 0.62 * tall), second, clip=True)
        elif kind == 2:
            for step in range(3):
                y = top + (0.22 + 0.24 * step) * tall
                canvas.fill(belt(y, y + 0.09 * tall), second, clip=True)
        elif kind == 3:
            for step in range(6):
                x, y = (step % 3 - 1) * 0.52 * half, (step // 3 - 0.1) * 0.38 * tall
                canvas.fill(ellipse(x, y + 0.12, 0.11, 0.13, n=12), second, clip=True)
        canvas.fill(ellipse(0, top, half, half * squash), lighter(base, 0.35))
        canvas.fill(ellipse(0, top + 0.01, half * 0.86, half * squash * 0.82), inside, clip=True)

    return sketch


def fish(draws: Draws, palette: str = "fish") -> Sketch:
    base, second = colour_of(draws, palette), trim_of(draws, palette)
    deep, fork, tail = draws.uniform(0.4, 0.62), draws.uniform(0.1, 0.3), draws.uniform(0.42, 0.6)
    stripes = draws.pick([0, 0, 2, 3, 4])
    belly = not stripes and draws.chance(0.8)
    fin = lighter(second, -0.1) if draws.chance(0.5) else lighter(base, -0.25)
    back, height = draws.uniform(0.5, 0.8), draws.uniform(0.25, 0.45)
    body = [
        *curve((-1, 0.04), (-0.35, -deep * 1.9), (0.75, 0), 24),
        *curve((0.75, 0), (-0.35, deep * 1.9), (-1, 0.04), 24),
    ]

    def sketch(canvas: Canvas) -> None:
        canvas.fill([(0.55, 0), (1.15, -tail), (1.15 - fork, 0), (1.15, tail)], fin)
        canvas.fill(
            [*curve((-0.5, -deep * 0.75), (0.0, -deep - height), (back * 0.6, -deep - height * 0.6)), (0.4, -0.1)], fin
        )
        canvas.fill([(-0.1, deep * 0.7), (0.25, deep + height * 0.6), (0.35, deep * 0.4)], fin)
        canvas.fill(body, base)
        if belly:
            canvas.fill([(-1, 0.15), (0.75, 0.08), (0.2, deep), (-0.7, deep)], lighter(base, 0.4), clip=True)
        for step in range(stripes):
            x = -0.3 + step * 0.26
            canvas.line(curve((x, -1), (x + 0.14, 0), (x, 1)), 0.11, second, clip=True)
        canvas.line(curve((-0.5, -0.42), (-0.32, 0), (-0.5, 0.42)), 0.045, lighter(base, -0.4), clip=True)
        canvas.fill(ellipse(0.0, 0.1, 0.16, 0.1, n=16), fin, clip=True)
        canvas.fill(ellipse(-0.68, -0.1, 0.115, 0.115, n=16), (0.96, 0.96, 0.93), clip=True)
        canvas.fill(ellipse(-0.7, -0.1, 0.06, 0.06, n=12), (0.05, 0.05, 0.06), clip=True)

    return sketch


def five_star(draws: Draws, palette: str = "star") -> Sketch:
    return _star(draws, 5, colour_of(draws, palette), draws.uniform(0.4, 0.5))


def _star(draws: Draws, tips: int, base: Colour, inner: float) -> Sketch:
    corners, kind, rim = star(tips, inner), draws.integer(3), draws.uniform(0.65, 0.8)

    def sketch(canvas: Canvas) -> None:
        canvas.fill(corners, base if kind != 1 else lighter(base, -0.35))
        if kind == 1:
            canvas.fill([(rim * x, rim * y) for x, y in corners], lighter(base, 0.15), clip=True)
        elif kind == 2:
            for step in range(0, 2 * tips, 2):
                canvas.fill([(0, 0), corners[step], corners[step + 1]], lighter(base, -0.28), clip=True)

    return sketch


def umbrella(draws: Draws, palette: str = "cloth") -> Sketch:
    base, second = colour_of(draws, palette), trim_of(draws, palette)
    if draws.chance(0.4):
        second = lighter(base, draws.pick([-0.3, 0.45]))
    panels, rise, bite = draws.pick([4, 5, 6]), draws.uniform(0.72, 0.95), draws.uniform(0.1, 0.17)
    wood = tone(0.08, draws.uniform(0.2, 0.6), draws.uniform(0.2, 0.55))
    shaft, hook = draws.uniform(0.85, 1.05), draws.sign()
    ends = [-cos(pi * step / panels) for step in range(panels + 1)]  # seen from the side: panels narrow outwards
    hem: list[tuple[float, float]] = []
    for left, right in zip(ends, ends[1:], strict=False):
        hem.extend(ellipse((left + right) / 2, 0, (right - left) / 2, bite, pi, 2 * pi, 10))

    def sketch(canvas: Canvas) -> None:
        bow = ellipse(hook * 0.16, shaft - 0.12, 0.16, 0.17, 0, pi, 16)
        bow = bow[::-1] if hook > 0 else bow
        canvas.line([(0, -0.4), (0, shaft - 0.12), *bow[1:]], 0.1, wood)
        canvas.line([(0, -rise - 0.16), (0, -rise + 0.2)], 0.09, wood)
        canvas.fill([*ellipse(0, 0, 1, rise, 0, -pi), *hem], base)
        for step in range(1, panels, 2):
            left, right = ends[step], ends[step + 1]
            sides = [*_rib(left, rise), *_rib(right, rise)[::-1]]
            canvas.fill(sides, second, clip=True)
        for end in ends[1:-1]:
            canvas.line(_rib(end, rise), 0.035, lighter(base, -0.4), clip=True)

    return sketch


def _rib(x: float, rise: float) -> Points:
    """From the hem at `x` to the top of a canopy."""
    return [(x * cos(angle), -rise * sin(angle)) for angle in (pi / 2 * step / 12 for step in range(13))]


# --- what is no class -----------------------------------------------------------------------------------------------


def ball(draws: Draws) -> Sketch:
    base = colour_of(draws, draws.pick(["fruit", "fruit", "cloth"]))
    second, kind = trim_of(draws, "cloth"), draws.integer(3)

    def sketch(canvas: Canvas) -> None:
        canvas.fill(ellipse(0, 0, 1, 1), base)
        if kind == 1:
            canvas.fill(
                [*ellipse(0, 0, 0.4, 1, pi / 2, -pi / 2), *ellipse(0, 0, 0.1, 1, -pi / 2, pi / 2)], second, clip=True
            )
        elif kind == 2:
            canvas.line([(-1, 0.1), (1, -0.1)], 0.3, second, clip=True)

    return sketch


def moon(draws: Draws) -> Sketch:
    base = colour_of(draws, draws.pick(["banana", "banana", "cup"]))
    inner = draws.uniform(0.25, 0.6)

    def sketch(canvas: Canvas) -> None:
        canvas.fill([*ellipse(0, 0, 1, 1, -pi / 2, pi / 2), *ellipse(0, 0, inner, 1, pi / 2, -pi / 2)], base)

    return sketch


def other_star(draws: Draws) -> Sketch:
    tips = draws.pick([3, 4, 10, 12])
    inner = {3: 0.36, 4: 0.36, 10: 0.75, 12: 0.78}[tips] * draws.uniform(0.9, 1.1)
    return _star(draws, tips, colour_of(draws, "star"), inner)


def can(draws: Draws) -> Sketch:
    base, second, half = colour_of(draws, "cup"), trim_of(draws, "cup"), draws.uniform(0.4, 0.6)
    squash, belt, lid = draws.uniform(0.2, 0.4), draws.chance(0.5), lighter((0.7, 0.7, 0.72), draws.uniform(-0.2, 0.2))

    def sketch(canvas: Canvas) -> None:
        canvas.fill([(-half, -0.8), *ellipse(0, 0.7, half, half * squash, pi, 0, 20), (half, -0.8)], base)
        if belt:
            canvas.fill([(-half, -0.2), (half, -0.2), (half, 0.4), (-half, 0.4)], second, clip=True)
        canvas.fill(ellipse(0, -0.8, half, half * squash), lid)

    return sketch


def bowl(draws: Draws) -> Sketch:
    base, second, deep = colour_of(draws, "cloth"), trim_of(draws, "cloth"), draws.uniform(0.7, 1.0)

    def sketch(canvas: Canvas) -> None:
        canvas.fill(ellipse(0, 0, 1, deep, 0, pi), base)
        canvas.line([(-1, 0.07), (1, 0.07)], 0.14, second, clip=True)

    return sketch


def lens(draws: Draws) -> Sketch:
    base, deep, vein = colour_of(draws, "fish"), draws.uniform(0.5, 1.0), draws.chance(0.5)

    def sketch(canvas: Canvas) -> None:
        canvas.fill([*curve((-1, 0), (0, -deep), (1, 0), 20), *curve((1, 0), (0, deep), (-1, 0), 20)], base)
        if vein:
            canvas.line([(-1, 0), (1, 0)], 0.06, lighter(base, 0.35), clip=True)

    return sketch


def block(draws: Draws) -> Sketch:
    base, wide = colour_of(draws, draws.pick(["star", "cup"])), draws.uniform(0.5, 1.0)
    corners = [(-wide, -1), (wide, -1), (wide, 1), (-wide, 1)]
    if draws.chance(0.4):
        corners = [(0, -1), (wide, 0.9), (-wide, 0.9)]
    second = lighter(base, draws.pick([-0.3, 0.35]))

    def sketch(canvas: Canvas) -> None:
        canvas.fill(corners, base)
        canvas.fill([(0, -1), (1, -1), (1, 1), (0, 1)], second, clip=True)

    return sketch


def ring(draws: Draws) -> Sketch:
    base, thick = colour_of(draws, "cloth"), draws.uniform(0.3, 0.55)
    circle = ellipse(0, 0, 1, 1, 0.05, 2 * pi - 0.05)

    def sketch(canvas: Canvas) -> None:
        canvas.line(circle, thick, base)

    return sketch


CLASSES: dict[str, tuple[Callable[..., Sketch], float]] = {  # the drawing, and how far it may lie over (radians)
    "사과": (apple, 0.5),
    "바나나": (banana, 1.2),
    "컵": (cup, 0.3),
    "물고기": (fish, 0.6),
    "별": (five_star, pi),
    "우산": (umbrella, 0.5),
}
OTHERS: dict[str, tuple[Callable[[Draws], Sketch], float]] = {
    "ball": (ball, pi),
    "moon": (moon, pi),
    "star": (other_star, pi),
    "can": (can, 0.4),
    "bowl": (bowl, 0.7),
    "lens": (lens, pi),
    "block": (block, pi),
    "ring": (ring, pi),
}


def draw(draws: Draws, kind: str, size: float, light: tuple[float, float], palette: str | None = None) -> Cutout:
    """One object of a class or look-alike, `size` pixels along its longer side.

    light: unit vector (x, y) towards the light; all objects of a picture share it.
    palette: of PALETTES, what a class is painted in instead of its own colours; look-alikes take none.
    """
    make, lean = {**CLASSES, **OTHERS}[kind]
    angle = draws.uniform(-lean, lean)
    squeeze, slant, mirror = draws.uniform(0.84, 1.0), draws.uniform(-0.12, 0.12), draws.sign()
    turn = np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
    canvas = Canvas()
    (make(draws) if palette is None else make(draws, palette))(canvas)
    return canvas.cutout(draws, turn @ np.array([[mirror, slant], [0.0, squeeze]]), size, light)
