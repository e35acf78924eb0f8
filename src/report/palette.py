"""Colours of classes, told apart with impaired colour vision too; past the twelfth they repeat with other dashes."""

from collections.abc import Sequence

# Chosen by search: blue, vermilion and green of Okabe and Ito (2008), then nine colours that keep the least CIELAB
# distance of any two as large as could be found, for usual sight and for protan, deutan and tritan sight (Machado et
# al. 2009, severity 1); the first set within a lightness that reads on white, the second on near-black.
LIGHT = (
    "#0072b2", "#d55e00", "#009e73", "#9400ff", "#d7a15e", "#bca1c9",
    "#ff51ff", "#28511b", "#d70043", "#5e365e", "#ff9400", "#511bae",
)  # fmt: skip
DARK = (
    "#4aa3e0", "#ff8a3d", "#2fc99a", "#bc51ff", "#e4f26b", "#f2bce4",
    "#ff00bc", "#6b945e", "#ff2851", "#94ffc9", "#ffae00", "#aee486",
)  # fmt: skip
# Strokes of the first, second, … round of colours, in stroke widths.
DASHES: tuple[tuple[int, ...], ...] = ((), (7, 2), (7, 2, 1, 2), (2, 2))


def places(objects: Sequence[int]) -> list[int]:
    """Each class's place among the colours, from its number of objects.

    A class's own index, or where there are more classes than colours, its rank: the most frequent ones, which are
    looked at most, have a colour to themselves.
    """
    order = range(len(objects))
    if len(objects) > len(LIGHT):
        order = sorted(order, key=lambda label: (-objects[label], label))
    found = [0] * len(objects)
    for place, label in enumerate(order):
        found[label] = place
    return found


def variable(place: int) -> str:
    """The CSS variable of a colour, without its dashes."""
    return f"class-{place % len(LIGHT)}"


def dashes(place: int) -> tuple[int, ...]:
    """Lengths of strokes and gaps, empty for a solid line."""
    return DASHES[place // len(LIGHT) % len(DASHES)]


def variables(colours: tuple[str, ...]) -> dict[str, str]:
    """{CSS variable: colour} of one of the two sets."""
    return {variable(place): colour for place, colour in enumerate(colours)}


def rgb(place: int) -> tuple[int, int, int]:
    """A colour of the bright set, for drawing on photographs."""
    code = DARK[place % len(DARK)]
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on a colour (WCAG 2 relative luminance)."""
    linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
