"""Left and right change places in a caption, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.captions.sides import side_word, swap_sides


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("왼쪽에 개가, 오른쪽에는 고양이가 있다.", "오른쪽에 개가, 왼쪽에는 고양이가 있다."),
        ("좌측의 남자와 우측의 여자", "우측의 남자와 좌측의 여자"),
        ("길 왼편에서 오른편으로 걷는다.", "길 오른편에서 왼편으로 걷는다."),
        ("오른손에 컵을 들고 왼발을 든다.", "왼손에 컵을 들고 오른발을 든다."),
        ("차가 좌회전한다.", "차가 우회전한다."),
        ("The Left dog, LEFT of a right-handed man", "The Right dog, RIGHT of a left-handed man"),
        ("남자의 left쪽", "남자의 right쪽"),
    ],
)
def test_sides_change_places(text: str, swapped: str) -> None:
    assert swap_sides(text) == swapped and swap_sides(swapped) == text
    assert side_word(text) is not None


@pytest.mark.parametrize(
    "text", ["산에 오른 사람", "말에 오른 손님", "좌우측 모두", "우편함 옆 좌석", "bright", "떠오른 해", "외국인"]
)
def test_what_names_no_side_stays(text: str) -> None:
    assert swap_sides(text) == text and side_word(text) is None


def test_the_word_as_it_is_written() -> None:
    assert side_word("개의 오른쪽에는 공") == "오른쪽에는"


@given(st.lists(st.sampled_from(["왼", "오른", "쪽", "편", "손", "좌", "우", "측", " ", "left", "Right", "개"])))
def test_twice_is_nothing(parts: list[str]) -> None:
    assert swap_sides(swap_sides("".join(parts))) == "".join(parts)
