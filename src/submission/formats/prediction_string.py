"""`prediction_string`: all boxes of an image as tokens in one cell, in the variants that competitions ask for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NoReturn

import numpy as np

from src.boxes.types import Detections
from src.errors import ProjectError
from src.submission.formats import options as opt
from src.submission.formats.base import NUMBER, BadCell, Context, Format, Row, shortest
from src.submission.formats.boxes import CONVENTIONS, from_convention, kept, on_grid, to_convention, unit_of

_PLAIN = frozenset("0123456789+-.eE")  # of numbers; float() alone would take "1_0", "nan" and "inf" too


class PredictionString(Format):
    """Tokens of one box after another, best box first; `empty` where nothing is found.

    Boxes without area are left out by the writer, since they match nothing and graders refuse them; boxes that reach
    over the edge are clipped to the image where its size is known. A box with the label of `empty` (VinBigData's 14,
    SIIM's none), which stands for "nothing here", is legal to read and is no detection.
    """

    name = "prediction_string"
    empty = "no row has a box"
    options = {
        "order": opt.words("label", "score", *dict.fromkeys(t for tokens in CONVENTIONS.values() for t in tokens)),
        "box": opt.choice(None, *CONVENTIONS),
        "separator": opt.text(" ", empty=False),
        "box_separator": opt.text(None, empty=False),  # None: as the separator
        "trailing_space": opt.flag(False),
        "empty": opt.text(""),
        "labels": opt.label_texts(),
        "normalized": opt.flag(False),
        "decimals": opt.whole(None, 0),  # of coordinates; None: as many as they need, which scores always have
        "integer": opt.flag(False),
        "max_boxes": opt.whole(None, 1),
        "min_score": opt.share(0.0),
    }

    def check(self, options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]) -> dict[str, Any]:
        given = super().check(options, fail)
        order, box = given.get("order"), given.get("box")
        if order is not None:
            fitting = [name for name, tokens in CONVENTIONS.items() if set(order) - {"label", "score"} == set(tokens)]
            if not fitting:
                sets = "; ".join(", ".join(tokens) for tokens in CONVENTIONS.values())
                fail("options.order", f"its coordinates must be one of these sets: {sets}.")
            if box not in (None, *fitting):
                fail("options.box", f"{box} is not what options.order lists ({fitting[0]}). Remove one of them.")
        if given.get("integer") and given.get("decimals"):
            fail("options.integer", "whole numbers have no decimals. Remove options.decimals.")
        return given

    def write(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> list[Row]:
        separator, between = _separators(context)
        context.labels.refuse_inside([separator, between])
        if "label" not in _order(context) and len(context.classes) > 1:
            raise ProjectError("submission.options.order: it has no label, and the competition has several classes.")
        parts = [_placed(name, value, context) for name, value in zip(ids, values, strict=True)]
        scores = iter(shortest(np.concatenate([found.scores for found, _ in parts] or [np.zeros(0)])))
        numbers = iter(_texts(np.concatenate([boxes for _, boxes in parts] or [np.zeros((0, 4))]), context))
        return [
            Row((name,), (_cell(found, scores, numbers, context),))
            for name, (found, _) in zip(ids, parts, strict=True)
        ]

    def read(self, text: str, context: Context, image_id: str | None = None) -> Detections:
        empty = context.option("empty")
        if text == empty:
            return Detections.empty()
        if not text.strip():
            return _refuse_blank(text, empty)
        rows = _token_rows(text, context)
        order = _order(context)
        numeric = [place for place, token in enumerate(order) if token != "label"]
        numbers = _numbers([[row[place] for place in numeric] for row in rows])
        table = dict(zip([order[place] for place in numeric], numbers.T, strict=True))
        scores = table.get("score", np.ones(len(rows)))
        _check_whole(rows, order, context)
        none_label = _label_of_empty(context)
        labels = []
        for number, row in enumerate(rows, 1):
            label = row[order.index("label")] if "label" in order else None
            labels.append(-1 if label is not None and label == none_label else _label(label, number, context))
        found = np.array(labels, dtype=np.int64) >= 0
        _refuse(rows, (scores < 0) | (scores > 1), "has a score outside [0, 1]", "Write probabilities, not percent.")
        boxes = _boxes(rows, table, found, context, image_id)
        limit = context.option("max_boxes")
        if limit is not None and len(rows) > limit:
            raise BadCell(f"has more than {limit} boxes", "Keep the best by score.", f"{len(rows)} boxes")
        return Detections(boxes[found], scores[found], np.array(labels, dtype=np.int64)[found])

    def collect(self, rows: Sequence[tuple[int | None, list[Any]]], image_id: str, context: Context) -> Detections:
        unit_of(image_id, context)  # refuses normalised boxes that have not become pixels
        return super().collect(rows, image_id, context)

    def expected(self, context: Context) -> str:
        separator, between = _separators(context)
        one = separator.join(_order(context))
        end = " and a space at the end" if context.option("trailing_space") else ""
        joined = "one box after another" if between == separator else f"boxes separated by {between!r}"
        return f"'{one}', {joined}{end}, or {context.option('empty')!r} where nothing is found"


def _order(context: Context) -> list[str]:
    order = context.option("order")
    return list(order) if order else ["label", "score", *CONVENTIONS[context.option("box") or "xyxy"]]


def _convention(context: Context) -> str:
    given = set(_order(context))
    return next(name for name, tokens in CONVENTIONS.items() if given >= set(tokens))


def _separators(context: Context) -> tuple[str, str]:
    separator = context.option("separator")
    return separator, context.option("box_separator") or separator


def _decimals(context: Context) -> int | None:
    return 0 if context.option("integer") else context.option("decimals")


def _label_of_empty(context: Context) -> str | None:
    """The label that means "nothing here", where `empty` is itself a box of a label that is no class."""
    order, tokens = _order(context), context.option("empty").strip().split(_separators(context)[0])
    if "label" not in order or len(tokens) != len(order):
        return None
    label = tokens[order.index("label")]
    return None if label in (context.labels.texts or ()) else label


def _placed(image_id: str, value: Any, context: Context) -> tuple[Detections, np.ndarray]:
    """The detections that are written, and the (N, 4) numbers of their boxes."""
    found, boxes = on_grid(
        kept(image_id, value, context),
        unit_of(image_id, context),
        _decimals(context),
        limit=context.option("max_boxes"),
    )
    return found, to_convention(boxes, _convention(context))


def _texts(boxes: np.ndarray, context: Context) -> list[str]:
    """The texts of all coordinates, box by box."""
    decimals, flat = _decimals(context), boxes.ravel()
    return shortest(flat) if decimals is None else [f"{number:.{decimals}f}" for number in flat.tolist()]


def _cell(found: Detections, scores: Iterator[str], numbers: Iterator[str], context: Context) -> str:
    """The cell of an image; its boxes take the next texts of scores and coordinates."""
    if not len(found):
        return context.option("empty")
    names = [*(("label",) if "label" in _order(context) else ()), "score", *CONVENTIONS[_convention(context)]]
    places = [names.index(token) for token in _order(context)]
    separator, between = _separators(context)
    rows = []
    for label in found.labels.tolist():
        text = (context.labels.text(label),) if "label" in names else ()
        tokens = (*text, next(scores), *islice(numbers, 4))
        rows.append(separator.join([tokens[place] for place in places]))
    return between.join(rows) + (" " if context.option("trailing_space") else "")


def _refuse_blank(text: str, empty: str) -> NoReturn:
    if empty.strip():
        raise BadCell("is empty", f"Where nothing is found, write {empty!r}.")
    raise BadCell("is blank in another way than expected", f"Where nothing is found, write {empty!r}.")


def _token_rows(text: str, context: Context) -> list[list[str]]:
    """The tokens of each box."""
    separator, between = _separators(context)
    order = _order(context)
    if context.option("trailing_space"):
        if not text.endswith(" "):
            raise BadCell("has no space at the end", "Write a space after every token, the last one too.")
        if text.endswith("  "):
            raise BadCell("ends with several spaces", "Write one.")
        text = text[:-1]
    elif text.endswith(" "):
        raise BadCell("ends with a space", "Strip it: df[column] = df[column].str.strip().")
    if text.startswith(" "):
        raise BadCell("begins with a space", "Strip it: df[column] = df[column].str.strip().")
    if separator * 2 in text:
        at = max(text.index(separator * 2) - 10, 0)
        what = "two spaces" if separator == " " else f"{separator!r} twice"
        raise BadCell(f"has {what} in a row", f"Put one {separator!r} between tokens.", repr(text[at : at + 24]))
    for mark in ",;\t ":
        if mark in text and mark not in separator + between and separator not in text:
            raise BadCell(f"separates tokens by {mark!r}", f"Separate them by {separator!r}.")
    if between != separator:
        rows = [part.split(separator) for part in text.split(between)]
        odd = next((row for row in rows if len(row) != len(order)), None)
        if odd is not None:
            kind = f"has a box of other than {len(order)} tokens"
            raise BadCell(kind, "Write every token of every box.", repr(separator.join(odd)))
        return rows
    tokens = text.split(separator)
    if len(tokens) % len(order):
        kind = f"does not have a multiple of {len(order)} tokens"
        raise BadCell(kind, "Write every token of every box.", f"{len(tokens)} tokens, {text[:40]!r}")
    return [tokens[at : at + len(order)] for at in range(0, len(tokens), len(order))]


def _numbers(rows: list[list[str]]) -> np.ndarray:
    """(boxes, numeric tokens) float64."""
    flat = [token for row in rows for token in row]
    if _PLAIN.issuperset("".join(flat)):
        try:
            numbers = np.array([float(token) for token in flat])
        except ValueError:
            numbers = None
        if numbers is not None and np.isfinite(numbers).all():
            return numbers.reshape(len(rows), -1)
    for number, row in enumerate(rows, 1):
        for token in row:
            if token.lower().lstrip("+-") in ("nan", "inf", "infinity"):
                raise BadCell("holds NaN or infinity", "Leave such boxes out.", f"box {number}: '{token}'")
            if "," in token:
                remedy = "Write numbers with a decimal point, and the separator of the format between tokens."
                raise BadCell("has a comma among its numbers", remedy, f"box {number}: '{token}'")
            if not NUMBER.fullmatch(token):
                raise BadCell("holds a token that is not a number", "Check the order of the tokens.", f"'{token}'")
            if not np.isfinite(float(token)):
                raise BadCell("holds a number too large for a float", "Leave such boxes out.", f"'{token}'")
    raise AssertionError("unreachable: every token is a finite number")


def _check_whole(rows: list[list[str]], order: list[str], context: Context) -> None:
    if _decimals(context) != 0:
        return
    for row in rows:
        for name, token in zip(order, row, strict=True):
            if name not in ("label", "score") and not token.lstrip("+-").isdigit():
                raise BadCell("has coordinates that are not whole numbers", "Round them.", f"'{token}'")


def _label(text: str | None, number: int, context: Context) -> int:
    if text is None:
        return 0
    try:
        return context.labels.index(text)
    except BadCell as error:
        raise BadCell(error.kind, error.remedy, f"box {number}: {error.found}") from None


def _refuse(rows: list[list[str]], bad: np.ndarray, kind: str, remedy: str) -> None:
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise BadCell(kind, remedy, f"box {at + 1}: '{' '.join(rows[at])}'")


def _boxes(
    rows: list[list[str]], table: dict[str, np.ndarray], found: np.ndarray, context: Context, image_id: str | None
) -> np.ndarray:
    """(N, 4) xyxy, in pixels where the file's numbers can be turned into them."""
    convention = _convention(context)
    given = np.stack([table[name] for name in CONVENTIONS[convention]], axis=1)
    boxes = from_convention(given, convention)
    flat = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    if convention == "xyxy":
        _refuse(rows, flat, "has a box with x2 ≤ x1 or y2 ≤ y1", "Write two corners, not width and height.")
    else:
        _refuse(rows, flat, "has a box whose width or height is not positive", "Leave such boxes out.")
    normalized = context.option("normalized")
    size = context.sizes.get(image_id) if image_id is not None else None
    limits = np.ones(2) if normalized else None if size is None else np.array(size, dtype=np.float64)
    decimals = _decimals(context)
    slack = max(0.0 if decimals is None else 0.501 * 10.0**-decimals, 1e-5 if normalized else 0.01)
    remedy = "Clip them to the image, and check that they are " + (
        "divided by its width and height." if normalized else "pixels of the original image, not of a resized one."
    )
    _refuse(rows, found & (boxes < -slack).any(axis=1), "has boxes outside the image (negative coordinates)", remedy)
    if limits is not None:
        beyond = (boxes[:, 2:] > limits + slack).any(axis=1)
        _refuse(rows, found & beyond, "has boxes outside the image (beyond its size)", remedy)
    if normalized and size is not None:
        boxes = boxes * np.array([*size, *size], dtype=np.float64)
    return boxes
