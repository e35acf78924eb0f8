"""Cuts a question into particles, numbers, nouns and the rest: the cheapest path over its syllables, spaces being soft.

A Viterbi search over positions and the kind of the last piece. Dictionary pieces are cheap, unknown syllables dear, and
what Korean forbids (a particle after nothing, a counter after no number) has no edge. Because a space is only a hint,
"강아지가몇마리야", "강아지가 몇 마리야" and "강 아 지 가 몇 마 리 야" are cut alike.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

from src.lexicon import grammar
from src.lexicon.entries import DATA, Entry, lexicon, read_rows
from src.lexicon.hangul import NIEUN, RIEUL, final_of, is_syllable, with_final

# one-syllable nouns that may end a compound (소방차, 야생새); others would be cut out of any unknown word
HEADS = frozenset("차새꽃빵집컵책칼문옷국떡공병통등판봉")
LONGEST = 10
NOMINAL = ("N", "U", "E")


@dataclass(slots=True)
class Token:
    """A piece of the question. kind: N known noun, U unknown, E English word, J particle, D number, C counter,
    A attribute, R attributive verb, F function word; X, a comma."""

    kind: str
    text: str
    start: int
    end: int
    tag: str = ""
    value: object = None
    spaced: bool = True
    entries: tuple[Entry, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Form:
    kind: str
    cost: float
    tag: str
    value: object = None
    breaks: frozenset[int] = frozenset()


@lru_cache(maxsize=1)
def forms() -> dict[str, tuple[Form, ...]]:
    """Every known piece by its spelling without spaces."""
    table: dict[str, list[Form]] = {}

    def add(word: str, form: Form) -> None:
        table.setdefault(word, []).append(form)

    words = lexicon()
    for key, spelling in words.spellings.items():
        n = len(key)
        cost = 1.7 if n == 1 else 1.0 if n == 2 else 0.9 if n == 3 else 0.8
        add(key, Form("N", cost, "", words.korean[key], _breaks(spelling)))
    for _, (korean, english, kind) in read_rows(DATA / "attributes.tsv", 3):
        key = korean.replace(" ", "")
        # a material or a colour that is a noun as well is cheap only before another noun (see _edge)
        add(key, Form("A", 0.9 if len(key) > 1 else 1.2, kind, english, _breaks(korean)))
    for word, (role, shape) in grammar.particles().items():
        add(word, Form("J", 0.2 if len(word) == 1 else 0.25, role, shape))
    for word, (number, bound) in grammar.numbers().items():
        add(word, Form("D", 0.4, "native" if bound else "whole", number))
    add("몇", Form("D", 0.2, "count"))
    for word, counter in grammar.counters({c for entry in words.entries for c in entry.counters}).items():
        add(word, Form("C", 0.2, "contracted" if word != counter else "", counter))
    for word, found in grammar.functions().items():
        for kind, cost, tag in found:
            add(word, Form(kind, cost, tag))
    return {word: tuple(found) for word, found in table.items()}


def _breaks(spelling: str) -> frozenset[int]:
    """Where the usual spelling has spaces, as offsets into the word without them."""
    offsets, n = set(), 0
    for character in spelling:
        if character == " ":
            offsets.add(n)
        else:
            n += 1
    return frozenset(offsets)


@dataclass(slots=True)
class Units:
    """A question as units: one Hangul syllable, or one run of Latin letters or digits; with the spaces before them."""

    text: list[str]
    spaced: list[bool]
    commas: set[int]


def units_of(text: str) -> Units:
    """Split a question into units; punctuation other than commas is dropped, commas are kept by position."""
    text = unicodedata.normalize("NFKC", text)
    units, spaced, commas, space = [], [], set(), True
    for piece in re.findall(r"[A-Za-z][A-Za-z'&-]*|\d+|[가-힣]|[,、/;+]|[^\S\n]+|.", text, re.DOTALL):
        if is_syllable(piece) or (piece[0].isascii() and piece[0].isalnum()):
            units.append(piece)
            spaced.append(space)
            space = False
        else:
            if piece in ",、/;+":
                commas.add(len(units))
            space = True
    return Units(units, spaced, commas)


def segment(text: str) -> list[Token]:
    """The pieces of a question, in order, commas included as tokens of kind X."""
    units = units_of(text)
    tokens = _search(units)
    out: list[Token] = []
    for token in tokens:
        if token.start in units.commas and out:
            out.append(Token("X", ",", token.start, token.start))
        out.append(token)
    return out


def _search(units: Units) -> list[Token]:
    n = len(units.text)
    # best[i][kind of the last piece and whether it ends a noun] = (cost, previous position, previous state, piece)
    best: list[dict[str, tuple[float, int, str, Token | None]]] = [{} for _ in range(n + 1)]
    best[0]["^"] = (0.0, 0, "", None)
    for i in range(n):
        if not best[i]:
            continue
        pieces = _pieces(units, i)
        for state, (cost, *_rest) in best[i].items():
            for piece, piece_cost in pieces:
                edge = _edge(state, piece, units)
                if edge is None:
                    continue
                total = cost + piece_cost + edge
                key = (
                    piece.kind
                    if piece.kind != "F" or piece.tag not in ("number", "scene", "place", "each", "thing", "list")
                    else "Fn"
                )
                if piece.kind == "F" and not piece.tag and len(piece.text) == 1:
                    key = "F1"
                if piece.kind == "C" and piece.tag == "contracted":
                    key = "F"
                if piece.kind == "D":
                    key = "Dn" if piece.tag == "native" else "D"
                known = best[piece.end].get(key)
                if known is None or total < known[0]:
                    best[piece.end][key] = (total, i, state, piece)
    state = min(best[n], key=lambda key: best[n][key][0] + (1.0 if key in ("Dn", "A") else 0.0), default=None)
    tokens: list[Token] = []
    position = n
    while state is not None and position > 0:
        _, previous, previous_state, piece = best[position][state]
        tokens.append(piece)
        position, state = previous, previous_state
    tokens.reverse()
    return tokens


def _pieces(units: Units, i: int) -> list[tuple[Token, float]]:
    """Every piece that may begin at unit i, with its own cost."""
    text, spaced = units.text, units.spaced
    unit = text[i]
    if unit[0].isdigit():
        return [(Token("D", unit, i, i + 1, "digits", int(unit), spaced[i]), 0.2)]
    if not is_syllable(unit):
        return [(Token("E", unit, i, i + 1, "", None, spaced[i]), 0.5), *_latin(units, i)]
    table, n = forms(), len(text)
    found: list[tuple[Token, float]] = []
    word, crossing = "", 0.0
    for j in range(i, min(n, i + LONGEST)):
        if j in units.commas and j > i:
            break
        gap = j > i and spaced[j]
        if gap:
            alone = (i == j - 1 or spaced[j - 1]) and (j + 1 == n or spaced[j + 1])
            crossing += 0.3 if alone else 0.8
        word += text[j]
        for form in table.get(word, ()):
            cost = form.cost
            if crossing:
                if form.kind == "F" or form.kind == "R":
                    cost += 0.1
                elif form.kind == "J":
                    continue
                else:
                    gaps = [k - i for k in range(i + 1, j + 1) if spaced[k]]
                    cost += 0.05 if all(k in form.breaks for k in gaps) else crossing + (0.0 if spaced[i] else 1.0)
            entries = form.value if form.kind == "N" else ()
            found.append((Token(form.kind, word, i, j + 1, form.tag, form.value, spaced[i], entries), cost))
        contracted = _contracted(word, j + 1 == n or spaced[j + 1])
        if contracted and not crossing:
            found.append(
                (Token("N", contracted, i, j + 1, "contracted", None, spaced[i], lexicon().korean[contracted]), 1.6)
            )
        if not is_syllable(text[j]) and j > i:
            break
    found.append((Token("U", unit, i, i + 1, "", None, spaced[i]), 0.9))
    return found


def _latin(units: Units, i: int) -> list[tuple[Token, float]]:
    """Known names that are written with Latin letters (TV, CCTV, USB 메모리), alone or before Hangul."""
    found, word = [], ""
    for j in range(i, min(len(units.text), i + 5)):
        word += units.text[j].lower()
        for form in forms().get(word, ()):
            if form.kind == "N":
                found.append((Token("N", word, i, j + 1, "", None, units.spaced[i], form.value), 0.4))
    return found


def _contracted(word: str, ends: bool) -> str | None:
    """The noun in a spoken contraction with 는 or 를 (강아진, 고양일), where the word is no noun itself."""
    if not ends or len(word) < 2 or final_of(word[-1]) not in (NIEUN, RIEUL) or word in forms():
        return None
    noun = word[:-1] + with_final(word[-1], 0)
    return noun if noun in lexicon().korean else None


def _edge(state: str, piece: Token, units: Units) -> float | None:
    """The extra cost of a piece after a state, or None where Korean has no such sequence."""
    kind, i, spaced = piece.kind, piece.start, piece.spaced
    if kind == "J":
        return _particle_edge(state, piece, units)
    if kind == "C":
        return 0.0 if state in ("D", "Dn") else None
    if state == "Dn" and kind not in ("N", "A"):
        return 1.5
    if state == "A" and kind in ("F", "R", "D"):
        return 2.0
    if kind == "U":
        if state == "U" and not spaced:
            return 0.0
        return 1.0 + (0.9 if state in ("N", "A", "J") and not spaced else 2.0 if state == "F1" and not spaced else 0.0)
    glued = 0.0 if spaced or i == 0 else 0.6 if state != "F1" else 1.6
    if kind == "N":
        single = len(piece.text) == 1
        if glued and state in ("N", "U", "E", "A"):
            if single and piece.text not in HEADS:
                return 1.5 if state != "U" else 2.5
            return 0.4
        return glued + (1.0 if glued and single else 0.0) + (0.6 if state in ("D", "Dn") else 0.0)
    if kind == "A":
        # a material or colour is an attribute only where a noun follows it at once
        follows = piece.end < len(units.text) and (
            is_syllable(units.text[piece.end]) or units.text[piece.end].isalpha()
        )
        if not follows or piece.end in units.commas:
            return None
        return glued + (0.25 if piece.tag == "material" else 0.0)
    if kind == "F" and piece.tag == "number" and len(piece.text) == 1:
        return 0.0 if state in ("N", "U", "E", "J", "Fn") else 2.0
    if kind in "FR" and glued:
        return 0.3 + (1.2 if len(piece.text) == 1 and state in ("N", "U", "^") else 0.0)
    return glued


def _particle_edge(state: str, piece: Token, units: Units) -> float | None:
    if state not in ("N", "U", "E", "C", "J", "Fn", "D"):
        return None
    i, end = piece.start, piece.end
    ends = end == len(units.text) or units.spaced[end]
    cost = 0.0 if ends else 0.35
    if piece.spaced:
        # a particle torn from its noun by a space
        if not ends or piece.tag in ("other", "copula"):
            return None
        cost += 0.7
    if piece.tag == "plural":
        cost -= 0.3
    before = units.text[i - 1]
    if piece.value and is_syllable(before) and (piece.value > 0) != bool(final_of(before)):
        cost += 1.0
    if state == "J":
        cost += 0.15
    if state == "U" and piece.tag == "copula":
        cost += 0.6
    if state == "Fn" and piece.tag == "plural":
        return None
    return cost
