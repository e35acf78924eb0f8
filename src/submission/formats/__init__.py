"""Submission grammars: how predictions become a file, and how its cells are read back.

A new one is a subclass of Format (of WholeFile where it is no table) and a name in FORMATS.
"""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from src.errors import nearest
from src.submission.formats.base import BadCell, Context, Format
from src.submission.formats.captions import Caption
from src.submission.formats.captions_json import CaptionJsonl, CocoCaptions
from src.submission.formats.class_label import ClassLabel
from src.submission.formats.coco import Coco
from src.submission.formats.counts import Count, CountLong, Counts
from src.submission.formats.map_folder import MapFolder
from src.submission.formats.masks import Rle
from src.submission.formats.prediction_string import PredictionString
from src.submission.formats.scores import Label, Score

__all__ = [
    "FORMATS",
    "BadCell",
    "Context",
    "Format",
    "check_columns",
    "check_options",
    "check_together",
    "sample_ids",
    "write_submission",
]

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        *(Score(), Label(), ClassLabel()),
        *(PredictionString(), Coco(), Counts(), Count(), CountLong(), Rle(), MapFolder()),
        *(Caption(), CocoCaptions(), CaptionJsonl()),
    )
}


def check_options(form: str, options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]) -> dict[str, Any]:
    """The given `submission.options` of a format; null counts as not given.

    `fail(key, problem)` raises for an unknown option, one of another type, or two that contradict; the key is
    relative to `submission`, as in "options.order".
    """
    return FORMATS[form].check(options, fail)


def check_columns(form: str, columns: Mapping[str, str], fail: Callable[[str, str], NoReturn]) -> None:
    """Hold the keys of `submission.columns` against the roles of the format's columns.

    `fail(key, problem)` raises for a role that is missing or unknown and for a header that is given twice. The format
    `counts` takes class names besides; `write_submission` and the validator hold those against the classes.
    """
    grammar = FORMATS[form]
    for role in grammar.roles:
        if role not in columns:
            fail("columns", f"the format '{form}' needs '{role}'. As in columns: {{{role}: {role}}}.")
    known = (*grammar.roles, *grammar.optional_roles)
    for role in columns:
        if role not in known and not grammar.named_columns:
            listing = f"Its columns: {', '.join(known)}." if known else "It has none."
            fail(f"columns.{role}", f"the format '{form}' has no such column.{nearest(role, known)} {listing}")
    headers = list(columns.values())
    for header in headers:
        if headers.count(header) > 1:
            fail("columns", f"two columns are called '{header}'. Give each its own name.")


def check_together(
    form: str, columns: Mapping[str, str], options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]
) -> None:
    """Whether checked columns and options fit one another; `fail(key, problem)` raises."""
    FORMATS[form].check_together(columns, options, fail)


from src.submission.formats.table import sample_ids, write_submission  # noqa: E402  (it reads FORMATS)
