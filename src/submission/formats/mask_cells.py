"""A mask as the text of a cell, and back: runs of "start length", COCO's compressed text, or that within JSON."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from src.boxes import run_length as rle
from src.submission.formats import options as opt
from src.submission.formats.base import BadCell, Context

OPTIONS = {
    "encoding": opt.choice("runs", "runs", "coco", "coco_json"),
    "order": opt.choice("column", "column", "row"),
    "index_base": opt.choice_of_numbers(1, 0, 1),
    "separator": opt.text(" ", empty=False),
    "pair_separator": opt.text(None, empty=False),
    "empty": opt.text(""),
}
_OF_RUNS = ("order", "index_base", "separator", "pair_separator")


def check_cells(options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]) -> None:
    """Options of runs are for runs, and may be given elsewhere as they are by default; `fail(key, problem)` raises."""
    encoding = options.get("encoding", "runs")
    if encoding != "runs":
        for key in _OF_RUNS:
            if options.get(key, OPTIONS[key].default) != OPTIONS[key].default:
                fail(f"options.{key}", f"encoding: {encoding} is always COCO's, down the columns. Remove the line.")


def write_cell(mask: np.ndarray, context: Context) -> str:
    """The text of a (height, width) mask; the option `empty` where no pixel is set."""
    if not mask.any():
        return context.option("empty")
    encoding = context.option("encoding")
    if encoding == "runs":
        runs = rle.mask_to_runs(mask, order=context.option("order"))
        pairs = context.option("pair_separator")
        if pairs is None:
            return rle.runs_to_text(runs, base=context.option("index_base"), separator=context.option("separator"))
        runs = runs + [context.option("index_base"), 0]
        return pairs.join(f"{start}{context.option('separator')}{length}" for start, length in runs.tolist())
    counts = rle.mask_to_coco(mask)
    return counts if encoding == "coco" else json.dumps({"size": list(mask.shape), "counts": counts})


def read_cell(text: str, context: Context, size: tuple[int, int] | None) -> np.ndarray:
    """(N, 2) runs of a cell, starts from 0, in the order that the options say; `size`: the image's, where known.

    Raises:
        BadCell: the grammar does not allow the text.
    """
    empty, encoding = context.option("empty"), context.option("encoding")
    if text == empty:
        return np.zeros((0, 2), np.int64)
    if not text.strip():
        raise BadCell("is empty", f"Where there is no mask, write {empty!r}.")
    pixels = None if size is None else size[0] * size[1]
    try:
        if encoding == "runs":
            return _read_runs(text, context, pixels)
        return rle.coco_to_runs(text, pixels=pixels) if encoding == "coco" else _read_json(text, size)
    except rle.IllegalRuns as error:
        at = f" in {text[:40]!r}" if len(text) > len(error.found) else ""
        remedy = "Write the runs as numpy finds them, unshifted." if encoding == "runs" else "Encode the mask anew."
        raise BadCell(error.kind, remedy, error.found + at) from None


def cell_in_words(context: Context) -> str:
    """What a cell holds, in words that follow "expected"."""
    separator, encoding = context.option("separator"), context.option("encoding")
    none = f"or {context.option('empty')!r} where there is no mask"
    if encoding == "coco":
        return f"COCO's compressed counts, as pycocotools.mask.encode makes them, {none}"
    if encoding == "coco_json":
        return f'{{"size": [height, width], "counts": …}} with COCO\'s compressed counts, {none}'
    way = "down the columns" if context.option("order") == "column" else "along the rows"
    between = context.option("pair_separator")
    pairs = "" if between is None else f", {between!r} between them"
    base = context.option("index_base")
    return f"ascending runs 'start{separator}length'{pairs}, pixels counted from {base} {way}, {none}"


def _read_runs(text: str, context: Context, pixels: int | None) -> np.ndarray:
    separator, between = context.option("separator"), context.option("pair_separator")
    if between is not None:
        pairs = text.split(between)
        wrong = [pair for pair in pairs if len(pair.split(separator)) != 2]
        if wrong:
            raise rle.IllegalRuns("has a pair that is not a start and a length", repr(wrong[0]))
        text = separator.join(pairs)
    return rle.runs_from_text(text, base=context.option("index_base"), separator=separator, pixels=pixels)


def _read_json(text: str, size: tuple[int, int] | None) -> np.ndarray:
    try:
        value = json.loads(text)
        height, width = (int(side) for side in value["size"])
        counts = value["counts"]
    except (ValueError, TypeError, KeyError) as error:
        remedy = 'Write json.dumps({"size": [height, width], "counts": …}).'
        raise BadCell("is not JSON with size and counts", remedy, f"{text[:40]!r}") from error
    if size is not None and (width, height) != tuple(size):
        raise rle.IllegalRuns("has another size than the image", f"{width}×{height}, expected {size[0]}×{size[1]}")
    pixels = width * height
    if isinstance(counts, str):
        return rle.coco_to_runs(counts, pixels=pixels)
    if isinstance(counts, list) and all(isinstance(count, int) and not isinstance(count, bool) for count in counts):
        return rle.counts_to_runs(np.array(counts, dtype=np.int64), pixels=pixels)
    raise BadCell("has counts that are neither a text nor a list of numbers", "Encode the mask anew.", f"{text[:40]!r}")
