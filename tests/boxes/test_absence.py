import numpy as np
import pytest

from src.boxes.absence import absent, presence, presence_table, tune_absence
from src.boxes.types import Detections
from src.errors import ProjectError

FOUND = Detections([[0, 0, 9, 9], [0, 0, 5, 5]], [0.2, 0.6], [0, 2])


def test_absence() -> None:
    assert absent(Detections.empty()) and presence(Detections.empty()) == 0
    assert not absent(FOUND) and absent(FOUND, label=0) and absent(FOUND, label=1)
    assert not absent(FOUND, label=0, threshold=0.2)
    assert presence(FOUND, label=2) == presence(FOUND) == 0.6
    assert presence_table([FOUND, Detections.empty()], 3).tolist() == [[0.2, 0, 0.6], [0, 0, 0]]


def test_threshold_is_tuned() -> None:
    random = np.random.default_rng(0)
    scores = np.concatenate([random.uniform(0, 0.35, 300), random.uniform(0.45, 0.9, 20)])
    assert 0.35 < tune_absence(scores, np.arange(320) >= 300) < 0.45
    with pytest.raises(ProjectError, match="one kind only"):
        tune_absence([0.1, 0.2], [0, 0])
