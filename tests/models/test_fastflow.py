"""FastFlow: anomalib's network on its backbones, and any other backbone."""

import pytest
import torch
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import FastflowModel

from src.errors import ProjectError
from src.models.anomaly.fastflow import FastFlow

SIZE = (64, 96)


def make(**options: object) -> FastFlow:
    torch.manual_seed(0)
    return FastFlow(**{"backbone": "resnet18", "image_size": SIZE, "flow_steps": 3} | options)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("conv3x3_only", [False, True])
def test_equals_anomalib_with_the_same_weights(conv3x3_only: bool, images: torch.Tensor) -> None:
    model = make(conv3x3_only=conv3x3_only, hidden_ratio=0.5)
    for parameter in model.norms.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    reference = FastflowModel(SIZE, "resnet18", False, flow_steps=3, conv3x3_only=conv3x3_only, hidden_ratio=0.5)
    reference.feature_extractor.load_state_dict(model.features.model.state_dict())
    reference.norms.load_state_dict(model.norms.state_dict())
    reference.fast_flow_blocks.load_state_dict(model.flows.state_dict())
    with torch.no_grad():
        expected = reference.eval()(images)
    answer = model(images)
    assert answer.score.shape == (3,)
    torch.testing.assert_close(answer.score, expected.pred_score.flatten())
    torch.testing.assert_close(answer.anomaly_map, expected.anomaly_map)
    loss, expected_loss = model.loss(images), FastflowLoss()(*reference.train()(images))
    torch.testing.assert_close(loss, expected_loss)
    loss.backward()
    expected_loss.backward()
    for mine, theirs in zip(model.flows.parameters(), reference.fast_flow_blocks.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("backbone", "layers"), [("mobilenetv2_100", ["blocks.1", "blocks.2"]), ("test_vit", ["blocks.3"])]
)
def test_any_backbone_learns(backbone: str, layers: list[str], images: torch.Tensor) -> None:
    model = make(backbone=backbone, layers=layers).train()
    frozen = {name: value.clone() for name, value in model.features.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = model.loss(images)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, frozen[name]) for name, value in model.features.state_dict().items())


def test_state_dict_restores_everything(images: torch.Tensor) -> None:
    model = make()
    torch.manual_seed(9)
    fresh = FastFlow(backbone="resnet18", image_size=SIZE, flow_steps=3)
    assert not torch.equal(fresh(images).score, model(images).score)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(images).anomaly_map, model(images).anomaly_map)


def test_one_seed_decides_the_permutations(images: torch.Tensor) -> None:
    assert torch.equal(make()(images).score, make()(images).score)


def test_refusals(images: torch.Tensor) -> None:
    with pytest.raises(ProjectError, match="64×96 pixels, not 64×64"):
        make()(images[..., :64])
    with pytest.raises(ProjectError, match="flow_steps"):
        make(flow_steps=0)
