"""Suppression is chosen by the out-of-fold metric, and only where it gains more than chance."""

import numpy as np
import pytest

from src.boxes.postprocess import CANDIDATES, Postprocess, tune_postprocess
from src.boxes.types import Detections, Truth
from src.errors import ProjectError
from src.metrics.registry import get_metric


def doubled(seed: int) -> tuple[Detections, Truth]:
    """One object found twice, the second box a little aside and nearly as sure; another found once, less surely."""
    random = np.random.default_rng(seed)
    left, top = random.uniform(0, 40, 2)
    first = [left, top, left + 40, top + 40]
    aside = [left + 6, top, left + 46, top + 40]
    other = [120.0, 20, 150, 60]
    found = Detections([first, aside, other], [0.9, 0.85, 0.5], [0, 0, 0])
    return found, Truth([first, other], [0, 0])


def test_repeated_boxes_are_suppressed_where_the_metric_gains() -> None:
    pairs = [doubled(seed) for seed in range(12)]
    truth = [one for _, one in pairs]
    metric = get_metric("map50")
    chosen, values = tune_postprocess([f for f, _ in pairs], lambda found: metric.value(found, truth, n_classes=1))
    assert chosen.method != "none"
    assert values[str(chosen)] > values[str(CANDIDATES[0])] + 0.002
    kept = chosen.apply(pairs[0][0])
    assert kept.scores.max() == 0.9 and (kept.scores > 0.6).sum() == 1


def test_the_detectors_own_boxes_stay_without_a_gain() -> None:
    found = [Detections([[0, 0, 10, 10]], [0.9], [0])]
    chosen, values = tune_postprocess(found, lambda _: 0.7)
    assert chosen == Postprocess() and len(values) == len(CANDIDATES)
    assert tune_postprocess(found, lambda _: None)[0] == Postprocess()


def test_it_is_kept_as_plain_values() -> None:
    for candidate in CANDIDATES:
        assert Postprocess.from_dict(candidate.to_dict()) == candidate
    with pytest.raises(ProjectError, match="soft_nms"):
        Postprocess(method="softnms")
