"""Patterns of targets: what is a pattern, and how targets with several readings are split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.target_pattern import Parts, parse_pattern, split_targets, suggested_pattern

DASH = parse_pattern("{category}-{state}")


@pytest.mark.parametrize(
    ("text", "target", "parts"),
    [
        ("{category}-{state}", "tile-good", Parts("tile", "good")),
        ("{state}_of_{category}", "crack_of_타일", Parts("타일", "crack")),
        ("{category} / {state}", "metal nut / 긁힘 큰", Parts("metal nut", "긁힘 큰")),
        ("<{category}:{state}>", "<a:b>", Parts("a", "b")),
        ("{{{state}}}", "{good}", Parts(None, "good")),
        ("class {state}", "class 3", Parts(None, "3")),
    ],
)
def test_split_and_composed(text: str, target: str, parts: Parts) -> None:
    pattern = parse_pattern(text)
    assert pattern.ways(target) == [parts] and pattern.compose(parts) == target
    assert split_targets(pattern, [target], normal=["good"]) == {target: parts}
    assert pattern.has_category == (parts.category is not None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{category}{state}", "text must stand between"),
        ("{category}", r"\{category\} alone; the state"),
        ("label", "has no field"),
        ("{state}-{state}", "stands there twice"),
        ("{kind}-{state}", r"braces hold \{category\} or \{state\}"),
        ("{category}-{state:>3}", "braces hold"),
        ("{category}-{}", "braces hold"),
        ("{category-{state}", "braces hold|expected"),
    ],
)
def test_what_is_no_pattern(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_pattern(text)
    assert '"{category}-{state}"' in str(caught.value)


@pytest.mark.parametrize("target", ["good", "-good", "tile-", "-", "", "tile_good"])
def test_targets_that_do_not_fit(target: str) -> None:
    assert split_targets(DASH, [target], normal=["good"]) == {target: None}


def test_the_last_separator_where_nothing_else_is_known() -> None:
    assert split_targets(DASH, ["metal_nut-good-2"], normal=["good"]) == {
        "metal_nut-good-2": Parts("metal_nut-good", "2")
    }
    assert split_targets(DASH, ["a--b"], normal=["good"]) == {"a--b": Parts("a-", "b")}


def test_a_normal_state_decides() -> None:
    found = split_targets(DASH, ["metal-nut-not-bad", "x-not-bad"], normal=["not-bad"])
    assert found == {"metal-nut-not-bad": Parts("metal-nut", "not-bad"), "x-not-bad": Parts("x", "not-bad")}
    both = split_targets(DASH, ["x-very-good"], normal=["good", "very-good"])  # two readings are normal: the last one
    assert both == {"x-very-good": Parts("x-very", "good")}


def test_a_known_category_decides() -> None:
    targets = ["metal-nut-bent-end", "metal-nut-good", "tile-gray-stroke", "tile-crack"]
    found = split_targets(DASH, targets, normal=["good"])
    assert found["metal-nut-bent-end"] == Parts("metal-nut", "bent-end")
    assert found["tile-gray-stroke"] == Parts("tile", "gray-stroke")
    assert split_targets(DASH, ["wire-end-bent"], normal=["good"], categories=["wire"]) == {
        "wire-end-bent": Parts("wire", "end-bent")
    }
    state_first = parse_pattern("{state}_{category}")
    found = split_targets(state_first, ["good_metal_nut", "broken_metal_nut"], normal=["good"])
    assert found["broken_metal_nut"] == Parts("metal_nut", "broken")


@given(st.lists(st.text("ab-", min_size=1, max_size=8), unique=True), st.randoms())
def test_the_order_of_targets_says_nothing_and_parts_compose(targets: list[str], random) -> None:
    found = split_targets(DASH, targets, normal=["a", "b-a"])
    shuffled = random.sample(targets, len(targets))
    assert split_targets(DASH, shuffled, normal=["a", "b-a"]) == found
    assert list(found) == targets
    for target, parts in found.items():
        fits = "-" in target[1:-1]
        assert (parts is not None) == fits
        if parts is not None:
            assert DASH.compose(parts) == target and all(parts)


def test_a_pattern_that_all_fit() -> None:
    assert suggested_pattern(["tile_good", "metal_nut_bad"]) == "{category}_{state}"
    assert suggested_pattern(["tile_good", "bad"]) is None
    assert suggested_pattern([]) is None
