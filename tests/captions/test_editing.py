"""Edits of captions: what each changes, and that none empties a text."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.captions.editing import Edits, majority
from src.errors import ProjectError


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("개가 달린다", "개가 달린다."),
        ("개가 달린다..", "개가 달린다."),
        ("개가 달린다 .", "개가 달린다."),
        ("개가 달린다 ,", "개가 달린다."),
        ("개가 , 소가  달린다!!", "개가, 소가  달린다!"),
        ("개,, 소", "개, 소."),
        ("개가 달린다...", "개가 달린다..."),
        ("키가 1.5 미터다", "키가 1.5 미터다."),
        ("‘멈춤’이라는 표지판 옆의 “개”", "‘멈춤’이라는 표지판 옆의 “개”"),
        ("...", "..."),
        ("", ""),
    ],
)
def test_period(before: str, after: str) -> None:
    assert Edits(punctuation="period").apply([before]) == [after]
    assert Edits(punctuation="period").apply([after]) == [after]


def test_no_period() -> None:
    texts = ["개가 달린다.", "개가 달린다 . ", "개!", "..."]
    assert Edits(punctuation="none").apply(texts) == ["개가 달린다", "개가 달린다", "개!", "..."]


def test_register_spacing_and_latin() -> None:
    assert Edits(register="polite").apply(["개가 달린다.", "개 한 마리"]) == ["개가 달려요.", "개 한 마리"]
    assert Edits(spacing=True).apply(["흰개 한마리가 풀밭을달린다."]) == ["흰 개 한 마리가 풀밭을 달린다."]
    assert Edits(latin=True).apply(["보더 콜리(Border Collie)가 달린다", "(a dog)", "개(흰색)"]) == [
        "보더 콜리가 달린다",
        "(a dog)",
        "개(흰색)",
    ]


def test_all_edits_together_and_none() -> None:
    edits = Edits(register="formal", punctuation="period", spacing=True, latin=True)
    assert edits.apply(["개한마리(dog)가 달린다", ""]) == ["개 한 마리가 달립니다.", ""]
    assert Edits().apply([" a ", "개 ,"]) == [" a ", "개 ,"]
    assert Edits.from_dict(edits.to_dict()) == edits and Edits.from_dict({}) == Edits()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(alphabet="개가달린다 .,!?()aB…”0", max_size=20), max_size=4))
def test_never_empties_a_text(texts: list[str]) -> None:
    for punctuation in ("period", "none"):
        edits = Edits(register="formal", punctuation=punctuation, spacing=True, latin=True)
        for before, after in zip(texts, edits.apply(texts), strict=True):
            assert any(map(str.isalnum, after)) == any(map(str.isalnum, before))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"register": "casual"}, "plain, polite, formal"),
        ({"punctuation": "perod"}, "Did you mean 'period'"),
        ({"spacing": "yes"}, "true or false"),
        ({"regster": "plain"}, "Did you mean 'register'"),
    ],
)
def test_wrong_options_say_what_to_type(values: dict, words: str) -> None:
    with pytest.raises(ProjectError, match=words):
        Edits.from_dict(values)


def test_majority() -> None:
    assert majority(["개가 달린다.", "개가 뛴다.", "소가 있어요", "흰 개", "흰 소."]) == Edits(
        register="plain", punctuation="period"
    )
    assert majority(["개가 달린다", "소가 있어요."]) == Edits()
    assert majority(["흰 개", "소"]) == Edits(punctuation="none")
    assert majority([]) == Edits()
    assert majority(["개가 달린다.", "개가 뛴다.", "소가 있어요"], share=0.8) == Edits()


def test_majority_of_real_captions(shared_data: Path) -> None:
    with (shared_data / "korean_captions" / "train.csv").open(encoding="utf-8") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    assert majority(captions, share=0.8) == Edits(register="plain", punctuation="period")
