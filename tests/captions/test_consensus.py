"""Expected utility against sums written out, and consensus under real metrics."""

import numpy as np
import pytest

from src.captions.consensus import consensus, expected_utility, medoid, votes
from src.metrics.caption.measure import Frequencies, parse_caption_metric


def test_expected_utility_leaves_out_the_candidate_itself() -> None:
    matrix = np.array([[9.0, 1.0, 2.0], [3.0, 9.0, 4.0], [5.0, 6.0, 0.0]])
    found = expected_utility(matrix, np.array([0.2, 0.3, 0.5]))
    assert found == pytest.approx([(0.3 * 1 + 0.5 * 2) / 0.8, (0.2 * 3 + 0.5 * 4) / 0.7, (0.2 * 5 + 0.3 * 6) / 0.5])


def test_alone_or_without_weight_of_others_there_is_no_evidence() -> None:
    assert expected_utility(np.array([[7.0]]), np.ones(1)).tolist() == [0.0]
    assert expected_utility(np.zeros((0, 0)), np.zeros(0)).shape == (0,)
    assert expected_utility(np.full((2, 2), 3.0), np.array([1.0, 0.0])).tolist() == [0.0, 3.0]


def test_votes() -> None:
    assert votes(np.array([-5.0, 3.0]), None).tolist() == [0.5, 0.5]
    assert votes(np.array([0.0, np.log(3.0)]), 1.0) == pytest.approx([0.25, 0.75])
    assert votes(np.array([0.0, np.log(3.0)]), 0.5) == pytest.approx([0.1, 0.9])
    assert votes(np.array([0.0, np.nan]), 1.0) == pytest.approx([0.5, 0.5])
    assert votes(np.array([np.nan, np.nan]), 1.0) == pytest.approx([0.5, 0.5])
    assert votes(np.array([-1e5, -1e5 + 1]), 1.0).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["rouge_l", "cider_d", "0.5*meteor + 0.5*bleu4", "chrf@char"])
def test_the_odd_one_out_loses(name: str) -> None:
    group = ["자동차가 도로에 서 있다", "갈색 개가 풀밭을 달린다", "갈색 개가 풀밭에서 달린다", "개가 풀밭을 달린다"]
    training = [[text] for text in (*group, "여자가 웃는다", "아이가 논다")]
    metric = parse_caption_metric(name)
    frequencies = Frequencies.of(training, metric.tokenizer)
    (found,) = consensus(metric, [group], [np.ones(4)], frequencies)
    assert found.argmin() == 0 and found.argmax() in (1, 2, 3)


def test_medoid_is_the_central_text_and_ties_go_to_the_more_frequent() -> None:
    metric = parse_caption_metric("rouge_l")
    assert medoid(metric, ["소가 잔다", "개가 풀밭을 달린다", "흰 개가 풀밭을 달린다"]) != "소가 잔다"
    exact = parse_caption_metric("exact_match")
    assert medoid(exact, ["가", "나", "다", "나"]) == "나"
    assert medoid(exact, ["가", "나"]) == "가"
    assert medoid(exact, ["가"]) == "가"
