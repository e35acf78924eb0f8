"""What the readers of captions answer, and how it is settled: cleaned, without empty and repeated ones, reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from src.annotations.reading import Reports
from src.captions.cleaning import clean_caption
from src.errors import ProjectError


@dataclass
class CaptionReading:
    """Captions by image id, as the files have them: (text, where it is written) pairs, in the files' order."""

    texts: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    reports: Reports = field(default_factory=Reports)

    def add(self, identifier: str, text: str, source: str) -> None:
        self.texts.setdefault(identifier, []).append((text, source))


def add_value(reading: CaptionReading, identifier: str, value: Any, source: str, key: str) -> None:
    """Add what a JSON file has for a caption: a text, null, or a list of these; `key` is its key, for messages.

    Raises:
        ProjectError: it is an object, whose text has a key of its own.
    """
    if isinstance(value, list):
        for item in value:
            add_value(reading, identifier, item, source, key)
    elif isinstance(value, str):
        reading.add(identifier, value, source)
    elif value is None or value != value:  # json reads NaN, which pandas writes
        reading.add(identifier, "", source)
    elif isinstance(value, dict):
        inner = f"{key}.{next(iter(value), 'text')}"
        raise ProjectError(f"{source}: '{key}' is an object, expected a text. Name the key of the text, as in {inner}.")
    else:
        reading.reports.add(source, identifier, f"the caption is no text but {value!r:.60}", "set aside")


def settle(reading: CaptionReading, ids: Sequence[str]) -> list[list[str]]:
    """The captions of each of `ids`, cleaned and all different; what was changed or set aside goes to the reports."""
    return [_settled(reading, identifier) for identifier in ids]


def _settled(reading: CaptionReading, identifier: str) -> list[str]:
    kept: dict[str, str] = {}
    for raw, source in reading.texts.get(identifier, ()):
        text, problems = clean_caption(raw)
        if not text:
            shown = f" ('{raw.strip()}')" if raw.strip() else ""
            reading.reports.add(source, identifier, f"the caption is empty{shown}", "set aside")
        elif text in kept:
            reading.reports.add(source, identifier, f"the same caption as in {kept[text]}", "set aside")
        else:
            kept[text] = source
            if problems:
                action = "cleaned" if text != raw else "left as it is"
                reading.reports.add(source, identifier, f"the caption has {', '.join(problems)}", action)
    return list(kept)
