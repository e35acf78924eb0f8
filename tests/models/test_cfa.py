"""CFA: anomalib's network on resnet18, and any other backbone."""

from types import SimpleNamespace

import pytest
import torch
import torchvision
from anomalib.models.image.cfa.loss import CfaLoss
from anomalib.models.image.cfa.torch_model import CfaModel

from src.errors import ProjectError
from src.models.anomaly.cfa import CFA, cluster_means


def make(**options: object) -> CFA:
    torch.manual_seed(0)
    model = CFA(**{"backbone": "resnet18"} | options)
    for name, value in model.features.named_buffers():
        if "running_var" in name:
            value.copy_(torch.rand_like(value) + 0.5)
    return model


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("gamma_d", [1, 4])
def test_equals_anomalib_with_the_same_weights(
    gamma_d: int, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(gamma_d=gamma_d)
    no_download = SimpleNamespace(DEFAULT=None)
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: no_download)
    reference = CfaModel("resnet18", 1, gamma_d, 3, 3, 1e-5)
    reference.feature_extractor.load_state_dict(model.features.model.state_dict())
    reference.descriptor.layer.conv2d.load_state_dict(model.descriptor.conv.state_dict())
    batches = images.split(3)
    model.initialise(batches)
    reference.initialize_centroid([SimpleNamespace(image=batch) for batch in batches])
    torch.testing.assert_close(model.memory_bank, reference.memory_bank.T)

    loss, expected_loss = model.loss(images), CfaLoss(3, 3, 1e-5)(reference.train()(images))
    torch.testing.assert_close(loss, expected_loss, rtol=1e-4, atol=0)
    loss.backward()
    expected_loss.backward()
    gradient, expected_gradient = model.descriptor.conv.weight.grad, reference.descriptor.layer.conv2d.weight.grad
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-4)

    expected = reference.eval()(images)
    answer = model(images)
    assert answer.anomaly_map.shape == (6, 1, 64, 64)
    torch.testing.assert_close(answer.score, expected.pred_score.flatten(), rtol=1e-4, atol=0)
    torch.testing.assert_close(answer.anomaly_map[:, 0], expected.anomaly_map, rtol=1e-4, atol=1e-5)


def test_any_backbone_learns_without_kept_graphs(images: torch.Tensor) -> None:
    model = make(backbone="mobilenetv2_100", layers=["blocks.1", "blocks.2"], gamma_c=2).train()
    model.initialise([images])
    assert len(model.memory_bank) == 16 * 16 // 2
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == ["descriptor.conv.weight", "descriptor.conv.bias"]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = model.loss(images)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_oblong_images(images: torch.Tensor) -> None:
    model = make()
    model.initialise([images[..., :48]])
    assert model(images[..., :48]).anomaly_map.shape == (6, 1, 64, 48)


def test_memory_of_blocks_does_not_matter(images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    model.initialise([images])
    expected = model.loss(images)
    monkeypatch.setattr("src.models.anomaly.neighbors._BLOCK_ELEMENTS", 1)
    torch.testing.assert_close(model.loss(images), expected)


def test_state_dict_restores_everything(images: torch.Tensor) -> None:
    model = make()
    model.initialise([images])
    fresh = CFA(backbone="resnet18")
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(images).anomaly_map, model(images).anomaly_map)


def test_cluster_means() -> None:
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = (centers.repeat(50, 1, 1) + 0.1 * torch.randn(50, 3, 2)).flatten(0, 1)
    found = min(
        (cluster_means(points, 3, seed=seed) for seed in range(5)), key=lambda c: torch.cdist(points, c).amin(1).sum()
    )
    assert torch.cdist(centers, found).amin(1).max() < 0.2
    assert torch.equal(cluster_means(points, 3, seed=1), cluster_means(points, 3, seed=1))


def test_refusals(images: torch.Tensor) -> None:
    model = make()
    with pytest.raises(ProjectError, match="initialise"):
        model(images)
    with pytest.raises(ProjectError, match="training set is empty"):
        model.initialise([])
    with pytest.raises(ProjectError, match="one size"):
        model.initialise([images, images[..., :32]])
    with pytest.raises(ProjectError, match="lower gamma_c"):
        make(gamma_c=100).initialise([images])
    for options in ({"gamma_c": 0}, {"gamma_d": 0}, {"num_nearest_neighbors": 0}):
        with pytest.raises(ProjectError, match=next(iter(options))):
            make(**options)
