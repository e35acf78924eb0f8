"""Class names between Korean and English: a competition's classes for a detector, a detector's classes for a reader."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from src.lexicon.entries import Entry, english_key, korean_key, lexicon
from src.lexicon.senses import senses_of

HANGUL = re.compile(r"[가-힣]")


def english_entry(name: str) -> Entry | None:
    """The row of an English name: as written, in the singular, or in the plural; brackets and underscores do not count.

    A name of alternatives ("Cabinet/shelf") is that of its first known alternative; "Other Shoes" is that of shoes.
    """
    index = lexicon().english
    for alternative in (name, *re.split(r"[/,(]", name)):
        key = english_key(alternative)
        for prefix in ("", "other "):
            if key.startswith(prefix):
                for form in _numbers(key.removeprefix(prefix)):
                    if form in index:
                        return index[form]
    return None


def _numbers(key: str) -> list[str]:
    """A name, its singular forms and its plural."""
    out = [key, key.replace("-", " ")]
    if key.endswith("ies"):
        out.append(key[:-3] + "y")
    if key.endswith("ves"):
        out += [key[:-3] + "f", key[:-3] + "fe"]
    if key.endswith("es"):
        out.append(key[:-2])
    if key.endswith("s") and not key.endswith("ss"):
        out.append(key[:-1])
    if key.endswith("men"):
        out.append(key[:-2] + "an")
    return [*out, key + "s"]


def korean_of(english: str) -> str | None:
    """The Korean name of an English class name ("tennis racket": 테니스 라켓), None where the lexicon has none."""
    entry = english_entry(english)
    return entry.korean if entry else None


def english_of(name: str, *, among: Sequence[str] = ()) -> list[str]:
    """The English terms of a class name, best first; [] for a Korean name that the lexicon does not know.

    An English name comes back as itself, spelled as a prompt (lower case, no underscores, no bracketed notes), followed
    by the other terms of its row. A Korean name may have attributes ("빨간 사과": "red apple"). Of a name with several
    meanings the likeliest is taken; `among`, the other class names of the competition, decides by their subjects (배
    among 사과 and 포도 is a pear).
    """
    if not HANGUL.search(name):
        key = english_key(name)
        entry = english_entry(name)
        return [key, *(term for term in (entry.english if entry else ()) if term != key)] if key else []
    rows = [sense.entry for sense in senses_of(korean_key(name)) if sense.entry is not None]
    if rows:
        subjects = Counter(entry.category for other in among if other != name for entry in _rows(other))
        return list(max(rows, key=lambda entry: subjects[entry.category]).english)
    from src.lexicon.query import parse_query

    targets = parse_query(name).targets
    known = len(targets) == 1 and targets[0].source in ("lexicon", "compound", "english")
    return list(targets[0].english) if known else []


def _rows(name: str) -> tuple[Entry, ...]:
    """The rows a class name may mean; () where it has several meanings, which settle nothing."""
    if HANGUL.search(name):
        found = lexicon().korean.get(korean_key(name), ())
        return found if len(found) == 1 else ()
    entry = english_entry(name)
    return (entry,) if entry else ()
