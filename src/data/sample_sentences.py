"""Grammar of the bundled caption sample: the facts of a picture, and five Korean sentences that state them all.

The sentences are in the plain register (한다체) of captions, or end in a noun. Every one of the five names the same
kinds, colours, numbers and places; which of a slot's frames says it, and in which order the five stand, is drawn.
"""

import re
from dataclasses import dataclass

from src.data.draws import Draws
from src.lexicon.hangul import final_of

NUMERALS = {1: "한", 2: "두", 3: "세", 4: "네"}  # native numerals as they stand before a counter
COUNTERS = {"물고기": "마리"}  # what is not named here is counted in 개
COLOURS = {  # palette -> as captions modify a noun with it, and the longer form
    "red": ("빨간", "빨간색"),
    "yellow": ("노란", "노란색"),
    "green": ("초록색", "초록색"),
    "blue": ("파란", "파란색"),
    "purple": ("보라색", "보라색"),
    "white": ("하얀", "하얀색"),
}
GROUNDS = {"grass": "풀밭 위에", "gravel": "자갈밭 위에", "brick": "벽돌 벽 앞에"}
PLACES = ("왼쪽", "오른쪽", "가운데", "위쪽", "아래쪽")
SIDES = {"across": ("왼쪽", "오른쪽"), "down": ("위쪽", "아래쪽")}  # where the first and the second group are

# Five slots, each with the frames it may take: {a}, {b} "빨간 사과 두 개"; {a_name} "빨간색 사과"; {a_count} "두 개";
# [이/가] the particle after a final consonant, and after a vowel. The first slot has one frame: the commonest sentence
# of every picture is of the same form.
Slots = tuple[tuple[str, ...], ...]
GROUP_ON_GROUND: Slots = (
    ("{at} {a}[이/가] 있다.",),
    ("{a}[이/가] {at} 놓여 있다.", "{a}[이/가] {at} 있다."),
    ("사진에는 {at} 있는 {a}[이/가] 보인다.", "사진 속 {at}는 {a}[이/가] 있다."),
    ("{at} 놓인 {a}.", "{at} 있는 {a}."),
    ("{at} {a_name}[이/가] {a_count} 있다.", "{at} 있는 {a}[을/를] 찍은 사진이다."),
)
GROUP_IN_PLACE: Slots = (
    ("사진 {place}에 {a}[이/가] 있다.",),
    ("{a}[이/가] 사진 {place}에 놓여 있다.", "{a}[이/가] 사진 {place}에 보인다."),
    ("사진을 보면 {place}에 {a}[이/가] 있다.", "사진 {place}에는 {a}[이/가] 보인다."),
    ("사진 {place}에 놓인 {a}.", "사진 {place}에 있는 {a}."),
    ("사진 {place}에 {a_name}[이/가] {a_count} 있다.", "{a}[이/가] {place}에 있는 사진이다."),
)
PAIR_ON_GROUND: Slots = (
    ("{at} {a}[과/와] {b}[이/가] 있다.",),
    ("{a}[과/와] {b}[이/가] {at} 놓여 있다.", "{a}[과/와] {b}[이/가] {at} 함께 있다."),
    ("사진에는 {at} 있는 {a}[과/와] {b}[이/가] 보인다.", "사진 속 {at}는 {a}[과/와] {b}[이/가] 있다."),
    ("{at} 놓인 {a}[과/와] {b}.", "{at} 있는 {a}[과/와] {b}."),
    ("{at} {a}[이/가] 있고 그 옆에 {b}[이/가] 있다.", "{at} 있는 {a}[과/와] {b}[을/를] 찍은 사진이다."),
)
PAIR_IN_PLACE: Slots = (
    ("{first}에는 {a}[이/가], {second}에는 {b}[이/가] 있다.",),
    ("{a} {second}에 {b}[이/가] 있다.", "{a} {second}에 {b}[이/가] 놓여 있다."),
    (
        "사진 {first}에 {a}[이/가], {second}에 {b}[이/가] 보인다.",
        "사진을 보면 {first}에 {a}[이/가] 있고 {second}에 {b}[이/가] 있다.",
    ),
    ("{first}에 놓인 {a}[과/와] {second}에 놓인 {b}.", "{first}에 있는 {a}[과/와] {second}에 있는 {b}."),
    ("{b} {first}에 {a}[이/가] 있다.", "{a}[은/는] {first}에, {b}[은/는] {second}에 놓여 있다."),
)


@dataclass(frozen=True)
class Group:
    """Objects of one kind and colour. kind: a name of sample_objects.CLASSES; colour: a key of COLOURS; count: 1-4."""

    kind: str
    colour: str
    count: int

    @property
    def amount(self) -> str:
        """Numeral and counter: "두 개", "세 마리"."""
        return f"{NUMERALS[self.count]} {COUNTERS.get(self.kind, '개')}"

    @property
    def phrase(self) -> str:
        """Colour, noun and amount: "빨간 사과 두 개"."""
        return f"{COLOURS[self.colour][0]} {self.kind} {self.amount}"


@dataclass(frozen=True)
class Facts:
    """What every caption of a picture says.

    groups: one or two; of two the left one first, or the upper one.
    ground: a key of GROUNDS, named instead of a place; None where the ground has no name.
    place: without a ground, one of PLACES for one group, a key of SIDES for two.
    """

    groups: tuple[Group, ...]
    ground: str | None = None
    place: str | None = None


def sentences(facts: Facts, *key: object) -> list[str]:
    """Five different captions in an order drawn by `key`."""
    draws = Draws(*key)
    words = {}
    for letter, group in zip("ab", facts.groups, strict=False):
        words[letter], words[f"{letter}_count"] = group.phrase, group.amount
        words[f"{letter}_name"] = f"{COLOURS[group.colour][1]} {group.kind}"
    alone = len(facts.groups) == 1
    if facts.ground is not None:
        slots, words["at"] = GROUP_ON_GROUND if alone else PAIR_ON_GROUND, GROUNDS[facts.ground]
    elif alone:
        slots, words["place"] = GROUP_IN_PLACE, facts.place
    else:
        slots = PAIR_IN_PLACE
        words["first"], words["second"] = SIDES[facts.place]
    return draws.shuffle([with_particles(draws.pick(frames).format(**words)) for frames in slots])


def with_particles(text: str) -> str:
    """Choose each [이/가], [은/는], [을/를], [과/와] by the syllable before it: the first form after a consonant."""
    return re.sub(r"(.)\[(.)/(.)\]", lambda m: m[1] + (m[2] if final_of(m[1]) else m[3]), text)
