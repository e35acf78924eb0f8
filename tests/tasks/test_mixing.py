"""MixUp, CutMix and label smoothing: images and targets by hand, and the same again from the generator's state."""

import numpy as np
import pytest
import torch
from torch import Tensor

from src.errors import ProjectError
from src.tasks.mixing import Mixing

OFF = {"mixup": 0.0, "cutmix": 0.0, "probability": 0.0, "switch": 0.5, "label_smoothing": 0.0}


def batch(n: int, size: int = 16) -> tuple[Tensor, Tensor]:
    """Images of which every pixel says the image's number, and classes 0, 1, 2, 0, …"""
    images = torch.arange(n, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, size, size).contiguous()
    return images, torch.arange(n) % 3


def test_options_that_change_nothing_are_none() -> None:
    assert Mixing.from_options(OFF, 3) is None
    assert Mixing.from_options({}, 3) is None and Mixing.from_options(None, 3) is None


@pytest.mark.parametrize("n", [1, 4, 5])
def test_label_smoothing_alone(n: int) -> None:
    mixing = Mixing.from_options(OFF | {"label_smoothing": 0.3}, 3)
    images, classes = batch(n)
    same, targets = mixing(images, classes)
    assert torch.equal(same, images)
    assert targets.dtype == torch.float32
    expected = torch.full((n, 3), 0.1)
    expected[torch.arange(n), classes] = 0.8
    torch.testing.assert_close(targets, expected)


@pytest.mark.parametrize("n", [2, 6, 7])
def test_mixup_by_hand(n: int) -> None:
    """Pixels give λ away; targets must be mixed by the same λ, after smoothing."""
    np.random.seed(3)
    images, classes = batch(n)
    mixing = Mixing.from_options(OFF | {"mixup": 1.0, "probability": 1.0, "label_smoothing": 0.15}, 3)
    mixed, targets = mixing(images, classes)
    assert mixed.shape == images.shape and targets.shape == (n, 3)
    even = n - n % 2
    partner = list(reversed(range(even))) + list(range(even, n))
    share = float((mixed[0, 0, 0, 0] - partner[0]) / (0 - partner[0]))
    assert 0.01 < share < 0.99
    smooth = torch.full((n, 3), 0.05)
    smooth[torch.arange(n), classes] = 0.9
    for i in range(n):
        lam = share if i < even else 1.0
        assert torch.allclose(mixed[i], torch.full_like(mixed[i], lam * i + (1 - lam) * partner[i]), atol=1e-5)
        torch.testing.assert_close(targets[i], lam * smooth[i] + (1 - lam) * smooth[partner[i]])
    torch.testing.assert_close(targets.sum(1), torch.ones(n))


@pytest.mark.parametrize("n", [4, 5])
def test_cutmix_by_hand(n: int) -> None:
    """λ is the share of pixels that are still the image's own, also where the box was cut at the border."""
    images, classes = batch(n, size=20)
    mixing = Mixing.from_options(OFF | {"cutmix": 1.0, "probability": 1.0}, 3)
    shares = []
    for seed in range(8):
        np.random.seed(seed)
        mixed, targets = mixing(images, classes)
        even = n - n % 2
        for i in range(n):
            other = even - 1 - i if i < even else i
            assert set(mixed[i].unique().tolist()) <= {float(i), float(other)}
            share = float((mixed[i] == i).float().mean()) if other != i else 1.0
            expected = torch.zeros(3)
            expected[classes[i]] += share
            expected[classes[other]] += 1 - share
            torch.testing.assert_close(targets[i], expected)
        shares.append(float((mixed[0] == 0).float().mean()))
    assert len(set(shares)) > 4 and min(shares) < 0.6


def test_switch_chooses_between_them() -> None:
    images, classes = batch(4)
    np.random.seed(0)
    for switch, of_one_value in ((0.0, True), (1.0, False)):
        mixing = Mixing.from_options(
            OFF | {"mixup": 1.0, "cutmix": 1.0, "probability": 1.0, "switch": switch}, 3
        )
        found = [bool((m := mixing(images, classes)[0])[0].min() == m[0].max()) for _ in range(10)]
        assert all(found) if of_one_value else not all(found)


def test_probability_leaves_batches_alone() -> None:
    images, classes = batch(4)
    mixing = Mixing.from_options(OFF | {"mixup": 1.0, "probability": 0.5}, 3)
    np.random.seed(0)
    untouched = sum(torch.equal(mixing(images, classes)[0], images) for _ in range(200))
    assert 70 < untouched < 130


def test_the_input_is_kept_and_numpys_state_decides() -> None:
    images, classes = batch(6)
    before = images.clone()
    mixing = Mixing.from_options(OFF | {"mixup": 0.4, "cutmix": 1.0, "probability": 0.8}, 3)
    np.random.seed(1)
    mixing(images, classes)
    state = np.random.get_state()
    first = [mixing(images, classes) for _ in range(5)]
    np.random.set_state(state)
    again = [mixing(images, classes) for _ in range(5)]
    assert torch.equal(images, before)
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))


def test_half_precision_images_keep_their_type() -> None:
    images, classes = batch(3)
    mixing = Mixing.from_options(OFF | {"mixup": 1.0, "probability": 1.0}, 3)
    mixed, targets = mixing(images.bfloat16(), classes)
    assert mixed.dtype == torch.bfloat16 and targets.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixUp": 1.0}, "Did you mean 'mixup'"),
        ({"cutmix": "yes"}, "expected a number"),
        ({"mixup": True}, "expected a number"),
        ({"mixup": -1.0, "probability": 1.0}, "mixing.mixup=-1.0"),
        ({"mixup": 1.0, "probability": 1.5}, "mixing.probability=1.5"),
        ({"label_smoothing": 1.0}, "mixing.label_smoothing"),
        ({"mixup": 0.2}, "mixes nothing.*probability=0.5"),
        ({"probability": 0.5}, "mixes nothing"),
    ],
)
def test_mistakes_are_named(options: dict, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        Mixing.from_options(OFF | options, 3)
