"""`caption`: one sentence an image in a CSV; and what every format holds a sentence against."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from src.captions.cleaning import clean_caption, is_nothing
from src.captions.degenerate import is_korean, problems_of
from src.errors import ProjectError
from src.submission.formats.base import NUMBER, BadCell, Context, Format, Row
from src.submission.formats.options import Option
from src.tables import read_header

_MARK = re.compile(  # what tokenizers put around and instead of words; all of it is "unknown" to `problems_of`
    r"</?(?:unk|pad|s|bos|eos|cls|sep|mask|image)>|<extra_id_\d+>|<\|[^<>|]{1,30}\|>"
    r"|\[(?:unk|pad|cls|sep|mask|bos|eos)\]|[▁⁇]",
    re.IGNORECASE,
)
_LIST = re.compile(r"""\[\s*(['"]).*\1\s*,?\s*\]""")


def read_caption(text: str) -> str:
    """The caption, as it stands.

    Raises:
        BadCell: it is empty or missing, breaks the line, is not composed Unicode, holds marks of a tokenizer or a
            broken character, or is a list.
    """
    if not text.strip():
        raise BadCell("is empty", "Every image needs a sentence; a grader takes an empty one as missing")
    if is_nothing(text):
        raise BadCell("is missing (NaN)", "Every image needs a sentence: df[column].isna() names the rows")
    if any(sign == "\ufffd" or "\ud800" <= sign <= "\udfff" for sign in text):
        remedy = "Such signs stand for bytes that are no character. Read and write every file as UTF-8"
        raise BadCell("holds a broken character", remedy, ascii(text[:40]))
    cleaned, problems = clean_caption(text)
    if "line break or tab" in problems or "control character" in problems:
        kind = "holds a line break or a tab" if "line break or tab" in problems else "holds a control character"
        raise BadCell(kind, "Many graders read by lines. Write each sentence on one: ' '.join(text.split())")
    if "not NFC" in problems:
        remedy = (
            "Letters that are spelled in parts (a syllable in jamo, as macOS does) look the same and match no word of "
            "a reference. Compose them: unicodedata.normalize('NFC', text)"
        )
        raise BadCell("is not composed Unicode (NFC)", remedy)
    mark = _MARK.search(text)
    if mark:
        remedy = "Decode with skip_special_tokens=True, and give the tokenizer the words that it lacks"
        raise BadCell("holds a mark of the tokenizer", remedy, f"'{mark[0]}' in {text[:40]!r}")
    if not cleaned:
        raise BadCell("is empty", "It holds nothing that can be seen. Every image needs a sentence")
    if _LIST.fullmatch(text.strip()):
        raise BadCell("is a list in brackets", "Write the best sentence alone: candidates[0]")
    return text


def written(name: str, value: Any) -> str:
    """The caption of the image `name` as it is written: cleaned, and such as `read_caption` takes.

    Raises:
        ProjectError: it is no text, or one that a grader would refuse.
    """
    if not isinstance(value, str):
        raise ProjectError(f"the caption of '{name}' is {type(value).__name__} ({value!r:.60}), expected a text.")
    try:
        return read_caption(clean_caption(value)[0])
    except BadCell as error:
        raise ProjectError(f"the caption of '{name}' {error.kind} ({value!r:.60}). {error.remedy}.") from None


def caption_doubts(captions: Mapping[str, str]) -> list[str]:
    """Warnings of captions (id → text) that a grader takes: degenerate ones, and one sentence for most images."""
    korean = 2 * sum(map(is_korean, captions.values())) > len(captions)
    faults: dict[str, list[str]] = {}
    for name, text in captions.items():
        for problem in problems_of(text, korean=korean):
            faults.setdefault(f"look degenerate ({problem})", []).append(name)
        for problem in clean_caption(text)[1]:
            if problem in ("invisible character", "odd space"):
                faults.setdefault(f"hold an {problem}", []).append(name)
    warnings = [
        f"{len(names)} of {len(captions)} captions {fault}: '{names[0]}' has {captions[names[0]][:40]!r}."
        for fault, names in faults.items()
    ]
    common = Counter(captions.values()).most_common(1)
    if common and len(captions) >= 10 and len(captions) / 2 <= common[0][1] < len(captions):
        text, count = common[0]
        warnings.append(f"one sentence stands for {count} of {len(captions)} images ({text[:60]!r}).")
    return warnings


class Caption(Format):
    """A sentence an image: `columns: {id: id, value: caption}`.

    `constants: {mos: 5.0}` names further columns that a grader asks for, and the cell that every row has there. The
    columns come in the sample submission's order; without a sample those of `columns`, then the constants.
    """

    name = "caption"
    options = {
        "constants": Option(
            None,
            "columns with the text or the number of every row, as in {mos: 5.0}",
            lambda value: isinstance(value, dict) and bool(value) and all(map(_is_constant, value.values())),
        )
    }

    def check_together(
        self, columns: Mapping[str, str], options: Mapping[str, Any], fail: Callable[[str, str], NoReturn]
    ) -> None:
        for name in options.get("constants", {}):
            if str(name) in columns.values():
                fail(f"options.constants.{name}", "submission.columns has a column of this name. Name each once.")

    def header(self, context: Context) -> list[str]:
        own = [*context.spec.columns.values(), *self._constants(context)]
        if context.spec.sample is None:
            return own
        sample = read_header(context.spec.sample)
        return sample if sorted(sample) == sorted(own) else own

    def value_columns(self, context: Context) -> list[str]:
        return [context.spec.columns["value"], *self._constants(context)]

    def readers(self, context: Context) -> list[Callable[[str, Context, str | None], Any]]:
        constants = self._constants(context).values()
        return [self.read, *(_any_text if isinstance(value, str) else _number for value in constants)]

    def write(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> list[Row]:
        constants = tuple(str(value) for value in self._constants(context).values())
        return [Row((name,), (written(name, value), *constants)) for name, value in zip(ids, values, strict=True)]

    def read(self, text: str, context: Context, image_id: str | None = None) -> str:
        return read_caption(text)

    def expected(self, context: Context) -> str:
        return "one sentence of composed Unicode on one line"

    def doubts(self, values: Mapping[str, Any], context: Context) -> list[str]:
        return caption_doubts(values)

    def _constants(self, context: Context) -> dict[str, str | int | float]:
        return {str(name): value for name, value in (context.option("constants") or {}).items()}


def _is_constant(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    )


def _any_text(text: str, context: Context, image_id: str | None = None) -> str:
    return text


def _number(text: str, context: Context, image_id: str | None = None) -> float:
    if not NUMBER.fullmatch(text.strip()) or not math.isfinite(float(text)):
        raise BadCell("is not a finite number", "Write what options.constants says, or another number")
    return float(text)
