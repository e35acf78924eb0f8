"""Pieces of a question made whole: English words, unknown words, slips of the keyboard."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from src.lexicon.entries import lexicon
from src.lexicon.hangul import from_keystrokes
from src.lexicon.names import english_entry
from src.lexicon.segment import Token
from src.lexicon.slips import correct

ENGLISH_WORDS = {
    "count": "how many count number much total",
    "find": "where find show detect locate mark point highlight",
    "exists": "is are there any exist exists does do have has can see visible",
    "list": "what which list",
    "scene": "picture photo image photograph scene",
    "": "the a an in on at of this that these those me i you please it and or with to all for up tell us let s",
}


def english_words(tokens: list[Token]) -> list[Token]:
    """English words of a question as tokens: function words marked, neighbouring nouns joined ("traffic lights")."""
    out: list[Token] = []
    for token in tokens:
        tag = _english_tags().get(token.text.lower()) if token.kind == "E" else None
        if tag is not None:
            out.append(replace(token, kind="F", tag=tag))
        elif token.kind == "E" and out and out[-1].kind == "E" and out[-1].end == token.start:
            out[-1] = replace(out[-1], text=f"{out[-1].text} {token.text}", end=token.end)
        else:
            out.append(token)
    return out


@lru_cache(maxsize=1)
def _english_tags() -> dict[str, str]:
    return {word: tag for tag, words in ENGLISH_WORDS.items() for word in words.split()}


def merge_unknown(tokens: list[Token]) -> list[Token]:
    """Join unknown syllables to words; known pieces inside an unknown word join it unless they end it (초코머핀)."""
    out: list[Token] = []
    for token in tokens:
        last = out[-1] if out else None
        glued = last is not None and not token.spaced and last.end == token.start
        if token.kind == "U" and glued and last.kind in ("U", "N"):
            out[-1] = Token("U", last.text + token.text, last.start, token.end, spaced=last.spaced)
        else:
            out.append(token)
    return out


def mend(tokens: list[Token]) -> tuple[list[Token], list[tuple[str, str]]]:
    """Replace slips of the keyboard by the known word they are near to; English letters may be Hangul keys."""
    corrections: list[tuple[str, str]] = []
    out: list[Token] = []
    skip = 0
    for index, token in enumerate(tokens):
        if skip:
            skip -= 1
            continue
        if token.kind == "E" and " " not in token.text and english_entry(token.text) is None:
            typed = from_keystrokes(token.text)
            if typed and typed in lexicon().korean:
                corrections.append((token.text, typed))
                out.append(_known(token, typed, token.end))
                continue
        if token.kind == "U":
            mended = _mended(tokens, index)
            if mended:
                word, length, before = mended
                corrections.append(("".join(t.text for t in tokens[index : index + length]), word))
                out.append(_known(token, word, tokens[index + length - 1].end))
                skip = length - 1
                continue
        out.append(token)
    return out, corrections


def _mended(tokens: list[Token], index: int) -> tuple[str, int, float] | None:
    """(word, pieces used, cost) of the best correction of the unknown word at index, alone or with what is glued to
    it."""
    best = None
    word = ""
    for length in (1, 2, 3):
        if index + length > len(tokens):
            break
        token = tokens[index + length - 1]
        if length > 1 and (token.spaced or token.kind not in ("N", "J", "U")):
            break
        word += token.text
        after = tokens[index + length] if index + length < len(tokens) else None
        if after is not None and after.kind == "N" and not after.spaced:
            # the first half of a compound is more often a word of its own (초코머핀)
            continue
        found = correct(word)
        if found and (best is None or found[1] < best[2]):
            best = (found[0], length, found[1])
    return best


def _known(token: Token, word: str, end: int) -> Token:
    return Token("N", word, token.start, end, "mended", None, token.spaced, lexicon().korean[word])
