"""Noun phrases of a cut question: which noun is asked about, which only says where, what it wears, or is set aside."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

from src.lexicon import grammar
from src.lexicon.entries import DATA, Entry, english_key, lexicon, read_rows
from src.lexicon.hangul import final_of, from_keystrokes, is_syllable
from src.lexicon.names import english_entry
from src.lexicon.segment import Token, forms
from src.lexicon.senses import is_kind_of, ranked, senses_of
from src.lexicon.slips import correct

ENGLISH_WORDS = {
    "count": "how many count number much total",
    "find": "where find show detect locate mark point highlight",
    "exists": "is are there any exist exists does do have has can see visible",
    "list": "what which list",
    "scene": "picture photo image photograph scene",
    "": "the a an in on at of this that these those me i you please it and or with to all for up tell us let s",
}
# endings of verbs that the lexicon does not know; a strange word with one is no object while a known object is there
VERBAL = tuple("고 는 은 던 어 아 여 게 면 서 려 져 해 돼 다 요 니 냐 까 나 지 네 며 듯 줘 봐 라 자 음 임 인 된 한 진 운 할 란".split())
# unmarked neighbours of these subjects are two things (강아지 고양이), of other subjects one (커피 컵)
SEPARATE = frozenset(("animals", "fruits", "vegetables", "people"))
CONFIDENCE = {"lexicon": 1.0, "english": 0.9, "compound": 0.6, "counter": 0.5, "unknown": 0.0}


@dataclass(slots=True)
class Phrase:
    """A noun phrase while it is read; afterwards the fields of a target."""

    tokens: list[Token]
    attributes: list[str]
    act: bool = False
    particle: str = ""
    role: str = "target"
    next: int = 0
    start: int = 0
    number: int | None = None
    counter: str | None = None
    word: str = ""
    lemma: str = ""
    english: tuple[str, ...] = ()
    choices: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    source: str = "unknown"
    confidence: float = 0.0
    category: str = ""
    scene: bool = False

    @property
    def known(self) -> bool:
        return any(token.kind != "U" for token in self.tokens)


def targets_of(tokens: list[Token]) -> tuple[list[Phrase], list[str], list[tuple[str, str]]]:
    """(objects asked about in order, nouns set aside, corrections made) of a cut question."""
    tokens, corrections = mend(merge_unknown(tokens))
    found = split_pairs(read_phrases(tokens))
    give_roles(found, tokens)
    text = "".join((" " if token.spaced else "") + token.text for token in tokens)
    targets = [phrase for phrase in found if phrase.role == "target"]
    give_numbers(tokens, targets)
    for phrase in targets:
        name(phrase, tokens, text)
    if not targets:
        targets = _counted_only(tokens)
    ignored = ["".join(t.text for t in p.tokens) for p in found if p.role not in ("target", "scene")]
    return targets, ignored, corrections


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
    """The best correction of the unknown word at index, alone or with what is glued to it: (word, pieces used, cost)."""
    best = None
    word = ""
    for length in (1, 2, 3):
        if index + length > len(tokens):
            break
        token = tokens[index + length - 1]
        if length > 1 and (token.spaced or token.kind not in ("N", "J", "U")):
            break
        word += token.text
        found = correct(word)
        if found and (best is None or found[1] < best[2]):
            best = (found[0], length, found[1])
    return best


def _known(token: Token, word: str, end: int) -> Token:
    return Token("N", word, token.start, end, "mended", None, token.spaced, lexicon().korean[word])


def read_phrases(tokens: list[Token]) -> list[Phrase]:
    """Noun phrases in order: attributes, neighbouring nouns, then particles and a word of place."""
    found: list[Phrase] = []
    attributes: list[str] = []
    act = False
    start = i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.kind == "A":
            if not attributes:
                start, act = i, False
            attributes.append(str(token.value))
            act = act or token.tag == "act"
            i += 1
            continue
        nominal = token.kind in ("N", "U", "E") or (token.kind == "F" and token.tag == "scene")
        if not nominal:
            if token.kind not in ("D", "C") and not (token.kind == "J" and attributes):
                attributes = []
            i += 1
            continue
        phrase = Phrase([token], attributes, act=act and bool(attributes), start=start if attributes else i)
        phrase.scene = token.kind == "F"
        attributes = []
        i += 1
        while i < len(tokens) and tokens[i].kind in ("N", "U", "E") and not phrase.scene and _continues(phrase, tokens[i]):
            phrase.tokens.append(tokens[i])
            i += 1
        while i < len(tokens) and tokens[i].kind == "J":
            phrase.particle = tokens[i].tag if tokens[i].tag not in ("plural", "other") else phrase.particle
            i += 1
        if i < len(tokens) and tokens[i].kind == "F" and tokens[i].tag == "place":
            phrase.particle = "place"
            i += 1
            while i < len(tokens) and tokens[i].kind == "J":
                i += 1
        phrase.next = i
        found.append(phrase)
    return found


def _continues(phrase: Phrase, token: Token) -> bool:
    """True where a nominal piece belongs to the phrase before it. An unknown word of its own is not glued on: it may be a
    verb."""
    last = phrase.tokens[-1]
    if token.kind == "U":
        return not token.spaced
    return not (last.kind == "U" and token.spaced and last.text.endswith(VERBAL))


def split_pairs(found: list[Phrase]) -> list[Phrase]:
    """Neighbours without a particle that are two things rather than one (강아지 고양이 몇 마리) become two phrases."""
    out: list[Phrase] = []
    for phrase in found:
        while len(phrase.tokens) > 1 and _separate(phrase.tokens[0], phrase.tokens[1]):
            first = Phrase([phrase.tokens[0]], phrase.attributes, act=phrase.act, particle="with", start=phrase.start)
            first.next = phrase.next
            out.append(first)
            phrase = replace(phrase, tokens=phrase.tokens[1:], attributes=[])
        out.append(phrase)
    return out


def _separate(one: Token, other: Token) -> bool:
    if not (one.entries and other.entries and other.spaced):
        return False
    for first in one.entries:
        for second in other.entries:
            if first.category != second.category or first.category not in SEPARATE:
                continue
            shared = set(first.counters) & set(second.counters)
            nested = first is second or is_kind_of(first, second.english[0]) or is_kind_of(second, first.english[0])
            if shared and not nested and (first.category != "animals" or "마리" in shared):
                return True
    return False


def give_roles(found: list[Phrase], tokens: list[Token]) -> None:
    """Mark each phrase as target, place, context (a noun inside a description), excluded or scene."""
    for index, phrase in enumerate(found):
        later = [p for p in found[index + 1 :] if not p.scene]
        following = tokens[phrase.next] if phrase.next < len(tokens) else None
        joined = phrase.particle == "with" or (following is not None and (following.kind == "X" or following.tag == "and"))
        if phrase.scene:
            others = [p for p in found if not p.scene and p.known]
            alone = not others and phrase.particle in ("", "subject", "topic", "object", "copula")
            asked = any(t.tag == "list" for t in tokens)
            phrase.role = "target" if alone and not asked and phrase.tokens[0].text in lexicon().korean else "scene"
        elif following is not None and following.tag == "exclude":
            phrase.role = "excluded"
        elif phrase.particle == "place":
            phrase.role = "place"
        elif phrase.particle == "means" and later:
            phrase.role = "context"
        elif phrase.particle == "genitive" and later and found[index + 1].start == phrase.next:
            phrase.role = "context"
        elif later and following is not None and not joined and _describes(following, phrase, tokens):
            phrase.role = "context"
        elif later and joined and following is not None and following.kind == "R":
            phrase.role = "context"
    # a verb of its own place or object is no attribute of the noun ("벤치에 앉은 사람")
    for before, phrase in zip(found, found[1:], strict=False):
        described = before.particle in ("place", "object", "subject") or (before.role == "context" and phrase.act)
        if before.next == phrase.start and described and (phrase.act or before.particle == "subject"):
            if before.particle == "subject":
                before.role = "context"
            phrase.attributes = []
    _drop_strange(found, tokens)
    if not any(p.role == "target" for p in found):
        # a place is asked about when nothing else is ("바다에?"), unless everything in it is
        asked = any(t.tag in ("list", "count") for t in tokens)
        places = [p for p in found if p.role == "place" and p.known]
        if places and not asked:
            places[-1].role = "target"


def _describes(following: Token, phrase: Phrase, tokens: list[Token]) -> bool:
    """True where the word after a noun is a verb that describes a later noun (모자를 쓴 사람)."""
    if following.kind == "R":
        return True
    if following.tag == "rel" and following.text in ("있는", "없는", "있던", "없던"):
        return True
    after = tokens[phrase.next + 1] if phrase.next + 1 < len(tokens) else None
    verb = following.kind == "U" and after is not None and after.kind in ("N", "A") and after.spaced
    return verb and phrase.particle in ("object", "subject") and following.text.endswith(("는", "은", "던", "운", "한", "된", "진"))


def _drop_strange(found: list[Phrase], tokens: list[Token]) -> None:
    """Unknown words stop being targets where a known one is, unless they are joined to it or counted themselves."""
    targets = [p for p in found if p.role == "target"]
    known = [p for p in targets if p.known]
    strange = [p for p in targets if not p.known]
    if known:
        for phrase in strange:
            following = tokens[phrase.next] if phrase.next < len(tokens) else None
            joined = phrase.particle == "with" or (following is not None and following.kind == "X")
            counted = following is not None and following.kind == "D" and not phrase.tokens[0].text.endswith(VERBAL)
            before = next((p for p in found if p.next == phrase.start), None)
            joined = joined or (before is not None and before.particle == "with" and before.role == "target")
            if not joined and not counted:
                phrase.role = "strange"
        return
    if len(strange) > 1:
        marked = [p for p in strange if p.particle in ("subject", "topic", "object", "with", "genitive")]
        plain = [p for p in strange if not p.tokens[0].text.endswith(VERBAL)]
        kept = marked or plain or strange
        for phrase in strange:
            if phrase not in kept:
                phrase.role = "strange"


def give_numbers(tokens: list[Token], targets: list[Phrase]) -> None:
    """Hand each "두 마리" to the object before it, or to the one after it where none stands before."""
    for index, token in enumerate(tokens[:-1]):
        follower = tokens[index + 1]
        if token.kind != "D" or follower.kind not in ("C", "N", "U"):
            continue
        counter = str(follower.value) if follower.kind == "C" else None
        number = token.value if isinstance(token.value, int) else None
        before = [p for p in targets if p.next <= index]
        after = [p for p in targets if p.start > index]
        chosen = before[-1] if before and counter else (after[0] if after else None)
        if chosen is None:
            continue
        group = [chosen]
        # "강아지와 고양이는 몇 마리": a shared counter
        place = targets.index(chosen)
        while place > 0 and targets[place - 1].particle == "with" and targets[place - 1].counter is None:
            place -= 1
            group.append(targets[place])
        for phrase in group:
            phrase.counter = phrase.counter or counter
            if number is not None and phrase is chosen:
                phrase.number = number


def name(phrase: Phrase, tokens: list[Token], text: str) -> None:
    """Fill in a target's word, English, meanings and confidence."""
    pieces = phrase.tokens
    head = _head(phrase)
    phrase.word = " ".join(_spelled(token) for token in pieces)
    if head.kind == "E":
        _name_english(phrase, head)
        return
    if head.kind == "U":
        phrase.source = "unknown"
        return
    around = text.replace("".join(t.text for t in pieces), " ", 1) if len(pieces) == 1 else text
    senses, settled = ranked(senses_of(head.text), phrase.counter, around)
    if not senses:
        phrase.source = "unknown"
        return
    best = senses[0].entry
    if best is None and not settled:
        best = next((sense.entry for sense in senses if sense.entry), None)
    if not settled:
        phrase.choices = [(s.entry.english if s.entry else (), s.meaning) for s in senses]
    phrase.source = "lexicon"
    phrase.confidence = CONFIDENCE["lexicon"] * (1.0 if settled else 0.6) * (0.8 if head.tag == "mended" else 1.0)
    if best is None:
        phrase.choices = [(s.entry.english if s.entry else (), s.meaning) for s in senses]
        return
    phrase.lemma, phrase.category = best.korean, best.category
    phrase.english = best.english
    for token in reversed(pieces[:-1]):
        _modify(phrase, token, best)


def _head(phrase: Phrase) -> Token:
    """The last noun; a shorter noun with its particle where the counter says so (초가 몇 개: 초)."""
    head = phrase.tokens[-1]
    short = head.text[:-1]
    particle = grammar.particle_forms().get(head.text[-1])
    if head.kind != "N" or head.tag or phrase.particle or not phrase.counter or particle is None or not short:
        return head
    entries = lexicon().korean.get(short)
    fits = particle[1] == 0 or (particle[1] > 0) == bool(final_of(short[-1]))
    listed = {counter for entry in head.entries for counter in entry.counters}
    if entries and fits and phrase.counter not in listed and any(phrase.counter in e.counters for e in entries):
        phrase.tokens[-1] = replace(head, text=short, entries=entries)
    return phrase.tokens[-1]


def _modify(phrase: Phrase, token: Token, head: Entry) -> None:
    """What a noun before the head adds: a material, a kind, a part's owner (nothing), or the first half of a compound."""
    material = _materials().get(token.text)
    if token.kind == "U":
        phrase.source = "compound"
        phrase.confidence = CONFIDENCE["compound"]
    elif material and head.category not in ("plants", "animals", "people"):
        phrase.attributes = [*phrase.attributes, material]
    elif token.kind == "E":
        phrase.english = tuple(f"{token.text.lower()} {term}" for term in phrase.english)
    elif token.entries:
        first = token.entries[0]
        if is_kind_of(first, head.english[0]):
            phrase.english, phrase.lemma = first.english, first.korean
        elif head.category != "body" and first is not head:
            phrase.english = tuple(f"{first.english[0]} {term}" for term in phrase.english)
            phrase.source, phrase.confidence = "compound", CONFIDENCE["compound"]


@lru_cache(maxsize=1)
def _materials() -> dict[str, str]:
    return {word: english for _, (word, english, kind) in read_rows(DATA / "attributes.tsv", 3) if kind == "material"}


def _name_english(phrase: Phrase, head: Token) -> None:
    entry = english_entry(head.text)
    phrase.source, phrase.confidence = "english", CONFIDENCE["english"]
    phrase.english = entry.english if entry else (english_key(head.text),)
    if entry:
        phrase.lemma, phrase.category = entry.korean, entry.category


def _spelled(token: Token) -> str:
    return lexicon().spellings.get(token.text, token.text) if token.kind == "N" else token.text


def _counted_only(tokens: list[Token]) -> list[Phrase]:
    """"몇 명이야?" names nobody, but its counter does: people."""
    counter = next((str(t.value) for t in tokens if t.kind == "C"), None)
    if counter is None and any(t.text in ("인원수", "머릿수", "명수") for t in tokens):
        counter = "명"
    term = grammar.COUNTER_MEANS.get(counter or "")
    if term is None:
        return []
    entry = lexicon().english[term]
    phrase = Phrase([], [], counter=counter, word=entry.korean, lemma=entry.korean, english=entry.english)
    phrase.source, phrase.confidence, phrase.category = "counter", CONFIDENCE["counter"], entry.category
    return [phrase]


__all__ = ["Phrase", "english_words", "forms", "is_syllable", "targets_of"]
