"""Questions: a table of hand-written ones, and each rule of the parser on its own."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.lexicon import Query, parse_query
from src.lexicon.hangul import from_keystrokes, keystrokes
from src.lexicon.slips import correct

HERE = Path(__file__).parent


def rows_of(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        lines = [line for line in file if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def is_right(row: dict[str, str]) -> bool:
    query = parse_query(row["query"])
    expected = [part.split("/") for part in row["english"].split(" + ")] if row["english"] else []
    found = [target.english[0] if target.english else "" for target in query.targets]
    same = len(found) == len(expected) and all(f in e for f, e in zip(found, expected, strict=True))
    return same and query.intent == row["intent"]


@pytest.mark.parametrize(("name", "at_least"), [("queries.tsv", 150), ("queries_later.tsv", 75)])
def test_hand_written_questions(name: str, at_least: int) -> None:
    rows = rows_of(name)
    assert len(rows) >= at_least and len({row["query"] for row in rows}) == len(rows)
    wrong = [row["query"] for row in rows if not is_right(row)]
    assert 1 - len(wrong) / len(rows) >= 0.95, wrong


def words(text: str) -> list[str]:
    return [target.word for target in parse_query(text).targets]


def first(text: str) -> str:
    query = parse_query(text)
    return query.english[0] if query.english else ""


def test_the_first_example() -> None:
    query = parse_query("강아지가 몇 마리야?")
    assert (query.word, query.english[0], query.intent, query.counter) == ("강아지", "dog", "count", "마리")
    assert query.number is None and query.choices == () and query.corrections == ()


@pytest.mark.parametrize(
    "word", ["고양이", "아이", "오이", "사과", "기와", "나비", "의자", "개미", "거미", "바나나", "가위"]
)
@pytest.mark.parametrize(
    "particle", ["", "은/는", "이/가", "을/를", "의", "에게", "도", "만", "과/와", "이랑/랑", "들이"]
)
def test_particles_come_off_and_nouns_stay_whole(word: str, particle: str) -> None:
    after_consonant, _, after_vowel = particle.partition("/")
    closed = (ord(word[-1]) - 0xAC00) % 28 != 0
    said = word + (after_consonant if closed or not after_vowel else after_vowel)
    assert words(f"{said} 몇 개 있어?" if particle != "에게" else f"{said} 몇 개") in ([word], [])
    assert parse_query(word).word == word


@pytest.mark.parametrize(
    "ending", ["야", "야?", "예요", "입니까", "인가요", "인지 알려줘", "니", "지?", "일까요", "나 있어", "임", ""]
)
def test_levels_of_politeness_ask_the_same(ending: str) -> None:
    query = parse_query(f"고양이가 몇 마리{ending}")
    assert (query.word, query.intent, query.counter) == ("고양이", "count", "마리")


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("고양이가 있어?", "exists"),
        ("고양이 있나요", "exists"),
        ("고양이 있습니까?", "exists"),
        ("고양이가 보이니?", "exists"),
        ("고양이야?", "exists"),
        ("고양이 있는지 찾아줘", "exists"),
        ("고양이 어디 있어?", "find"),
        ("고양이 좀 찾아 주세요", "find"),
        ("고양이를 표시해줘", "find"),
        ("나는 고양이를 찾고 있어", "find"),
        ("고양이", "find"),
        ("고양이 개수", "count"),
        ("고양이 수를 알려줘", "count"),
        ("고양이 얼마나 있어?", "count"),
        ("고양이 세줘", "count"),
        ("뭐가 있어?", "list"),
        ("어떤 동물이 있어?", "list"),
    ],
)
def test_intents(text: str, intent: str) -> None:
    assert parse_query(text).intent == intent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("배 두 척", "ship"),
        ("배 세 개", "pear"),
        ("바다에 배가 있어?", "ship"),
        ("먹는 배가 있어?", "pear"),
        ("말 세 마리", "horse"),
        ("눈이 내린 지붕의 눈", "snow"),
        ("고양이 눈", "eye"),
        ("차 두 대", "car"),
        ("차 두 잔", "tea"),
        ("밤 다섯 톨", "chestnut"),
        ("밤하늘의 밤", ""),
        ("강 위에 놓인 다리", "bridge"),
        ("의자 다리", "leg"),
        ("벌 세 마리", "bee"),
        ("풀 두 포기", "grass"),
        ("풀로 붙이는 풀", "glue"),
        ("창 두 자루", "spear"),
        ("기판에 칩이 몇 개야", "semiconductor"),
    ],
)
def test_homographs_by_counter_and_by_context(text: str, expected: str) -> None:
    query = parse_query(text)
    assert (query.targets[-1].english[0] if query.targets[-1].english else "") == expected
    if expected:
        assert query.targets[-1].choices == ()


def test_an_open_homograph_offers_its_meanings_in_order() -> None:
    query = parse_query("배가 있어?")
    assert [choice.english[0] for choice in query.choices] == ["ship", "pear", "belly"]
    assert query.english == ("ship", "boat") and 0 < query.targets[0].confidence < 1
    # speech cannot be seen: a meaning without English
    assert [choice.english[:1] for choice in parse_query("말").choices] == [("horse",), ()]
    assert parse_query("말 몇 마디").english == ()


def test_attributes_are_kept_as_english() -> None:
    target = parse_query("작은 빨간 사과가 몇 개야?").targets[0]
    assert target.english == ("small red apple",) and target.base == ("apple",)
    assert target.attributes == ("small", "red")
    assert first("새 신발 찾아줘").startswith("new ") and first("새 몇 마리") == "bird"
    assert first("나무 의자") == "wooden chair" and first("나무 위 의자") == "chair"


def test_several_objects_share_what_they_share() -> None:
    query = parse_query("강아지와 고양이는 각각 몇 마리?")
    assert [t.word for t in query.targets] == ["강아지", "고양이"] and query.each
    assert [t.counter for t in query.targets] == ["마리", "마리"]
    query = parse_query("양 세 마리와 소 두 마리가 있어?")
    assert [(t.base[0], t.number) for t in query.targets] == [("sheep", 3), ("cow", 2)]
    assert words("강아지 고양이 몇 마리") == ["강아지", "고양이"]
    assert words("커피 접시") == ["커피 접시"] and first("커피 접시") == "coffee plate"


@pytest.mark.parametrize(
    ("text", "expected", "ignored"),
    [
        ("책상 위에 컵이 몇 개 있어?", ["컵"], ("책상",)),
        ("모자를 쓴 사람 몇 명", ["사람"], ("모자",)),
        ("털이 하얀 강아지", ["강아지"], None),
        ("고양이 말고 강아지", ["강아지"], ("고양이",)),
        ("토끼랑 거북이 중에 토끼는 몇 마리?", ["토끼"], ("토끼", "거북이")),
        ("고양이의 눈은 몇 개야?", ["눈"], ("고양이",)),
        ("사진에 사람이 있어?", ["사람"], ()),
        ("벽에 사진이 몇 장 있어?", ["사진"], ("벽",)),
    ],
)
def test_what_is_asked_about_and_what_is_set_aside(text: str, expected: list[str], ignored: tuple | None) -> None:
    query = parse_query(text)
    assert [target.word for target in query.targets] == expected
    if ignored is not None:
        assert query.ignored == ignored


@pytest.mark.parametrize(("said", "number"), [("두", 2), ("세", 3), ("열두", 12), ("스물한", 21), ("3", 3), ("12", 12)])
def test_numbers(said: str, number: int) -> None:
    query = parse_query(f"고양이 {said} 마리 있어?")
    assert (query.word, query.number, query.intent) == ("고양이", number, "exists")


@pytest.mark.parametrize(
    "text", ["강아지가몇마리야", "강 아 지 가 몇 마 리 야", "강아지가 몇마리야", "강아지 가 몇 마리야"]
)
def test_spacing_is_only_a_hint(text: str) -> None:
    query = parse_query(text)
    assert (query.word, query.intent, query.counter) == ("강아지", "count", "마리")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("강아쥐", "강아지"),
        ("고양아", "고양이"),
        ("컴퓨타", "컴퓨터"),
        ("냉장거", "냉장고"),
        ("rkddkwl", "강아지"),
        ("오톱바이", "오토바이"),
    ],
)
def test_slips_are_mended_and_said(typed: str, meant: str) -> None:
    query = parse_query(f"{typed} 몇 개 있어?")
    assert query.word == meant and query.corrections == ((typed, meant),)
    assert query.targets[0].confidence < 1


@pytest.mark.parametrize("word", ["강사", "감기", "자비", "우주정거장", "트리케라톱스", "코", "호수공원지기"])
def test_unknown_words_are_not_forced_into_known_ones(word: str) -> None:
    assert correct(word) is None


def test_a_known_word_is_never_another_one() -> None:
    for word in ("사과", "사자", "상자", "의자", "모자", "과자", "피자"):
        assert parse_query(f"{word}가 있어?").corrections == () and words(f"{word}가 있어?") == [word]


def test_compounds() -> None:
    assert first("골든리트리버 강아지") == "golden retriever"
    assert first("사과나무") == "apple tree"
    target = parse_query("뿌용뿌용머핀이 몇 개야?").targets[0]
    assert target.base == ("muffin",) and target.source == "compound" and target.confidence < 1


def test_unknown_words_come_back_for_a_translator() -> None:
    target = parse_query("트리케라톱스가 몇 마리야?").targets[0]
    assert (target.word, target.english, target.source, target.confidence) == ("트리케라톱스", (), "unknown", 0.0)
    # verbs that the lexicon lacks are no objects
    assert words("강아지가 꼬리를 살랑거리는지 궁금해") in (["강아지"], ["강아지", "꼬리"])
    assert words("나사가 빠졌어?") == ["나사"]


def test_a_counter_alone_names_its_kind() -> None:
    query = parse_query("몇 명이야?")
    assert query.english[0] == "person" and query.targets[0].source == "counter"


def test_english_words() -> None:
    assert first("dog 몇 마리야?") == "dog"
    query = parse_query("how many traffic lights?")
    assert query.english[0] == "traffic light" and query.intent == "count"
    assert parse_query("quokka 찾아줘").english == ("quokka",)


@given(st.text(alphabet="강아지고양이가를은는몇마리개 배눈말차?,.ab12ㅋ있어요", max_size=24))
@settings(max_examples=150, deadline=None)
def test_any_text_is_answered(text: str) -> None:
    query = parse_query(text)
    assert isinstance(query, Query) and query.intent in ("count", "find", "exists", "list")
    assert parse_query(text) == query


@given(st.text(alphabet=st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_keystrokes_are_reversible(text: str) -> None:
    back = from_keystrokes(keystrokes(text))
    assert back is not None and keystrokes(back) == keystrokes(text)
