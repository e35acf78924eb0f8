"""Candidates of several models pooled into one list an image."""

import math
from typing import Any

import pandas as pd
import pytest

from src.errors import ProjectError
from src.flows.caption_pool import pooled, spread


def table(rows: dict[str, list[tuple[str, float]]], *, images: bool = False, flags: Any = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": list(rows),
            "fold": -1,
            "candidates": [[text for text, _ in row] for row in rows.values()],
            "candidate_scores": [[value for _, value in row] for row in rows.values()],
            "image_scores": [[0.5] * len(row) if images else None for row in rows.values()],
            "flags": [flags] * len(rows),
        }
    )


def test_what_more_models_propose_comes_first() -> None:
    first = table({"a": [("개", 0.0), ("고양이", 0.0)]})
    second = table({"a": [("고양이", 0.0), ("새", 0.0)]})
    row = pooled([first, second]).iloc[0]
    assert row["candidates"] == ["고양이", "개", "새"]
    assert [math.exp(value) for value in row["candidate_scores"]] == pytest.approx([0.5, 0.25, 0.25])


def test_one_model_is_left_as_it_is() -> None:
    frame = table({"a": [("개", -1.0)]})
    assert pooled([frame]) is frame


def test_weights_and_units() -> None:
    first = table({"a": [("개", 0.0), ("새", math.log(0.25))]})  # 0.8 and 0.2
    second = table({"a": [("소", 7.0)]})
    row = pooled([first, second], weights=[3, 1]).iloc[0]
    assert row["candidates"] == ["개", "소", "새"]
    assert [math.exp(value) for value in row["candidate_scores"]] == pytest.approx([0.6, 0.25, 0.15])
    halved = pooled([first, second], spreads=[2.0, 1.0]).iloc[0]  # softmax of half the difference: 2/3 and 1/3
    assert dict(zip(halved["candidates"], map(math.exp, halved["candidate_scores"]), strict=True)) == pytest.approx(
        {"소": 0.5, "개": 1 / 3, "새": 1 / 6}
    )


def test_a_model_without_weight_proposes_nothing() -> None:
    first, second = table({"a": [("개", 0.0)]}), table({"a": [("소", 0.0)]})
    assert pooled([first, second], weights=[0, 2]).iloc[0]["candidates"] == ["소"]


def test_rows_of_any_order_meet_by_their_ids() -> None:
    first = table({"a": [("개", 0.0)], "b": [("새", 0.0)]})
    second = table({"b": [("소", 0.0)], "a": [("말", 0.0)]})
    result = pooled([first, second])
    assert result["id"].tolist() == ["a", "b"] and set(result.iloc[0]["candidates"]) == {"개", "말"}


def test_image_scores_stay_only_where_all_are_known() -> None:
    first, second = table({"a": [("개", 0.0)]}, images=True), table({"a": [("새", 0.0)]}, images=True)
    assert pooled([first, second]).iloc[0]["image_scores"] == [0.5, 0.5]
    assert pooled([first, table({"a": [("새", 0.0)]})]).iloc[0]["image_scores"] is None


def test_a_flag_stays_where_all_models_had_the_trouble() -> None:
    first, second = table({"a": [("개", 0.0)]}, flags=["retried"]), table({"a": [("새", 0.0)]})
    assert pooled([first, second]).iloc[0]["flags"] is None
    assert pooled([first, first]).iloc[0]["flags"] == ["retried"]


@pytest.mark.parametrize(
    ("weights", "says"), [([1], "give one for each"), ([0, 0], "not all 0"), ([-1, 2], "at least 0")]
)
def test_wrong_weights(weights: list[float], says: str) -> None:
    frame = table({"a": [("개", 0.0)]})
    with pytest.raises(ProjectError, match=says):
        pooled([frame, frame], weights=weights)


def test_models_of_other_images() -> None:
    with pytest.raises(ProjectError, match="other images"):
        pooled([table({"a": [("개", 0.0)]}), table({"b": [("개", 0.0)]})])
    with pytest.raises(ProjectError, match="nothing to blend"):
        pooled([])


def test_spread_is_of_images_with_several_candidates() -> None:
    assert spread(table({"a": [("개", 1.0), ("새", 3.0)], "b": [("소", 9.0)]})) == pytest.approx(1.0)
    assert spread(table({"a": [("개", 1.0)]})) == 1.0
