"""Morphemes of captions and their joining, by the process's one morphological analyser of Korean."""

from collections.abc import Sequence
from typing import Any

from src.captions.tokenizers import shared_kiwi


def analyse(texts: Sequence[str]) -> list[list[Any]]:
    """Morphemes (kiwipiepy.Token: form, tag, start, len in characters) of each text."""
    return list(shared_kiwi().tokenize(list(texts)))


def joined(morphemes: Sequence[tuple[str, str]]) -> str:
    """The text that (form, tag) morphemes are written as, contractions and irregular stems applied."""
    return shared_kiwi().join(list(morphemes))


def respaced(texts: Sequence[str]) -> list[str]:
    """Texts with spaces where Korean orthography has them, by the analyser's language model."""
    return list(shared_kiwi().space(list(texts)))
