"""Captions are composed, on one line, without anything unseen, and what was wrong is said."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.captions.cleaning import clean_caption, is_nothing

GOOD = "한 남자가 '빨간' 자전거를 탄다. 50% ½, A/B — “좋다”"


def test_a_good_caption_is_left_alone() -> None:
    assert clean_caption(GOOD) == (GOOD, [])
    assert clean_caption('"인용된 문장"') == ('"인용된 문장"', [])


@pytest.mark.parametrize(
    ("raw", "clean", "problems"),
    [
        (unicodedata.normalize("NFD", "개가 달린다."), "개가 달린다.", ["not NFC"]),
        ("개가\u3000달린다.", "개가 달린다.", ["odd space"]),
        ("개가\u00a0\u00a0달린다.", "개가 달린다.", ["odd space", "run of spaces"]),
        ("개가\u3164달린다.", "개가 달린다.", ["odd space"]),
        ("\ufeff개가 달린다.", "개가 달린다.", ["invisible character"]),
        ("개\u200b가 달\u00ad린다.", "개가 달린다.", ["invisible character"]),
        ("개가\r\n달린다.\t", "개가 달린다.", ["line break or tab", "run of spaces", "space at an end"]),
        ("개가\u2028달린다.", "개가 달린다.", ["line break or tab"]),
        ("개가\x00 달\x7f린다.\ud83d", "개가 달린다.", ["control character"]),
        ("  개가   달린다. ", "개가 달린다.", ["run of spaces", "space at an end"]),
        ("개가 \ufffd린다.", "개가 \ufffd린다.", ["U+FFFD"]),
        ("", "", ["empty"]),
        (" NaN ", "", ["space at an end", "empty"]),
        ("\u200b", "", ["invisible character", "empty"]),
    ],
)
def test_what_is_mended(raw: str, clean: str, problems: list[str]) -> None:
    assert clean_caption(raw) == (clean, problems)


def test_letters_that_something_unseen_kept_apart_are_composed() -> None:
    assert clean_caption("ᄀ\u200bᅡ방")[0] == "가방"


def test_a_joined_emoji_stays_whole() -> None:
    family = "가족 👨\u200d👩\u200d👧 ❤\ufe0f\u200d🔥"
    assert clean_caption(family) == (family, [])
    assert clean_caption("가\u200d족") == ("가족", ["invisible character"])


@pytest.mark.parametrize("text", ["nan", "None", "NULL", " n/a ", "<NA>", "[]", ""])
def test_marks_of_a_missing_value(text: str) -> None:
    assert is_nothing(text)


def test_words_are_no_missing_value() -> None:
    assert not any(map(is_nothing, ("없음", "낸", "nana", "-", ".")))


@given(st.text())
def test_cleaning_ends(text: str) -> None:
    """Once is enough; the result is NFC, one line, encodable, without spaces at its ends."""
    clean, _ = clean_caption(text)
    again, problems = clean_caption(clean)
    assert again == clean and set(problems) <= {"U+FFFD", "empty"}
    assert unicodedata.is_normalized("NFC", clean) and clean == clean.strip() and "  " not in clean
    clean.encode()
    assert len(clean.splitlines()) <= 1
