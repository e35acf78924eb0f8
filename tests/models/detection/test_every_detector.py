"""One contract for every detector: losses, gradients, answers and rebuilding from plain options and a state dict."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from src.hub_models import prepare_network
from src.tasks.networks import network_class
from tests.models.detection.tiny_detectors import OPTIONS

SIZE = (64, 64)
NAMES = ["cat", "fire truck", "dog"]


def options_of(name: str) -> tuple[type, dict[str, Any], dict[str, Any]]:
    """A detector's class, its plain options as a checkpoint keeps them, and what the first construction gets."""
    given = OPTIONS[name]
    if "ultralytics" in given["_target_"] and find_spec("ultralytics") is None:
        pytest.skip("ultralytics, an optional extra, is not installed")
    kind = network_class(given["_target_"])
    options, first = {key: value for key, value in given.items() if key != "_target_"}, {"weights": None}
    if hasattr(kind, "checkpoints"):
        prepared = prepare_network(
            kind, options, weights="random", weights_dir=None, bundled=False, class_names=NAMES, warn=print
        )
        options, first = prepared.options, prepared.initial
    return kind, {**options, "num_classes": len(NAMES), "image_size": list(SIZE)}, first


@pytest.fixture(scope="module")
def built() -> Callable[[str], tuple[type, dict[str, Any], torch.nn.Module]]:
    """Builds each detector once; tests leave it in evaluation mode."""
    kept: dict[str, Any] = {}

    def build(name: str) -> tuple[type, dict[str, Any], torch.nn.Module]:
        if name not in kept:
            kind, options, first = options_of(name)
            torch.manual_seed(0)
            kept[name] = (kind, options, kind(**options, **first).eval())
        return kept[name]

    return build


def images(number: int = 3) -> torch.Tensor:
    return torch.randn(number, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def target(boxes: list[list[float]], labels: list[int], *, tags: list[int] = (), known: bool = True) -> dict[str, Any]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "tags": torch.tensor(list(tags) or labels, dtype=torch.int64),
        "has_boxes": known,
    }


# Close relatives of others here; `pytest -m slow` takes them as well.
RELATIVES = ("rt_detr", "conditional_detr", "dab-detr", "omdet-turbo", "fcos on torchvision's mobilenet")
EVERY = [pytest.param(name, marks=pytest.mark.slow) if name in RELATIVES else name for name in OPTIONS]
BOXES = [[4.0, 4.0, 40.0, 40.0], [30.0, 10.0, 60.0, 62.0]]
BATCHES = {
    "boxes, none, and tags only": [target(BOXES, [1, 2]), target([], []), target([], [], tags=[0], known=False)],
    "no boxes at all": [target([], [])] * 3,
    "tags only": [target([], [], tags=[2], known=False)] * 3,
    "a box without an area": [target([*BOXES, [7.0, 7.0, 7.0, 20.0]], [1, 2, 0])] * 3,
}


@pytest.mark.parametrize("name", EVERY)
def test_losses_are_finite_and_teach(name: str, built) -> None:
    network = built(name)[2].train()
    try:
        for what, targets in BATCHES.items():
            network.zero_grad()
            losses = network.loss(images(), targets)
            assert losses and all(value.ndim == 0 and torch.isfinite(value) for value in losses.values()), what
            sum(losses.values()).backward()
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients), what
            moved = sum(float(gradient.abs().sum()) for gradient in gradients)
            assert (moved > 0) or what == "tags only", what
    finally:
        network.eval()


@pytest.mark.parametrize("name", EVERY)
def test_images_of_unknown_boxes_add_nothing(name: str, built) -> None:
    """What is written where `has_boxes` is False must not reach the loss (tags may)."""
    network = built(name)[2].train()
    try:
        values = []
        for hidden in ([], BOXES):
            torch.manual_seed(3)
            unknown = target(hidden, [0] * len(hidden), known=False)
            unknown["tags"] = torch.zeros(0, dtype=torch.int64)
            with torch.no_grad():
                losses = network.loss(images(), [target(BOXES, [1, 2]), unknown, target(BOXES, [0, 1])])
            values.append(float(sum(losses.values())))
        assert values[0] == pytest.approx(values[1], rel=1e-5) and values[0] > 0
    finally:
        network.eval()


@pytest.mark.parametrize("name", EVERY)
def test_answers_are_clipped_sorted_and_bounded(name: str, built) -> None:
    _, options, network = built(name)
    found = network.detect(images())
    assert len(found) == 3
    for one in found:
        boxes, scores, labels = one["boxes"], one["scores"], one["labels"]
        assert len(boxes) == len(scores) == len(labels) <= options.get("max_detections", 100)
        assert boxes.dtype == scores.dtype == torch.float32 and labels.dtype == torch.int64
        assert boxes.shape[1] == 4 and not boxes.requires_grad
        assert (boxes >= 0).all() and (boxes <= 64).all() and (boxes[:, 2:] >= boxes[:, :2]).all()
        assert (scores >= 0).all() and (scores <= 1).all() and (scores.diff() <= 0).all()
        assert (labels >= 0).all() and (labels < len(NAMES)).all()
    assert sum(len(one["boxes"]) for one in found), "the floor of this test keeps something"


@pytest.mark.parametrize("name", EVERY)
def test_rebuilt_from_options_and_a_state_dict(name: str, built) -> None:
    kind, options, network = built(name)
    torch.manual_seed(7)
    again = kind(**json.loads(json.dumps(options)))  # plain: JSON keeps it
    again.load_state_dict(network.state_dict())
    assert again.report is None
    for old, new in zip(network.detect(images()), again.eval().detect(images()), strict=True):
        assert len(old["boxes"]) == len(new["boxes"])
        for key in ("boxes", "scores", "labels"):
            assert torch.equal(old[key], new[key]), key


@pytest.mark.parametrize("name", EVERY)
def test_half_precision_does_not_stop_it(name: str, built) -> None:
    network = built(name)[2]
    with torch.autocast("cpu", torch.bfloat16):
        found = network.detect(images())
        network.train()
        losses = network.loss(images(), BATCHES["boxes, none, and tags only"])
        network.eval()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(one["boxes"]).all() and torch.isfinite(one["scores"]).all() for one in found)


@pytest.mark.parametrize("name", EVERY)
def test_every_trained_parameter_is_in_one_group(name: str, built) -> None:
    network = built(name)[2]
    if not hasattr(network, "parameter_groups"):
        pytest.skip("the task's own grouping")
    groups = network.parameter_groups(0.01, 0.1)
    ids = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    for group in groups:
        if any(parameter.ndim <= 1 for parameter in group["params"]):
            assert group["weight_decay"] == 0
