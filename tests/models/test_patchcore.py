"""PatchCore: anomalib's answers from the same bank, a bounded memory, checkpoints of any bank size."""

import logging

import pytest
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from torch import nn

from src.errors import ProjectError
from src.models.anomaly.neighbors import NeighborIndex
from src.models.anomaly.patchcore import PatchCore
from src.models.anomaly.patches import PatchStore

LAYERS = ["layer2", "layer3"]


def make(**options: object) -> PatchCore:
    torch.manual_seed(0)
    model = PatchCore(**{"backbone": "resnet18", "layers": LAYERS, "coreset_ratio": 0.1} | options)
    for name, value in model.features.named_buffers():
        if "running_var" in name:
            value.copy_(torch.rand_like(value) + 0.5)
    return model


def fit(model: nn.Module, images: torch.Tensor) -> None:
    for batch in images.split(3):
        model.collect(batch)
    model.finish()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(8, 3, 96, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("num_neighbors", [1, 9])
def test_equals_anomalib_with_the_same_bank(num_neighbors: int, images: torch.Tensor) -> None:
    model = make(num_neighbors=num_neighbors)
    fit(model, images)
    reference = PatchcoreModel(layers=LAYERS, backbone="resnet18", pre_trained=False, num_neighbors=num_neighbors)
    reference.feature_extractor.feature_extractor.load_state_dict(model.features.model.state_dict())
    reference.memory_bank = model.memory_bank.clone()
    queries = images[:4] * 1.3 + 0.2
    with torch.no_grad():
        expected = reference.eval()(queries)
    answer = model(queries)
    assert answer.score.shape == (4,)
    assert answer.anomaly_map.shape == (4, 1, 96, 64)
    torch.testing.assert_close(answer.score, expected.pred_score, rtol=1e-4, atol=0)
    torch.testing.assert_close(answer.anomaly_map, expected.anomaly_map, rtol=1e-4, atol=1e-6)


def test_embedding_equals_anomalib(images: torch.Tensor) -> None:
    model = make()
    reference = PatchcoreModel(layers=LAYERS, backbone="resnet18", pre_trained=False)
    reference.feature_extractor.feature_extractor.load_state_dict(model.features.model.state_dict())
    with torch.no_grad():
        expected = reference.train()(images)
    patches = model.embed(images).permute(0, 2, 3, 1).reshape(-1, model.width)
    torch.testing.assert_close(patches, expected)


def test_bank_is_a_part_of_the_patches(images: torch.Tensor) -> None:
    model = make(coreset_ratio=0.25)
    fit(model, images)
    patches = model.embed(images).permute(0, 2, 3, 1).reshape(-1, model.width)
    assert len(model.memory_bank) == len(patches) // 4
    assert torch.cdist(model.memory_bank, patches).amin(1).max() < 1e-2
    sized = make(coreset_size=13)
    fit(sized, images)
    assert len(sized.memory_bank) == 13
    everything = make(coreset_ratio=1.0)
    fit(everything, images)
    assert len(everything.memory_bank) == len(patches)
    assert everything(images).score.max() < 1e-2  # every patch is in the bank


def test_state_dict_restores_any_bank(images: torch.Tensor) -> None:
    model = make(standardize=True)
    fit(model, images)
    fresh = make(standardize=True)
    fresh.features.model.conv1.weight.data.zero_()
    fresh.load_state_dict(model.state_dict())
    answer, expected = fresh(images), model(images)
    assert torch.equal(answer.score, expected.score)
    assert torch.equal(answer.anomaly_map, expected.anomaly_map)
    # a bank of the same size but other values must not be answered from what was derived from the old one
    other = {name: value.clone() for name, value in model.state_dict().items()}
    other["memory_bank"] += 1
    fresh.load_state_dict(other)
    assert not torch.allclose(fresh(images).score, expected.score)


def test_fitting_twice_gives_the_same_bank(images: torch.Tensor) -> None:
    first, second = make(seed=5), make(seed=5)
    fit(first, images)
    second.reserve(len(images), (96, 64))
    for batch in images.split(1):
        second.collect(batch)
    second.finish()
    torch.testing.assert_close(first.memory_bank, second.memory_bank)
    fit(first, images)
    torch.testing.assert_close(first.memory_bank, second.memory_bank)


def test_standardize_divides_by_the_deviation(images: torch.Tensor) -> None:
    model = make(standardize=True, coreset_ratio=1.0)
    fit(model, images)
    deviation = model.memory_bank.std(0)
    torch.testing.assert_close(deviation[deviation > 0], torch.ones_like(deviation[deviation > 0]), rtol=1e-3, atol=0)


def test_half_storage_is_close(images: torch.Tensor) -> None:
    single, half = make(), make(storage="float16")
    fit(single, images)
    fit(half, images)
    assert half.memory_bank.dtype == torch.float32
    assert half.memory_estimate(1000, (224, 224)) != single.memory_estimate(1000, (224, 224))
    torch.testing.assert_close(half(images * 2).score, single(images * 2).score, rtol=0.05, atol=0)


def test_memory_is_bounded(images: torch.Tensor, caplog: pytest.LogCaptureFixture) -> None:
    model = make(max_memory_gb=0.42)
    limit = model.max_patches()
    assert model.memory_estimate(10**6, (1024, 1024)) <= 0.42e9
    assert model.memory_estimate(1, (96, 64)) < 0.405e9
    batches = -(-limit // (len(images) * 12 * 8)) + 1
    for _ in range(batches):
        model.collect(images)
    with caplog.at_level(logging.WARNING):
        model.finish()
    assert f"{limit} of {batches * len(images) * 12 * 8} patches" in caplog.text
    assert len(model.memory_bank) <= limit // 10


def test_sample_is_uniform_and_free_of_batching() -> None:
    def kept(batch: int) -> torch.Tensor:
        store = PatchStore(1, limit=500, dtype=torch.float32, device=torch.device("cpu"), seed=3)
        for rows in torch.arange(10_000, dtype=torch.float32).unsqueeze(1).split(batch):
            store.add(rows)
        assert (len(store), store.seen) == (500, 10_000)
        return store.take().squeeze(1)

    first = kept(64)
    assert torch.equal(first, kept(1000))
    assert torch.equal(first, kept(1))
    assert len(first.unique()) == 500
    assert 4500 < first.mean() < 5500  # 5000 ± 4 standard errors
    counts = torch.histc(first, bins=5, min=0, max=10_000)
    assert counts.min() > 60  # 100 ± 4 standard deviations


@pytest.mark.parametrize("points", [1, 37, 3000])
def test_neighbors(points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.models.anomaly.neighbors._BLOCK_ELEMENTS", 70_000)  # several blocks
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(points, 20, generator=generator) + 9, torch.randn(600, 20, generator=generator) + 9
    exact = torch.cdist(queries.double(), bank.double())
    index = NeighborIndex(bank)
    torch.testing.assert_close(index.distances(queries), exact.amin(1).float(), rtol=1e-5, atol=1e-5)
    distances, indices = index.search(queries, 5)
    expected = exact.topk(min(5, points), dim=1, largest=False)
    torch.testing.assert_close(distances, expected.values.float(), rtol=1e-6, atol=0)
    assert torch.equal(indices, expected.indices)
    assert index.distances(queries[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coreset_ratio": 0}, "coreset_ratio"),
        ({"coreset_ratio": 1.5}, "coreset_size"),
        ({"coreset_size": 0}, "coreset_size"),
        ({"num_neighbors": 0}, "num_neighbors"),
        ({"storage": "int8"}, "storage"),
        ({"max_memory_gb": 0.1}, "max_memory_gb"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        make(**options)


def test_unfitted_and_empty(images: torch.Tensor) -> None:
    model = make()
    with pytest.raises(ProjectError, match="not fitted"):
        model(images)
    with pytest.raises(ProjectError, match="no normal image"):
        model.finish()
    with pytest.raises(ProjectError, match="blur_sigma"):
        fit(model, images[:, :, :32, :16])
        model(images[:, :, :32, :16])
