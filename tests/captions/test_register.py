"""Registers of Korean captions against triples written by hand (plain | polite | formal), before the code was."""

import csv
from pathlib import Path

import pytest

from src.captions.register import REGISTERS, convert, convert_all, register_of, registers_of

TABLE = """
개가 있다 | 개가 있어요 | 개가 있습니다
사람이 없다 | 사람이 없어요 | 사람이 없습니다
개가 달린다 | 개가 달려요 | 개가 달립니다
꽃이 예쁘다 | 꽃이 예뻐요 | 꽃이 예쁩니다
컵이 책상 위에 놓여 있다 | 컵이 책상 위에 놓여 있어요 | 컵이 책상 위에 놓여 있습니다
남자가 길을 걷는다 | 남자가 길을 걸어요 | 남자가 길을 걷습니다
소녀가 음악을 듣는다 | 소녀가 음악을 들어요 | 소녀가 음악을 듣습니다
아이가 할머니를 돕는다 | 아이가 할머니를 도와요 | 아이가 할머니를 돕습니다
남자가 집을 짓는다 | 남자가 집을 지어요 | 남자가 집을 짓습니다
아이가 수영을 한다 | 아이가 수영을 해요 | 아이가 수영을 합니다
아이들이 축구를 하고 있다 | 아이들이 축구를 하고 있어요 | 아이들이 축구를 하고 있습니다
소년이 공부한다 | 소년이 공부해요 | 소년이 공부합니다
하늘이 푸르다 | 하늘이 푸르러요 | 하늘이 푸릅니다
하늘이 파랗다 | 하늘이 파래요 | 하늘이 파랗습니다
옷이 하얗다 | 옷이 하얘요 | 옷이 하얗습니다
사과가 빨갛다 | 사과가 빨개요 | 사과가 빨갛습니다
이것은 책이다 | 이것은 책이에요 | 이것은 책입니다
이것은 나무다 | 이것은 나무예요 | 이것은 나무입니다
두 마리의 강아지다 | 두 마리의 강아지예요 | 두 마리의 강아지입니다
이것은 고양이가 아니다 | 이것은 고양이가 아니에요 | 이것은 고양이가 아닙니다
아이가 물을 마시는 중이다 | 아이가 물을 마시는 중이에요 | 아이가 물을 마시는 중입니다
개가 뛰고 있는 모습이다 | 개가 뛰고 있는 모습이에요 | 개가 뛰고 있는 모습입니다
개가 물속에서 달렸다 | 개가 물속에서 달렸어요 | 개가 물속에서 달렸습니다
아이가 밥을 먹었다 | 아이가 밥을 먹었어요 | 아이가 밥을 먹었습니다
남자가 길을 걸었다 | 남자가 길을 걸었어요 | 남자가 길을 걸었습니다
하늘이 파랬다 | 하늘이 파랬어요 | 하늘이 파랬습니다
그것은 책이었다 | 그것은 책이었어요 | 그것은 책이었습니다
그것은 나무였다 | 그것은 나무였어요 | 그것은 나무였습니다
개가 달리고 있었다 | 개가 달리고 있었어요 | 개가 달리고 있었습니다
아이가 웃지 않는다 | 아이가 웃지 않아요 | 아이가 웃지 않습니다
방이 크지 않다 | 방이 크지 않아요 | 방이 크지 않습니다
개가 서 있지 않다 | 개가 서 있지 않아요 | 개가 서 있지 않습니다
남자는 안경을 쓰지 않았다 | 남자는 안경을 쓰지 않았어요 | 남자는 안경을 쓰지 않았습니다
아이가 공을 잡지 못한다 | 아이가 공을 잡지 못해요 | 아이가 공을 잡지 못합니다
거리가 깨끗하지 않다 | 거리가 깨끗하지 않아요 | 거리가 깨끗하지 않습니다
강물이 흐른다 | 강물이 흘러요 | 강물이 흐릅니다
소녀가 노래를 부른다 | 소녀가 노래를 불러요 | 소녀가 노래를 부릅니다
여자가 편지를 쓴다 | 여자가 편지를 써요 | 여자가 편지를 씁니다
아이들이 논다 | 아이들이 놀아요 | 아이들이 놉니다
여자가 문을 연다 | 여자가 문을 열어요 | 여자가 문을 엽니다
새가 하늘을 난다 | 새가 하늘을 날아요 | 새가 하늘을 납니다
남자가 케이크를 만든다 | 남자가 케이크를 만들어요 | 남자가 케이크를 만듭니다
말이 풀을 먹는다 | 말이 풀을 먹어요 | 말이 풀을 먹습니다
아이가 의자에 앉는다 | 아이가 의자에 앉아요 | 아이가 의자에 앉습니다
여자가 사진을 찍는다 | 여자가 사진을 찍어요 | 여자가 사진을 찍습니다
남자가 책을 읽는다 | 남자가 책을 읽어요 | 남자가 책을 읽습니다
여자가 모자를 쓰고 있다 | 여자가 모자를 쓰고 있어요 | 여자가 모자를 쓰고 있습니다
사람들이 줄을 선다 | 사람들이 줄을 서요 | 사람들이 줄을 섭니다
소년이 카메라를 본다 | 소년이 카메라를 봐요 | 소년이 카메라를 봅니다
버스가 온다 | 버스가 와요 | 버스가 옵니다
아이가 학교에 간다 | 아이가 학교에 가요 | 아이가 학교에 갑니다
아이가 책을 준다 | 아이가 책을 줘요 | 아이가 책을 줍니다
나뭇잎이 떨어진다 | 나뭇잎이 떨어져요 | 나뭇잎이 떨어집니다
공이 바닥에 놓인다 | 공이 바닥에 놓여요 | 공이 바닥에 놓입니다
멀리 산이 보인다 | 멀리 산이 보여요 | 멀리 산이 보입니다
남자가 자전거를 타고 내려간다 | 남자가 자전거를 타고 내려가요 | 남자가 자전거를 타고 내려갑니다
개가 공을 문다 | 개가 공을 물어요 | 개가 공을 뭅니다
소녀가 꽃을 든다 | 소녀가 꽃을 들어요 | 소녀가 꽃을 듭니다
여자가 물건을 고른다 | 여자가 물건을 골라요 | 여자가 물건을 고릅니다
바람이 분다 | 바람이 불어요 | 바람이 붑니다
남자가 고기를 굽는다 | 남자가 고기를 구워요 | 남자가 고기를 굽습니다
경치가 아름답다 | 경치가 아름다워요 | 경치가 아름답습니다
길이 좁다 | 길이 좁아요 | 길이 좁습니다
건물이 높다 | 건물이 높아요 | 건물이 높습니다
나무가 크다 | 나무가 커요 | 나무가 큽니다
머리가 길다 | 머리가 길어요 | 머리가 깁니다
차가 많다 | 차가 많아요 | 차가 많습니다
방이 어둡다 | 방이 어두워요 | 방이 어둡습니다
거리가 조용하다 | 거리가 조용해요 | 거리가 조용합니다
소녀가 행복해 보인다 | 소녀가 행복해 보여요 | 소녀가 행복해 보입니다
두 개는 모양이 다르다 | 두 개는 모양이 달라요 | 두 개는 모양이 다릅니다
비가 올 것 같다 | 비가 올 것 같아요 | 비가 올 것 같습니다
아이가 공을 던지려고 한다 | 아이가 공을 던지려고 해요 | 아이가 공을 던지려고 합니다
아이는 놀고 싶다 | 아이는 놀고 싶어요 | 아이는 놀고 싶습니다
할머니가 의자에 앉아 계신다 | 할머니가 의자에 앉아 계세요 | 할머니가 의자에 앉아 계십니다
의자가 벽에 기대어져 있다 | 의자가 벽에 기대어져 있어요 | 의자가 벽에 기대어져 있습니다
개가 짖는다 | 개가 짖어요 | 개가 짖습니다
아이가 손을 씻는다 | 아이가 손을 씻어요 | 아이가 손을 씻습니다
여자가 아이를 안는다 | 여자가 아이를 안아요 | 여자가 아이를 안습니다
남자가 짐을 싣는다 | 남자가 짐을 실어요 | 남자가 짐을 싣습니다
아이가 웃는다 | 아이가 웃어요 | 아이가 웃습니다
커피를 젓는다 | 커피를 저어요 | 커피를 젓습니다
사람이 눕는다 | 사람이 누워요 | 사람이 눕습니다
개가 사람을 따른다 | 개가 사람을 따라요 | 개가 사람을 따릅니다
"""
TRIPLES = [tuple(part.strip() for part in line.split("|")) for line in TABLE.strip().splitlines()]

def test_table_is_large_and_whole() -> None:
    assert REGISTERS == ("plain", "polite", "formal")
    assert len(TRIPLES) >= 60 and len(set(TRIPLES)) == len(TRIPLES) and {len(t) for t in TRIPLES} == {3}


@pytest.mark.parametrize("source", range(3))
@pytest.mark.parametrize("target", range(3))
def test_converts_between_registers(source: int, target: int) -> None:
    texts = convert_all([triple[source] for triple in TRIPLES], REGISTERS[target])
    assert texts == [triple[target] for triple in TRIPLES]


@pytest.mark.parametrize("column", range(3))
def test_detects_registers_and_leaves_them(column: int) -> None:
    texts = [triple[column] for triple in TRIPLES]
    assert registers_of(texts) == [REGISTERS[column]] * len(texts)
    assert convert_all(texts, REGISTERS[column]) == texts


@pytest.mark.parametrize(
    ("text", "register"),
    [
        ("눈 속에서 노는 두 마리의 검은 개들", "noun"),
        ("스노모빌을 탄 사람.", "noun"),
        ("건물 밖에 서 있는 사람들 무리", "noun"),
        ("공을 던지는 모습", "noun"),
        ("개가 달리고 있음", "nominal"),
        ("아이가 물속에서 헤엄침.", "nominal"),
        ("두 마리의 강아지가 풀밭에서 놀다", "plain"),
        ("여자는 갈색 개와 놀아요.", "polite"),
        ("개가 뛰어가네요!", "polite"),
        ("아이들은 경기장에서 축구를 합니다.", "formal"),
        ("한 남자와 여자가", "other"),
        ("", "other"),
        (", , ,", "other"),
    ],
)
def test_registers_of_other_endings(text: str, register: str) -> None:
    assert register_of(text) == register


@pytest.mark.parametrize("register", REGISTERS)
@pytest.mark.parametrize(
    "text",
    [
        "눈 속에서 노는 두 마리의 검은 개들",
        "스노모빌을 탄 사람.",
        "개가 달리고 있음",
        "한 남자와 여자가",
        "",
        ", , ,",
        "a dog runs.",
        "개가 달립니까?",
    ],
)
def test_what_has_no_statement_is_left_alone(text: str, register: str) -> None:
    assert convert(text, register) == text


def test_keeps_all_but_the_endings() -> None:
    text = "검정색,  갈색 개가 “달린다”는 표지판 옆을 달려가고 있습니다.  옆에는 사람이 서 있어요!"
    assert convert(text, "plain") == "검정색,  갈색 개가 “달린다”는 표지판 옆을 달려가고 있다.  옆에는 사람이 서 있다!"


def test_dictionary_forms_of_verbs_convert() -> None:
    assert convert("두 마리의 강아지가 풀밭에서 놀다", "formal") == "두 마리의 강아지가 풀밭에서 놉니다"


def test_plain_copula_with_written_stem_is_understood() -> None:
    assert convert("이것은 나무이다.", "polite") == "이것은 나무예요."
    assert convert("이것은 나무이다.", "plain") == "이것은 나무이다."


def test_forms_of_hada_and_honorifics() -> None:
    assert convert("아이가 공을 잡지 못했어요", "plain") == "아이가 공을 잡지 못했다"
    assert convert("거리가 깨끗하지 못해요", "plain") == "거리가 깨끗하지 못하다"
    assert convert("아이가 귀엽기도 해요", "plain") == "아이가 귀엽기도 하다"
    assert convert("할아버지가 신문을 읽으신다", "polite") == "할아버지가 신문을 읽으세요"
    assert convert("할아버지가 신문을 읽으세요", "formal") == "할아버지가 신문을 읽으십니다"
    assert convert("할아버지가 주무세요", "plain") == "할아버지가 주무신다"


def test_copula_after_letters_is_written_by_their_korean_names() -> None:
    assert convert("이것은 TV입니다", "polite") == "이것은 TV예요"
    assert convert("이것은 LCD 모니터와 VTR입니다", "polite") == "이것은 LCD 모니터와 VTR이에요"


def test_being_somewhere_is_a_state() -> None:
    assert convert("개 한 마리가 공 근처 해변에 있어요.", "plain") == "개 한 마리가 공 근처 해변에 있다."


def test_real_captions_come_back_from_a_round_trip(shared_data: Path) -> None:
    with (shared_data / "korean_captions" / "train.csv").open(encoding="utf-8") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    plain = [text for text, kind in zip(captions, registers_of(captions), strict=True) if kind == "plain"]
    back = convert_all(convert_all(convert_all(plain, "polite"), "formal"), "plain")
    # Dictionary forms (놀다) come back in the present tense, 나무이다 as 나무다; 걸어요 may be of 걷다 or 걸다.
    assert sum(before != after for before, after in zip(plain, back, strict=True)) <= 0.02 * len(plain)
