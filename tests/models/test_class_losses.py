"""Losses of classifiers against hand computation, torch and torchvision."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from src.errors import ProjectError
from src.models.anomaly.class_losses import EFFECTIVE_BETA, class_loss, class_weights, soft_targets

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0], [-1.0, 4.0, 0.0], [0.1, 0.2, 0.3]])
CLASSES = torch.tensor([0, 1, 1, 2])


def test_cross_entropy_is_that_of_torch() -> None:
    weights = torch.tensor([0.5, 2.0, 1.5])
    hard = soft_targets(CLASSES, 3)
    torch.testing.assert_close(class_loss(LOGITS, hard), F.cross_entropy(LOGITS, CLASSES))
    torch.testing.assert_close(
        class_loss(LOGITS, hard, weights=weights), F.cross_entropy(LOGITS, CLASSES, weight=weights)
    )
    soft = torch.tensor([[0.7, 0.3, 0.0], [0.1, 0.1, 0.8], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]])
    torch.testing.assert_close(class_loss(LOGITS, soft), F.cross_entropy(LOGITS, soft))


def test_focal_loss_by_hand() -> None:
    """Two classes, logits 0 and log 3: p = 1/4 and 3/4."""
    logits = torch.tensor([[0.0, math.log(3)]])
    low = (3 / 4) ** 2 * math.log(4)
    high = (1 / 4) ** 2 * math.log(4 / 3)
    assert class_loss(logits, torch.tensor([[1.0, 0.0]]), gamma=2.0).item() == pytest.approx(low, rel=1e-6)
    assert class_loss(logits, torch.tensor([[0.0, 1.0]]), gamma=2.0).item() == pytest.approx(high, rel=1e-6)
    mixed = class_loss(logits, torch.tensor([[0.25, 0.75]]), gamma=2.0).item()
    assert mixed == pytest.approx(0.25 * low + 0.75 * high, rel=1e-6)
    weights = torch.tensor([3.0, 1.0])
    weighted = class_loss(logits.repeat(2, 1), torch.eye(2), gamma=2.0, weights=weights).item()
    assert weighted == pytest.approx((3 * low + high) / 4, rel=1e-6)


def test_focal_loss_of_two_classes_is_torchvisions() -> None:
    """A softmax over logits 0 and z is a sigmoid of z."""
    z = torch.tensor([-2.0, 0.3, 1.7])
    truth = torch.tensor([0, 1, 1])
    logits = torch.stack([torch.zeros(3), z], dim=1)
    expected = sigmoid_focal_loss(z, truth.float(), alpha=-1, gamma=1.5, reduction="mean")
    torch.testing.assert_close(class_loss(logits, soft_targets(truth, 2), gamma=1.5), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_stay_finite_where_the_answer_is_sure(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0], [30.0, 0.0]], requires_grad=True)
    class_loss(logits, soft_targets(torch.tensor([0, 0, 0]), 2), gamma=gamma).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad[1].abs().sum() > 0


def test_half_precision_is_computed_in_full() -> None:
    loss = class_loss(LOGITS.half(), soft_targets(CLASSES, 3), gamma=2.0)
    assert loss.dtype == torch.float32


def test_balanced_weights() -> None:
    weights = class_weights("balanced", [240, 20, 0], 3)
    torch.testing.assert_close(weights, torch.tensor([260 / 480, 260 / 40, 0.0]))
    # each class weighs the same in all
    assert weights[0] * 240 == pytest.approx(float(weights[1] * 20))
    assert class_weights(None, [], 3) is None


def test_effective_weights() -> None:
    """Cui et al. 2019, equation 5: E_n = (1 − βⁿ) / (1 − β), weights 1 / E_n scaled to the sum C."""
    counts = [100, 5]
    effective = [(1 - EFFECTIVE_BETA**n) / (1 - EFFECTIVE_BETA) for n in counts]
    scale = 2 / (1 / effective[0] + 1 / effective[1])
    expected = torch.tensor([scale / effective[0], scale / effective[1]])
    weights = class_weights("effective", counts, 2)
    torch.testing.assert_close(weights, expected)
    balanced = class_weights("balanced", counts, 2)
    assert 1 < weights[1] / weights[0] < balanced[1] / balanced[0]


@pytest.mark.parametrize(
    ("kind", "counts", "message"),
    [
        ("balance", [1, 2], "Did you mean 'balanced'"),
        ("balanced", [], "needs the number of training images of each of 2 classes"),
        ("effective", [1, 2, 3], "each of 2 classes"),
        ("effective", [0, 0], "each of 2 classes"),
    ],
)
def test_mistakes_are_named(kind: str, counts: list[int], message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        class_weights(kind, counts, 2)


def test_targets_are_checked() -> None:
    assert soft_targets(CLASSES, 3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    with pytest.raises(ProjectError, match="images of unknown class"):
        soft_targets(torch.tensor([0, -1]), 3)
    with pytest.raises(ProjectError, match="knows classes 0 to 1"):
        soft_targets(CLASSES, 2)
    with pytest.raises(ProjectError, match="targets of 3 classes"):
        soft_targets(torch.eye(3), 2)
