"""Run-length coded masks: COCO's compressed text, and the "start length" runs of submission cells.

Sizes are (width, height), masks (height, width) bool arrays. Runs are (N, 2) int64 rows of start and length, starts
counted from 0 along the flattened mask: down the columns (`order="column"`, COCO's and most graders') or along the
rows (`order="row"`).
"""

import re
from typing import Literal

import numpy as np

Order = Literal["column", "row"]
_BITS = 5  # of a number in one character of COCO's text
_MORE = 1 << _BITS  # set in a character that another one of the same number follows
_SIGN = 1 << (_BITS - 1)
_FIRST = ord("0")


class IllegalRuns(ValueError):
    """Text that is no legal sequence of runs. `kind` is the same for all texts of one fault."""

    def __init__(self, kind: str, found: str = "") -> None:
        super().__init__(f"{kind}: {found}" if found else kind)
        self.kind, self.found = kind, found


def mask_to_runs(mask: np.ndarray, *, order: Order = "column") -> np.ndarray:
    """The runs of a mask's true pixels, ascending, none touching the next."""
    flat = _flat(mask, order)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(np.int8)))
    return np.stack([edges[::2], edges[1::2] - edges[::2]], axis=1).astype(np.int64)


def runs_to_mask(runs: np.ndarray, size: tuple[int, int], *, order: Order = "column") -> np.ndarray:
    """The (height, width) mask of ascending runs without overlap.

    Raises:
        IllegalRuns: a run reaches beyond the image, the runs overlap, or one is empty.
    """
    width, height = size
    runs = np.asarray(runs, dtype=np.int64).reshape(-1, 2)
    check_runs(runs, pixels=width * height)
    steps = np.zeros(width * height + 1, dtype=np.int8)
    np.add.at(steps, runs[:, 0], 1)
    np.add.at(steps, runs.sum(axis=1), -1)
    flat = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
    return flat.reshape((height, width), order="F" if order == "column" else "C")


def runs_to_text(runs: np.ndarray, *, base: int = 1, separator: str = " ") -> str:
    """ "start length start length …", starts counted from `base`; no runs at all are ""."""
    runs = np.asarray(runs, dtype=np.int64).reshape(-1, 2)
    return separator.join(map(str, (runs + [base, 0]).ravel().tolist()))


def runs_from_text(text: str, *, base: int = 1, separator: str = " ", pixels: int | None = None) -> np.ndarray:
    """(N, 2) runs of a text that `runs_to_text` could have written; `pixels`: those of the image, where known.

    Raises:
        IllegalRuns: a token is no whole number, they are odd in number, a start is below `base`, a length is not
            positive, the runs are not ascending, overlap, or reach beyond the image.
    """
    if text == "":
        return np.zeros((0, 2), np.int64)
    tokens = text.split(separator)
    for token in tokens:
        if not re.fullmatch(r"-?\d{1,18}", token):
            raise IllegalRuns("holds a token that is not a whole number", repr(token))
    if len(tokens) % 2:
        raise IllegalRuns("has an odd number of tokens, not pairs of start and length", f"{len(tokens)} tokens")
    runs = np.array([int(token) for token in tokens], dtype=np.int64).reshape(-1, 2)
    check_runs(runs - [base, 0], pixels=pixels, base=base)
    return runs - [base, 0]


def check_runs(runs: np.ndarray, *, pixels: int | None = None, base: int = 0) -> None:
    """Raise IllegalRuns for the first fault of (N, 2) runs that count from 0; messages count from `base`."""
    starts, lengths = runs[:, 0], runs[:, 1]

    def refuse(bad: np.ndarray, kind: str) -> None:
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise IllegalRuns(kind, f"run '{starts[at] + base} {lengths[at]}'")

    refuse(lengths <= 0, "has a run whose length is not positive")
    refuse(starts < 0, f"has a run that starts before pixel {base}")
    later = starts[1:] < starts[:-1]
    refuse(np.append(False, later), "has runs that are not in ascending order")
    refuse(np.append(False, starts[1:] < (starts + lengths)[:-1]), "has runs that overlap")
    if pixels is not None:
        refuse(starts + lengths > pixels, "has a run that reaches beyond the image")


def mask_to_coco(mask: np.ndarray) -> str:
    """COCO's compressed `counts` text of a mask; with its (height, width) it is what pycocotools encodes."""
    flat = _flat(mask, "column")
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    bounds = np.concatenate([[0], edges, [len(flat)]])
    counts = np.diff(bounds)
    if len(flat) and flat[0]:
        counts = np.concatenate([[0], counts])  # counts begin with a run of background
    return compress_counts(counts)


def coco_to_mask(text: str, size: tuple[int, int]) -> np.ndarray:
    """The (height, width) mask of COCO's compressed `counts` text.

    Raises:
        IllegalRuns: the text is damaged, or its counts do not add up to the pixels of the image.
    """
    width, height = size
    counts = expand_counts(text)
    if counts.sum() != width * height:
        raise IllegalRuns("does not cover the image", f"{counts.sum()} pixels, expected {width}×{height}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape((height, width), order="F")


def coco_to_runs(text: str, *, pixels: int | None = None) -> np.ndarray:
    """(N, 2) runs, down the columns, of COCO's compressed `counts` text; `pixels`: those of the image, where known.

    Raises:
        IllegalRuns: the text is damaged, or its counts do not add up to the pixels of the image.
    """
    return counts_to_runs(expand_counts(text), pixels=pixels)


def counts_to_runs(counts: np.ndarray, *, pixels: int | None = None) -> np.ndarray:
    """(N, 2) runs of alternating background and object counts, as COCO's uncompressed `counts` lists them."""
    counts = np.asarray(counts, dtype=np.int64)
    if (counts < 0).any():
        raise IllegalRuns("holds a negative count")
    if pixels is not None and counts.sum() != pixels:
        raise IllegalRuns("does not cover the image", f"{counts.sum()} pixels, expected {pixels}")
    ends = np.cumsum(counts)
    runs = np.stack([(ends - counts)[1::2], counts[1::2]], axis=1)
    return runs[runs[:, 1] > 0]


def compress_counts(counts: np.ndarray) -> str:
    """COCO's text of alternating background and object counts (maskApi's `rleToString`).

    From the fourth on a count is written as its difference to the one two before; each number in five-bit groups,
    lowest first, one a character.
    """
    rest = np.array(counts, dtype=np.int64)
    if len(rest) > 3:
        rest[3:] -= np.asarray(counts, dtype=np.int64)[1:-2]
    alive = np.ones(len(rest), dtype=bool)
    characters, used = [], []
    while alive.any():
        group = rest & (_MORE - 1)
        rest = rest >> _BITS
        more = np.where(group & _SIGN, rest != -1, rest != 0)
        characters.append(group + more * _MORE + _FIRST)
        used.append(alive)
        alive = alive & more
    if not characters:
        return ""
    return np.stack(characters, axis=1)[np.stack(used, axis=1)].astype(np.uint8).tobytes().decode("ascii")


def expand_counts(text: str) -> np.ndarray:
    """(N,) int64 counts of COCO's compressed text.

    Raises:
        IllegalRuns: a character that the text cannot hold, a last number that is cut off, or a negative count.
    """
    try:
        codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - _FIRST
    except UnicodeEncodeError:
        codes = np.array([-1])
    if ((codes < 0) | (codes >= 2 * _MORE)).any():
        raise IllegalRuns("holds a character that COCO's compressed counts do not have")
    if not len(codes):
        return np.zeros(0, np.int64)
    last = (codes & _MORE) == 0
    if not last[-1]:
        raise IllegalRuns("is cut off")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if place.max() * _BITS > 60:
        raise IllegalRuns("holds a count that no image has")
    counts = np.add.reduceat((codes & (_MORE - 1)) << (_BITS * place), starts)
    counts -= np.where(codes[ends] & _SIGN, np.int64(1) << (_BITS * (place[ends] + 1)), 0)
    for first in (1, 2):  # undo the differences along every second count
        counts[first::2] = np.cumsum(counts[first::2])
    if (counts < 0).any():
        raise IllegalRuns("holds a negative count")
    return counts


def _flat(mask: np.ndarray, order: Order) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"expected a mask of (height, width), found shape {mask.shape}")
    return mask.astype(bool).ravel(order="F" if order == "column" else "C")
