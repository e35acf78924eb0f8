"""Learning-rate schedules, optimisers by name, and the moving average of weights."""

import copy
from types import SimpleNamespace

import pytest
import torch

from src.errors import ProjectError
from src.tasks.callbacks import MovingAverage, averaging
from src.tasks.optimization import build_optimizer

TRAINER = SimpleNamespace(estimated_stepping_batches=100)


def rates(**options) -> list[float]:
    parameter = torch.nn.Parameter(torch.zeros(1))
    built = build_optimizer([parameter], {"lr": 1.0, **options}, TRAINER)
    optimizer, scheduler = built["optimizer"], built["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(100):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_warm_up_rises_in_a_line_and_the_cosine_falls_to_nothing() -> None:
    found = rates(schedule="cosine", warmup=0.1)
    assert found[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert found[10] == pytest.approx(1.0) and found[55] == pytest.approx(0.5, abs=1e-6) and found[99] < 0.001
    assert rates(schedule="constant", warmup=0.2)[20:] == pytest.approx([1.0] * 80)


def test_mistakes_are_named() -> None:
    parameter = [torch.nn.Parameter(torch.zeros(1))]
    for options, words in (({"optimizer": "adamW2"}, "adamw"), ({"schedule": "cosin"}, "cosine"),
                           ({"warmup": 1.5}, "share of the steps")):  # fmt: skip
        with pytest.raises(ProjectError, match=words):
            build_optimizer(parameter, {"lr": 0.1, **options}, TRAINER)
    with pytest.raises(ProjectError, match="between 0 and 1"):
        averaging(1.5)
    assert averaging(None) == [] and averaging(0) == []


def test_the_average_follows_early_and_slows_down() -> None:
    average = MovingAverage(0.99)
    kept, now = [torch.zeros(2)], [torch.ones(2)]
    average._average(kept, now, torch.tensor(1))
    assert torch.allclose(kept[0], torch.full((2,), 1 - 2 / 11))
    slow = [torch.zeros(2)]
    average._average(slow, now, torch.tensor(100_000))
    assert torch.allclose(slow[0], torch.full((2,), 0.01))
    counters = [torch.tensor(3)]
    average._average(counters, [torch.tensor(7)], torch.tensor(1))
    assert counters[0] == 7


def test_the_average_can_be_copied_into_a_process() -> None:
    assert copy.deepcopy(MovingAverage(0.9)).decay == 0.9
