"""PaDiM: anomalib's statistics and answers, from streamed batches."""

import pytest
import torch
from anomalib.models.image.padim.torch_model import PadimModel

from src.errors import ProjectError
from src.models.anomaly.padim import PaDiM

LAYERS = ["layer1", "layer2"]


def make(**options: object) -> PaDiM:
    torch.manual_seed(0)
    model = PaDiM(**{"backbone": "resnet18", "layers": LAYERS, "n_features": 30} | options)
    for name, value in model.features.named_buffers():
        if "running_var" in name:
            value.copy_(torch.rand_like(value) + 0.5)
    return model


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(11, 3, 64, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch", [1, 4, 11])
def test_equals_anomalib_however_batched(batch: int, images: torch.Tensor) -> None:
    model = make()
    for part in images.split(batch):
        model.collect(part)
    model.finish()
    reference = PadimModel(backbone="resnet18", layers=LAYERS, pre_trained=False, n_features=30)
    reference.feature_extractor.feature_extractor.load_state_dict(model.features.model.state_dict())
    reference.idx.copy_(model.feature_index)
    reference.train()(images)
    reference.fit()
    queries = images[:3] * 1.5
    with torch.no_grad():
        expected = reference.eval()(queries)
    answer = model(queries)
    torch.testing.assert_close(model.mean.T, reference.gaussian.mean, rtol=1e-4, atol=1e-5)
    inverse = model.whitening.transpose(1, 2) @ model.whitening
    torch.testing.assert_close(inverse, reference.gaussian.inv_covariance, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(answer.score, expected.pred_score.flatten(), rtol=1e-4, atol=0)
    torch.testing.assert_close(answer.anomaly_map, expected.anomaly_map, rtol=1e-4, atol=1e-4)


def test_offset_features_stay_accurate() -> None:
    """float32 sums of squares about zero would lose everything here."""
    model = make()
    samples = torch.randn(40, 30, 2, 1, generator=torch.Generator().manual_seed(2)) + 3000
    model.embed = lambda part: part
    for part in samples.split(7):
        model.collect(part)
    deviations = (samples.double() - samples.double().mean(0)).flatten(2)
    expected = torch.einsum("ncp,ndp->pcd", deviations, deviations)
    torch.testing.assert_close(model._scatter.double(), expected, rtol=1e-3, atol=2e-2)


def test_state_dict_restores_everything(images: torch.Tensor) -> None:
    model = make(seed=1)
    model.collect(images)
    model.finish()
    fresh = make(seed=2, n_features=12)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(images).anomaly_map, model(images).anomaly_map)


def test_features_are_drawn_by_seed_or_named() -> None:
    assert torch.equal(make(seed=4).feature_index, make(seed=4).feature_index)
    assert not torch.equal(make(seed=4).feature_index, make(seed=5).feature_index)
    assert make(feature_indices=[5, 1]).feature_index.tolist() == [5, 1]
    assert len(make(n_features=10**6).feature_index) == 64 + 128
    for wrong in ([], [1, 1], [192], [-1]):
        with pytest.raises(ProjectError, match="feature_indices"):
            make(feature_indices=wrong)
    with pytest.raises(ProjectError, match="n_features"):
        make(n_features=0)


def test_memory_estimate_covers_the_model(images: torch.Tensor) -> None:
    model = make()
    model.collect(images)
    model.finish()
    fitted = sum(buffer.nbytes for buffer in (model.mean, model.whitening))
    assert fitted < model.memory_estimate(len(images), (64, 48))
    assert model.memory_estimate(10, (64, 48)) == model.memory_estimate(10**6, (64, 48))


def test_refusals(images: torch.Tensor) -> None:
    model = make()
    with pytest.raises(ProjectError, match="not fitted"):
        model(images)
    model.collect(images[:1])
    with pytest.raises(ProjectError, match="at least 2 normal images"):
        model.finish()
    with pytest.raises(ProjectError, match=r"16×12 positions was expected"):
        model.collect(images[:, :, :32])
    model.collect(images[1:] * torch.nan)
    with pytest.raises(ProjectError, match="NaN"):
        model.finish()
