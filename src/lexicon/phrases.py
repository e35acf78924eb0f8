"""Noun phrases of a cut question: which noun is asked about, which only says where, what it wears, or is set aside."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from src.lexicon.entries import lexicon
from src.lexicon.hangul import NIEUN, RIEUL, final_of
from src.lexicon.segment import NOMINAL, Token
from src.lexicon.senses import is_kind_of

# last syllables of verbs that the lexicon does not know
VERBAL = tuple("고는은던어아여게면서려져해돼다요니냐까나지네며듯줘봐라자음임인된한진운할란")
# unmarked neighbours of these subjects are two things (강아지 고양이), of other subjects one (커피 컵)
SEPARATE = frozenset(("animals", "fruits", "vegetables"))


@dataclass(slots=True)
class Phrase:
    """A noun phrase: its nouns, what stands before them (attributes) and after them (particle: its role as in
    grammar.tsv, "place" with a word of place too).

    role: target, place, context (part of a description), excluded, scene, or strange (an unknown word, likely a verb).
    start, next: the first token of it and the first after it. act: an attribute says what it does (뛰는).
    """

    tokens: list[Token]
    attributes: list[str] = field(default_factory=list)
    act: bool = False
    particle: str = ""
    role: str = "target"
    start: int = 0
    next: int = 0
    number: int | None = None
    counter: str | None = None

    @property
    def scene(self) -> bool:
        """The picture itself (사진, 그림), which is an object only where nothing else is."""
        return self.tokens[0].kind == "F"

    @property
    def known(self) -> bool:
        return any(token.kind != "U" for token in self.tokens)

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


def phrases_of(tokens: list[Token]) -> list[Phrase]:
    """Every noun phrase of a question, in order, with its role, number and counter."""
    found = split_pairs(read_phrases(tokens))
    give_roles(found, tokens)
    give_numbers(tokens, [phrase for phrase in found if phrase.role == "target"])
    return found


def read_phrases(tokens: list[Token]) -> list[Phrase]:
    """Noun phrases in order: attributes, neighbouring nouns, then particles and a word of place."""
    found: list[Phrase] = []
    attributes: list[Token] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.kind == "A":
            attributes.append(token)
        elif token.kind in NOMINAL or (token.kind == "F" and token.tag == "scene"):
            phrase = Phrase([token], [str(a.value) for a in attributes], any(a.tag == "act" for a in attributes))
            phrase.start = i - len(attributes)
            phrase.next = _read_rest(phrase, tokens, i + 1)
            found.append(phrase)
            attributes = []
            i = phrase.next
            continue
        else:
            attributes = []
        i += 1
    return found


def _read_rest(phrase: Phrase, tokens: list[Token], i: int) -> int:
    """Read what belongs to a phrase after its first noun; the index of the first token that does not."""
    while i < len(tokens) and tokens[i].kind in NOMINAL and not phrase.scene and _continues(phrase, tokens[i]):
        phrase.tokens.append(tokens[i])
        i += 1
    place = False
    while i < len(tokens) and (tokens[i].kind == "J" or (tokens[i].tag == "place" and not place)):
        if tokens[i].kind == "F":
            phrase.particle, place = "place", True
        elif not place and tokens[i].tag not in ("plural", "other"):
            phrase.particle = tokens[i].tag
        i += 1
    return i


def _continues(phrase: Phrase, token: Token) -> bool:
    """True where a nominal piece belongs to the phrase before it: an unknown word of its own may be a verb."""
    last = phrase.tokens[-1]
    if token.kind == "U":
        return not token.spaced
    return not (last.kind == "U" and token.spaced and (last.text.endswith(VERBAL) or attributive(last.text)))


def attributive(word: str) -> bool:
    """True for an unknown word that may be a verb before its noun (내린, 고픈, 먹을)."""
    return final_of(word[-1]) in (NIEUN, RIEUL)


def split_pairs(found: list[Phrase]) -> list[Phrase]:
    """Neighbours without a particle that are two things rather than one (강아지 고양이 몇 마리) become two phrases."""
    out: list[Phrase] = []
    for phrase in found:
        while len(phrase.tokens) > 1 and _separate(phrase.tokens[0], phrase.tokens[1]):
            first, *rest = phrase.tokens
            cut = phrase.start + len(phrase.attributes) + 1
            out.append(replace(phrase, tokens=[first], particle="with", next=cut))
            phrase = replace(phrase, tokens=rest, attributes=[], act=False, start=cut)
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
    """Decide what each phrase is to the question."""
    _drop_verbs(found)
    for index, phrase in enumerate(found):
        if phrase.role != "strange":
            phrase.role = _role(phrase, found[index + 1 :], found, tokens)
            if phrase.scene and phrase.role == "target":
                phrase.tokens = [replace(phrase.tokens[0], kind="N", tag="", entries=lexicon().korean[phrase.text])]
    _drop_owned_attributes(found)
    for phrase, after in reversed(list(zip(found, found[1:], strict=False))):
        # "토끼랑 거북이 중에": what is joined shares the role of the last
        if phrase.particle == "with" and phrase.next == after.start and after.role in ("place", "excluded", "context"):
            phrase.role = after.role
    _drop_strange(found, tokens)
    if not any(p.role == "target" for p in found) and not any(t.tag in ("list", "count") for t in tokens):
        # a place is asked about when nothing else is ("바다에?"), unless everything in it is
        for phrase in [p for p in found if p.role == "place" and p.known][-1:]:
            phrase.role = "target"


def _role(phrase: Phrase, after: list[Phrase], found: list[Phrase], tokens: list[Token]) -> str:
    following = tokens[phrase.next] if phrase.next < len(tokens) else None
    later = [p for p in after if not p.scene and p.role != "strange"]
    if phrase.scene:
        others = [p for p in found if not p.scene and p.known and p.particle != "place"]
        alone = not others and phrase.particle in ("", "subject", "topic", "object", "copula")
        asked = any(t.tag == "list" for t in tokens)
        return "target" if alone and not asked and phrase.text in lexicon().korean else "scene"
    if following is not None and following.tag == "exclude":
        return "excluded"
    if phrase.particle == "place":
        return "place"
    if not later:
        return "target"
    if phrase.particle == "means" or (phrase.particle == "genitive" and after[0].start == phrase.next):
        return "context"
    joined = phrase.particle == "with" or (following is not None and (following.kind == "X" or following.tag == "and"))
    if following is not None and (following.kind == "R" or (not joined and _describes(following, phrase, tokens))):
        return "context"
    return "target"


def _describes(following: Token, phrase: Phrase, tokens: list[Token]) -> bool:
    """True where the word after a noun is a verb that describes a later noun (배가 고픈 아이)."""
    if following.tag == "rel" and following.text in ("있는", "없는", "있던", "없던"):
        return True
    after = tokens[phrase.next + 1] if phrase.next + 1 < len(tokens) else None
    verb = following.kind == "U" and after is not None and after.kind in ("N", "A") and after.spaced
    return verb and phrase.particle in ("object", "subject") and attributive(following.text)


def _drop_owned_attributes(found: list[Phrase]) -> None:
    """A verb with a place or object of its own is no attribute ("벤치에 앉은 사람"); nor is what describes a part
    ("털이 하얀 강아지", whose 털 is no object either)."""
    for before, phrase in zip(found, found[1:], strict=False):
        if not phrase.attributes or before.next != phrase.start or before.role == "strange":
            continue
        if before.particle == "subject":
            before.role = "context"
            phrase.attributes = []
        elif phrase.act and (before.particle in ("place", "object") or before.role == "context"):
            phrase.attributes = []


def _drop_verbs(found: list[Phrase]) -> None:
    """Strange words without a particle that end like a verb are verbs, where a known noun can be asked about."""
    if any(phrase.known and not phrase.scene for phrase in found):
        for phrase in found:
            verb = phrase.text.endswith(VERBAL) or attributive(phrase.text)
            if not phrase.known and not phrase.particle and verb:
                phrase.role = "strange"


def _drop_strange(found: list[Phrase], tokens: list[Token]) -> None:
    """Unknown words stop being targets where a known one is, unless they are joined to it or counted themselves."""
    targets = [p for p in found if p.role == "target"]
    strange = [p for p in targets if not p.known]
    if len(strange) == len(targets):
        marked = [p for p in strange if p.particle in ("subject", "topic", "object", "with", "genitive")]
        plain = [p for p in strange if not p.text.endswith(VERBAL)]
        kept = marked or plain or strange[:1]
    else:
        kept = [p for p in strange if _belongs(p, found, tokens)]
    for phrase in strange:
        if not any(phrase is p for p in kept):
            phrase.role = "strange"


def _belongs(phrase: Phrase, found: list[Phrase], tokens: list[Token]) -> bool:
    """True where an unknown word is joined to another object, or has a number of its own."""
    following = tokens[phrase.next] if phrase.next < len(tokens) else None
    before = next((p for p in found if p.next == phrase.start), None)
    joined = phrase.particle == "with" or (before is not None and before.particle == "with" and before.role == "target")
    if joined or (following is not None and following.kind == "X"):
        return True
    return following is not None and following.kind == "D" and not phrase.text.endswith(VERBAL)


def give_numbers(tokens: list[Token], targets: list[Phrase]) -> None:
    """Hand each "두 마리" to the object before it, or to the one after it where none stands before."""
    for index, (token, follower) in enumerate(zip(tokens, tokens[1:], strict=False)):
        if token.kind != "D" or follower.kind not in ("C", "N", "U"):
            continue
        counter = str(follower.value) if follower.kind == "C" else None
        number = token.value if isinstance(token.value, int) else None
        before = [place for place, phrase in enumerate(targets) if phrase.next <= index]
        after = [place for place, phrase in enumerate(targets) if phrase.start > index]
        # "두 강아지" counts what follows it
        places = before[-1:] if before and counter else after[:1]
        for place in places:
            targets[place].counter = targets[place].counter or counter
            targets[place].number = number
            # "강아지와 고양이는 몇 마리": a counter is shared by what is joined, a number is not
            while place > 0 and targets[place - 1].particle == "with" and targets[place - 1].counter is None:
                place -= 1
                targets[place].counter = counter
