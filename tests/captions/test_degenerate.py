"""Degenerate captions: each failure named, and real captions left in peace."""

import csv
from pathlib import Path

import pytest

from src.captions.degenerate import is_korean, latin_words, problems_of
from src.captions.soundness import Soundness

FAILURES = {
    "empty": ["", "   ", "\u200b", "\n"],
    "punctuation": [", , ,", "...", "。", "- - -"],
    "digits": ["12", "1, 2, 3"],
    "unknown": ["<unk>", "개가 [UNK] 있다", "▁개가 달린다", "개 ##가 달린다", "개가 \ufffd 달린다", "개가 달린다</s>",
                "개 <0xEC>", "<|endoftext|>", "ru@@ 개가", "⁇ 달린다", "<extra_id_0> 개"],
    "repeated": ["개 개 개 개", "개, 개, 개", "하하하하", "강아지강아지강아지", "고양이가고양이가",
                 "개가 달린다. 개가 달린다.", "남자와 여자와 남자와 여자와 남자와 여자",
                 "한 남자가 공원에서 한 남자가 공원에서 한", "한 남자가 큰 공원에서 한 남자가 큰 공원에서",
                 "빨간 옷을 입은 남자와 빨간 옷을 입은 여자와 빨간 옷을 입은 아이",
                 "개와 소와 개와 말과 소와 개와 말과 개와 말과 소와 개와"],
    "latin": ["a dog runs", "한 남자가 skateboard를 탄다", "A man 개가 달린다", "Two Dogs 달린다",
              "한 남자가 the 공원에서 걷는다", "개가 Green Field Park에서 Running 한다"],
    "foreign": ["男の子が走る", "собака бежит", "개가 在草地上奔跑"],
    "jamo": ["ㅏㅏ", "개가 달ㄹ", "ㅋㅋㅋ", "개가 \u1103"],
    "cut": ["한 남자가 공을 던지고,", "빨간 셔츠를", "개와 사람 (", "한 남자 -"],
    "long": ["가나다 " * 3 + "아주 " + " ".join(f"{n}번째 사람이" for n in range(200))],
}  # fmt: skip
SOUND = [
    "한 남자가 거리에서 다른 남자 팔에 빨간 팔 밴드를 묶고 있다.",
    "파란색 T 셔츠를 입은 소년",
    "TV를 보는 사람",
    "BMX 자전거를 타는 소년",
    "남자가 Nike 셔츠를 입었다",
    "iPhone을 든 여자",
    "Nike 셔츠를 입은 남자",
    "ㄱ자 모양의 소파",
    "반짝반짝 빛나는 별",
    "두리번두리번 살피는 개",
    "하하하 웃는 아이",
    "한 명 한 명 줄을 선다",
    "빨간 옷을 입은 남자와 빨간 옷을 입은 여자",
    "3마리의 개",
    "문에 美라고 쓰여 있다",
    "개",
]


@pytest.mark.parametrize(("problem", "text"), [(name, text) for name, texts in FAILURES.items() for text in texts])
def test_names_each_failure(problem: str, text: str) -> None:
    assert problem in problems_of(text)


@pytest.mark.parametrize("text", SOUND)
def test_sound_captions_pass(text: str) -> None:
    assert problems_of(text) == []


def test_names_all_failures_of_a_text() -> None:
    assert problems_of("a man a man a man <unk>,") == ["unknown", "repeated", "latin", "cut"]


def test_other_languages_have_their_own_letters() -> None:
    assert problems_of("One brown and one brown and white dog run.", korean=False) == []
    assert problems_of("собака бежит", korean=False) == []
    assert problems_of("a man a man a man", korean=False) == ["repeated"]


def test_words_of_the_training_captions_are_known() -> None:
    assert problems_of("남자가 skateboard를 탄다", known={"skateboard"}) == []
    assert latin_words("Don't 남자 T-shirt") == ["don't", "t-shirt"]


def test_soundness_is_read_from_training_captions_and_survives_json() -> None:
    korean = Soundness.of(["남자가 skateboard를 탄다", "개", "가" * 500])
    assert korean == Soundness(korean=True, known=("skateboard",), longest=1500)
    assert Soundness.from_dict(korean.to_dict()) == korean
    assert Soundness.of(["a dog", "two dogs", "개"]).problems("a big dog") == []
    assert Soundness.of([]).korean
    assert is_korean("TV 보는 개") and not is_korean("a dog 개") and not is_korean("12")


def test_real_captions_are_not_flagged(shared_data: Path) -> None:
    folder = shared_data / "korean_captions"
    for name in ("train.csv", "val.csv"):
        with (folder / name).open(encoding="utf-8") as file:
            captions = [row["caption"] for row in csv.DictReader(file)]
        assert [text for text in captions if problems_of(text)] == []
    with (folder / "train_english.csv").open(encoding="utf-8") as file:
        english = [row["caption"] for row in csv.DictReader(file)]
    assert sum(bool(problems_of(text, korean=False)) for text in english) <= 1  # "The streets of a big city ,"
    assert all("latin" in problems_of(text) for text in english)
