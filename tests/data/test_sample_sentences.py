"""The grammar of the caption sample: particles, counters, and five sentences of which each says everything."""

import re
from itertools import product

import pytest

from src.data import sample_sentences as grammar
from src.data.sample_objects import CLASSES, PALETTES
from src.data.sample_sentences import Facts, Group, sentences, with_particles

APPLES, FISH, CUP = Group("사과", "red", 2), Group("물고기", "yellow", 3), Group("컵", "blue", 1)
SCENES = {
    "group on ground": Facts((APPLES,), ground="grass"),
    "group in place": Facts((FISH,), place="왼쪽"),
    "pair on ground": Facts((APPLES, FISH), ground="brick"),
    "pair across": Facts((FISH, CUP), place="across"),
    "pair down": Facts((CUP, APPLES), place="down"),
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("사과[이/가] 한 개[이/가] 컵[이/가]", "사과가 한 개가 컵이"),
        ("우산[은/는] 바나나[은/는]", "우산은 바나나는"),
        ("별[을/를] 물고기 두 마리[을/를]", "별을 물고기 두 마리를"),
        ("컵[과/와] 사과[과/와] 별", "컵과 사과와 별"),
    ],
)
def test_particles_follow_the_final_consonant(text: str, said: str) -> None:
    assert with_particles(text) == said


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (Group("사과", "red", 1), "빨간 사과 한 개"),
        (Group("물고기", "blue", 2), "파란 물고기 두 마리"),
        (Group("별", "yellow", 3), "노란 별 세 개"),
        (Group("우산", "green", 4), "초록색 우산 네 개"),
    ],
)
def test_numerals_and_counters(group: Group, said: str) -> None:
    assert group.phrase == said


def test_captions_of_known_scenes() -> None:
    """Sentences read by hand, one or two of each kind of scene."""
    read = {
        "group on ground": ("풀밭 위에 빨간 사과 두 개가 있다.", "풀밭 위에 빨간색 사과가 두 개 있다."),
        "group in place": ("사진 왼쪽에 노란 물고기 세 마리가 있다.", "노란 물고기 세 마리가 사진 왼쪽에 놓여 있다."),
        "pair on ground": (
            "벽돌 벽 앞에 빨간 사과 두 개와 노란 물고기 세 마리가 있다.",
            "벽돌 벽 앞에 있는 빨간 사과 두 개와 노란 물고기 세 마리를 찍은 사진이다.",
        ),
        "pair across": (
            "왼쪽에는 노란 물고기 세 마리가, 오른쪽에는 파란 컵 한 개가 있다.",
            "노란 물고기 세 마리는 왼쪽에, 파란 컵 한 개는 오른쪽에 놓여 있다.",
        ),
        "pair down": (
            "위쪽에는 파란 컵 한 개가, 아래쪽에는 빨간 사과 두 개가 있다.",
            "빨간 사과 두 개 위쪽에 파란 컵 한 개가 있다.",
        ),
    }
    for name, wanted in read.items():
        said = {caption for key in range(20) for caption in sentences(SCENES[name], key)}
        assert set(wanted) <= said, name


@pytest.mark.parametrize("name", SCENES)
def test_each_of_five_sentences_says_every_fact(name: str) -> None:
    facts = SCENES[name]
    seen = set()
    for key in range(40):
        five = sentences(facts, key)
        assert len(set(five)) == 5 and five == sentences(facts, key)
        seen.update(five)
        for caption in five:
            for group in facts.groups:
                short, long = grammar.COLOURS[group.colour]
                own = rf"({short}|{long}) {group.kind}[이가]? {group.amount}"
                assert len(re.findall(own, caption)) == 1, caption
            if facts.ground:
                assert grammar.GROUNDS[facts.ground] in caption
            elif len(facts.groups) == 1:
                assert f"{facts.place}에" in caption
            else:
                assert any(f"{side}에" in caption for side in grammar.SIDES[facts.place]), caption
    assert len(seen) > 5, "the frames vary"


@pytest.mark.parametrize("place", grammar.SIDES)
def test_a_relation_is_the_same_whichever_group_it_starts_from(place: str) -> None:
    first, second = grammar.SIDES[place]
    a, b = APPLES.phrase, CUP.phrase
    for caption in {c for key in range(40) for c in sentences(Facts((APPLES, CUP), place=place), key)}:
        if caption.startswith(a) and first not in caption:
            assert caption.startswith(f"{a} {second}에 {b}가"), caption
        elif caption.startswith(b):
            assert caption.startswith(f"{b} {first}에 {a}가"), caption
        else:
            order = [caption.index(word) for word in (a, b)]
            assert order == sorted(order) and caption.index(first) < caption.index(second), caption


def test_the_first_frame_is_the_commonest() -> None:
    """So that a model's likeliest sentence is one of the five, whichever frames were drawn."""
    for facts in SCENES.values():
        common = set.intersection(*(set(sentences(facts, key)) for key in range(30)))
        assert len(common) == 1
    orders = {sentences(SCENES["group on ground"], key).index("풀밭 위에 빨간 사과 두 개가 있다.") for key in range(30)}
    assert orders == set(range(5)), "the commonest sentence must not always stand first"


def test_everything_has_its_words() -> None:
    """No marker is left in any sentence, and each is plain or a noun phrase with a full stop."""
    for kind, colour, count in product(CLASSES, grammar.COLOURS, grammar.NUMERALS):
        assert colour in PALETTES
        group = Group(kind, colour, count)
        scenes = [Facts((group,), place=place) for place in grammar.PLACES]
        scenes += [Facts((group, CUP), place=place) for place in grammar.SIDES]
        for ground in grammar.GROUNDS:
            scenes += [Facts((group,), ground=ground), Facts((group, FISH), ground=ground)]
        for facts in scenes:
            for caption in sentences(facts, kind, count):
                assert re.fullmatch(r"[가-힣 ,]+(다|개|마리)\.", caption), caption
