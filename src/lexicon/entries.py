"""The lexicon's rows: what a Korean noun is called in English, how it is counted, what it is a kind of.

The rows stand in data/<category>.tsv, one subject a file, written for this project. Columns: korean (the lemma),
english (terms for a detector, the first is used in prompts, the rest are read too), synonyms, counters (the first is
the usual one), broader (the English term of the row that this is a kind of). categories.tsv names the subjects;
homographs.tsv says which words have several meanings and what around them tells which; english.tsv says which row an
English term belongs to when two rows list it. To extend the lexicon, add a row to the file of its subject.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from src.errors import ProjectError

DATA = Path(__file__).with_name("data")
COLUMNS = ("korean", "english", "synonyms", "counters", "broader")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing: its Korean lemma, English terms (best first), synonyms, counters, subject and what it is a kind of."""

    korean: str
    english: tuple[str, ...]
    synonyms: tuple[str, ...]
    counters: tuple[str, ...]
    broader: str
    category: str


@dataclass(frozen=True, slots=True)
class Sense:
    """One meaning of a word that has several; `entry` is None where nothing visible is meant (말: speech)."""

    word: str
    entry: Entry | None
    meaning: str
    cues: tuple[str, ...]
    counters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """A subject: its file's stem, Korean name, and the English word that stands for all of it ("" where none does)."""

    name: str
    korean: str
    word: str
    counter: str


@dataclass(frozen=True, slots=True)
class Lexicon:
    """All rows and the ways to them. Korean keys have no spaces; English keys are as `english_key` makes them."""

    entries: tuple[Entry, ...]
    korean: dict[str, tuple[Entry, ...]]
    english: dict[str, Entry]
    senses: dict[str, tuple[Sense, ...]]
    categories: dict[str, Category]
    spellings: dict[str, str] = field(repr=False)


def korean_key(text: str) -> str:
    """A Korean name as it is looked up: composed (NFC), without spaces, underscores, hyphens or dots; Latin in lower
    case."""
    key = text.replace(" ", "").lower()
    if key.isalnum() and unicodedata.is_normalized("NFC", key):
        return key
    return re.sub(r"[\s_\-·.]+", "", unicodedata.normalize("NFC", text)).lower()


def english_key(text: str) -> str:
    """An English name as it is looked up: lower case, words apart, notes in brackets dropped ("mouse_(computer)")."""
    text = re.sub(r"\([^)]*\)", " ", unicodedata.normalize("NFC", text).replace("_", " "))
    return " ".join(text.lower().split())


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """The lexicon, read once.

    Raises:
        ProjectError: a row is malformed or refers to one that is not there; the message names the file and the row.
    """
    categories = {row[0]: Category(*row) for _, row in read_rows(DATA / "categories.tsv", 4)}
    entries: list[Entry] = []
    for name in categories:
        path = DATA / f"{name}.tsv"
        for number, (korean, english, synonyms, counters, broader) in read_rows(path, len(COLUMNS)):
            if not korean or not english:
                raise ProjectError(f"{path.name}, row {number}: a row needs both a Korean and an English term")
            entries.append(
                Entry(korean, _split(english, ";"), _split(synonyms, ","), _split(counters, ","), broader, name)
            )
    korean, spellings = _korean_index(entries)
    english = _english_index(entries)
    return Lexicon(tuple(entries), korean, english, _senses(korean), categories, spellings)


def read_rows(path: Path, columns: int) -> list[tuple[int, list[str]]]:
    """(row number, cells) of a TSV with a header line; empty lines and lines that begin with # are skipped.

    Raises:
        ProjectError: a row has another number of cells than `columns`.
    """
    rows, header = [], True
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line[0] == "#":
            continue
        if header:
            header = False
            continue
        cells = line.split("\t")
        if len(cells) != columns:
            raise ProjectError(f"{path.name}, row {number}: expected {columns} cells between tabs, found {len(cells)}")
        rows.append((number, cells))
    return rows


def _split(text: str, separator: str) -> tuple[str, ...]:
    return tuple(text.split(separator)) if text else ()


def _korean_index(entries: list[Entry]) -> tuple[dict[str, tuple[Entry, ...]], dict[str, str]]:
    index: dict[str, tuple[Entry, ...]] = {}
    spellings: dict[str, str] = {}
    for entry in entries:
        for word in (entry.korean, *entry.synonyms):
            key = korean_key(word)
            index[key] = (*index.get(key, ()), entry)
            spellings.setdefault(key, word)
    return index, spellings


def _english_index(entries: list[Entry]) -> dict[str, Entry]:
    lemmas = {entry.korean: entry for entry in entries}
    # the first term of a row outranks a further term of another; english.tsv settles the rest
    index = {english: lemmas[korean] for _, (english, korean) in read_rows(DATA / "english.tsv", 2)}
    for entry in entries:
        index.setdefault(entry.english[0], entry)
    for entry in entries:
        for term in entry.english[1:]:
            index.setdefault(term, entry)
    return index


def _senses(korean: dict[str, tuple[Entry, ...]]) -> dict[str, tuple[Sense, ...]]:
    senses: dict[str, tuple[Sense, ...]] = {}
    path = DATA / "homographs.tsv"
    for number, (word, english, meaning, cues, counters) in read_rows(path, 5):
        entry = None
        if english != "-":
            entry = next((e for e in korean.get(word, ()) if e.english[0] == english), None)
            if entry is None:
                raise ProjectError(f"{path.name}, row {number}: no row of the lexicon has {word} as '{english}'")
        own = _split(counters, ",") or (entry.counters if entry else ())
        sense = Sense(word, entry, meaning or (entry.korean if entry else ""), _split(cues, ","), own)
        senses[word] = (*senses.get(word, ()), sense)
    return senses
