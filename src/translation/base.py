"""What a translator is, which languages there are, and how a worthless answer is told from a translation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from src.errors import ProjectError, nearest

LANGUAGES = ("ko", "en")
_HANGUL = re.compile(r"[가-힣]")
_LETTER = re.compile(r"[^\W\d_]")


class RefusedTranslation(ProjectError):
    """No decoding gave a usable translation; the message names the texts."""


@runtime_checkable
class Translator(Protocol):
    """Translates between "ko" and "en". `name` tells engines apart in a cache and in a report."""

    name: str

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """One translation a text, in order.

        Raises:
            RefusedTranslation: a text has no usable translation.
            ProjectError: the engine cannot be reached or used.
        """
        ...

    def try_translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """The same, with None in place of a text that has no usable translation."""
        ...


def check_languages(source: str, target: str) -> None:
    """Raises ProjectError unless the two are different languages that translators here know."""
    for language in (source, target):
        if language not in LANGUAGES:
            raise ProjectError(f"translation knows ko and en, not {language!r}.{nearest(language, LANGUAGES)}")
    if source == target:
        raise ProjectError(f"translation from {source!r} to itself was asked for: give ko and en, or en and ko")


def degenerate(text: str, translation: str, target: str) -> str:
    """Why a translation is worthless, "" when it may stand.

    Sequence models fail in few ways, seen of NLLB on Korean words (fairseq issue 5440): punctuation alone (", , ,"), a
    word over and over, the source copied, the wrong script, a run of text from a single word.
    """
    answer = translation.strip()
    if not answer:
        return "empty"
    marks = sum(not (c.isalnum() or c.isspace()) for c in answer)
    letters = len(_LETTER.findall(answer))
    if not letters and any(c.isalpha() for c in text):
        return "no letters"
    if marks > max(2, letters):
        return "mostly punctuation"
    words = answer.lower().split()
    if len(words) >= 4 and max(words.count(word) for word in set(words)) > len(words) / 2:
        return "one word over and over"
    pairs = list(zip(words, words[1:], strict=False))
    if len(pairs) >= 6 and max(pairs.count(pair) for pair in set(pairs)) >= 3:
        return "the same words over and over"
    if target == "ko" and letters and not _HANGUL.search(answer):
        return "no Hangul in a Korean answer"
    if target == "en" and _HANGUL.search(answer):
        return "Hangul in an English answer"
    if len(answer) > 40 + 6 * len(text):
        return "far longer than the text"
    return ""


def refuse_missing(texts: Sequence[str], translations: Sequence[str | None], engine: str) -> list[str]:
    """The translations, all of which must be there.

    Raises:
        RefusedTranslation: some are None.
    """
    missing = [text for text, translation in zip(texts, translations, strict=True) if translation is None]
    if missing:
        shown = ", ".join(repr(text) for text in missing[:3])
        raise RefusedTranslation(
            f"{engine} gave no usable translation of {shown}{' and others' if len(missing) > 3 else ''} "
            f"({len(missing)} of {len(texts)}). Write it in other words, or use another translator."
        )
    return [translation for translation in translations if translation is not None]
