"""Metric learning: cosine distances and prototypes against scikit-learn, the losses against their papers' formulas."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.covariance import ledoit_wolf as reference_ledoit_wolf
from sklearn.neighbors import NearestNeighbors
from torch import nn

from src.errors import ProjectError
from src.models.anomaly.embedding import Embedding
from src.models.anomaly.embedding_memory import EmbeddingMemory, spherical_means
from src.models.anomaly.metric import MetricDetector
from src.models.anomaly.metric_learner import MetricLearner
from src.models.anomaly.whitening import Whitening, ledoit_wolf

CLASSES = ["tile-bad", "tile-good", "wood-bad", "wood-good"]
GOOD = ["tile-good", "wood-good"]


def pictures(count: int, *, seed: int = 0, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Toy pictures of CLASSES in turn: tiles have narrow stripes, wood has wide ones; bad ones have a dark square."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.5 + 0.05 * torch.randn(count, 3, size, size, generator=generator)
    codes = torch.arange(count) % 4
    for index, code in enumerate(codes.tolist()):
        phase = float(torch.rand(1, generator=generator))
        images[index] += 0.2 * torch.sin(2 * math.pi * (torch.arange(size) / (6 if code < 2 else 20) + phase))
        if code % 2 == 0:
            top, left = torch.randint(size - 16, (2,), generator=generator).tolist()
            images[index, :, top : top + 14, left : left + 14] = 0.05
    return (images - 0.5) / 0.5, codes


def detector(**options: object) -> MetricDetector:
    return MetricDetector(
        **{"backbone": "filter_bank", "layers": ["coarse", "fine"], "neighbors": 1, "map_locations": 500} | options
    )


def learner(**options: object) -> MetricLearner:
    torch.manual_seed(0)
    given = {
        "backbone": "filter_bank",
        "layers": ["coarse", "fine"],
        "class_names": CLASSES,
        "normal_classes": GOOD,
        "embedding_size": 16,
        "map": False,
    }
    return MetricLearner(**given | options)


def fit(model: nn.Module, images: torch.Tensor, codes: torch.Tensor | None = None, batch: int = 7) -> None:
    model.eval()
    for rows in torch.arange(len(images)).split(batch):
        model.collect(images[rows], *([] if codes is None else [codes[rows]]))
    model.finish()


def embedded(model: MetricDetector, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.embedding(model.features(images)).double().numpy()


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# -- the memory -----------------------------------------------------------------------------------------------------
def test_distances_by_hand() -> None:
    angles = torch.tensor([0.0, 30.0, 60.0, 180.0]).deg2rad()
    bank = torch.stack([angles.cos(), angles.sin()], 1)
    memory = EmbeddingMemory(classes=3, neighbors=2, width=2)
    memory.fill(bank, torch.tensor([0, 0, 0, 2]))
    found = memory.distances(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    third = math.sqrt(3) / 2
    expected = [
        [1 - (1 + third) / 2, 2.0, 2.0],
        [1 - (third + 0.5) / 2, 2.0, 1.0],
    ]  # class 1 has no member, class 2 one
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)


def test_prototypes_are_the_normalised_mean_or_those_of_k_means() -> None:
    generator = torch.Generator().manual_seed(3)
    points = F.normalize(torch.randn(40, 6, generator=generator), dim=1)
    mean = F.normalize(points.mean(0, keepdim=True), dim=1)
    torch.testing.assert_close(spherical_means(points, 1), mean)
    assert torch.equal(spherical_means(points[:3], 5), points[:3])

    heads = F.normalize(torch.randn(4, 6, generator=generator), dim=1)
    spread = F.normalize(heads.repeat(25, 1) + 0.05 * torch.randn(100, 6, generator=generator), dim=1)
    found = spherical_means(spread, 4, seed=1)
    reference = unit(KMeans(4, n_init=10, random_state=0).fit(spread.double().numpy()).cluster_centers_)
    assert (found.numpy() @ reference.T).max(1).min() > 1 - 1e-5
    assert len({int(best) for best in (found.numpy() @ reference.T).argmax(1)}) == 4
    assert torch.equal(found, spherical_means(spread, 4, seed=1))
    with_copies = spherical_means(points[:1].repeat(9, 1), 3)
    torch.testing.assert_close(with_copies, points[:1].repeat(3, 1))


def test_each_class_has_its_own_prototypes() -> None:
    memory = EmbeddingMemory(classes=3, neighbors=1, width=4)
    points = F.normalize(torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    codes = torch.tensor([2, 0, 0] * 10)
    memory.fill(points, codes, prototypes=3)
    assert memory.codes.tolist() == [0, 0, 0, 2, 2, 2]
    torch.testing.assert_close(memory.bank[3:], spherical_means(points[codes == 2], 3))


# -- the embedding --------------------------------------------------------------------------------------------------
def test_poolings_by_hand() -> None:
    maps = torch.randn(2, 5, 6, 4, generator=torch.Generator().manual_seed(0))
    flat = maps.double().numpy().reshape(2, 5, 24)
    expected = {
        "average": flat.mean(2),
        "deviation": flat.std(2),
        "gem": (np.maximum(flat, 1e-6) ** 3).mean(2) ** (1 / 3),
        "top": np.sort(flat, axis=2)[:, :, -6:].mean(2),
    }
    for name, values in expected.items():
        made = Embedding(channels=[5], pooling=name, top_share=0.25)([maps])
        np.testing.assert_allclose(made.numpy(), unit(values), rtol=1e-4, atol=1e-6)
    both = Embedding(channels=[5, 3], pooling=["average", "gem"])
    assert both([maps, maps[:, :3]]).shape == (2, both.size) == (2, 16)


def test_shrunk_covariance_equals_scikit_learn() -> None:
    for count in (8, 200):
        points = torch.randn(count, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        points = (points * torch.arange(1, 13)) - points.mean(0)
        points = points - points.mean(0)
        covariance, share = ledoit_wolf(points)
        expected, expected_share = reference_ledoit_wolf(points.numpy(), assume_centered=True)
        np.testing.assert_allclose(covariance.numpy(), expected, rtol=1e-9, atol=1e-12)
        assert share == pytest.approx(expected_share, rel=1e-9) and 0 < share < 1


def test_whitening_evens_the_normal_directions_out() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(4000, 3, generator=generator) @ torch.diag(torch.tensor([3.0, 1.0, 0.5])) + 5
    layer = Whitening(whiten=True, center=True)
    layer.fit(points)
    white = (points - layer.mean) @ layer.root
    covariance = white.T.cov()
    torch.testing.assert_close(covariance / covariance.trace(), torch.eye(3) / 3, rtol=0, atol=0.01)
    assert layer(points).norm(dim=1).allclose(torch.ones(4000))
    # two classes far apart: the covariance is that within them
    apart = Whitening(whiten=True, center=False)
    apart.fit(torch.cat([points, points + 1000]), torch.arange(2).repeat_interleave(4000))
    torch.testing.assert_close(apart.root, layer.root, rtol=1e-2, atol=1e-2)


# -- one class ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("neighbors", [1, 3])
def test_knn_score_is_scikit_learns_mean_cosine_distance(neighbors: int) -> None:
    images, codes = pictures(24)
    model = detector(neighbors=neighbors, whiten=False, map=False)
    normal = images[codes == 1]
    fit(model, normal)
    answer = model(images)
    reference = NearestNeighbors(n_neighbors=neighbors, metric="cosine").fit(embedded(model, normal))
    expected = reference.kneighbors(embedded(model, images))[0].mean(1)
    np.testing.assert_allclose(answer.score.numpy(), expected, rtol=0, atol=2e-6)
    assert answer.probs is None and answer.anomaly_map is None and not model.supervised and model.kind == "memory"


def test_whitened_score_by_hand() -> None:
    images, codes = pictures(40)
    normal = images[codes == 1]
    model = detector(method="prototype", whiten=True, map=False)
    fit(model, normal)
    points, queries = embedded(model, normal), embedded(model, images)
    covariance, _ = reference_ledoit_wolf(points)
    variances, directions = np.linalg.eigh(covariance)
    root = directions / np.sqrt(variances) @ directions.T
    mean = unit(unit(points @ root).mean(0, keepdims=True))
    expected = 1 - unit(queries @ root) @ mean[0]
    np.testing.assert_allclose(model(images).score.numpy(), expected, rtol=0, atol=1e-3)


def test_defects_score_higher_and_are_marked_in_the_map() -> None:
    images, codes = pictures(80)
    model = detector(top_share=0.05)
    fit(model, images[codes == 1])
    fresh, kinds = pictures(40, seed=5)
    fresh, kinds = fresh[kinds < 2], kinds[kinds < 2]
    answer = model(fresh)
    assert answer.score[kinds == 0].min() > answer.score[kinds == 1].max()
    assert answer.anomaly_map.shape == (20, 1, 64, 64) and answer.anomaly_map.min() >= 0
    dark = fresh.mean(1) < -0.8
    for index in (kinds == 0).nonzero()[:, 0].tolist():
        plane = answer.anomaly_map[index, 0]
        assert plane[dark[index]].mean() > 2 * plane[~dark[index]].mean()


def test_map_is_the_cosine_distance_to_the_nearest_normal_location() -> None:
    images, codes = pictures(8)
    model = detector(blur_sigma=0.0, map_locations=10_000)
    fit(model, images[codes == 1])
    with torch.no_grad():
        coarse, fine = model.features(images)
    pooled = [F.normalize(F.avg_pool2d(layer, 3, 1, 1), dim=1) for layer in (coarse, fine)]
    places = torch.cat([pooled[0], F.interpolate(pooled[1], size=8, mode="bilinear")], 1).double()
    rows = F.normalize(places.permute(0, 2, 3, 1), dim=3)
    nearest = (rows[0].reshape(64, -1) @ rows[codes == 1].reshape(128, -1).T).amax(1)
    expected = F.interpolate((1 - nearest).view(1, 1, 8, 8), size=64, mode="bilinear")
    torch.testing.assert_close(model(images[:1]).anomaly_map.double(), expected, rtol=0, atol=1e-5)


def test_distances_keep_their_digits_in_half_precision() -> None:
    model = detector(map=False)
    points = 3 + torch.randn(60, model.embedding.size, generator=torch.Generator().manual_seed(0))
    model.whitening.fit(points)
    expected = model.whitening(points)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.whitening(points)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_kept_locations_cover_the_others() -> None:
    images, codes = pictures(8)
    model = detector(map_locations=40)
    fit(model, images[codes == 1])
    with torch.no_grad():
        rows = model.locations.locate(model.features(images[codes == 1])).permute(0, 2, 3, 1).reshape(128, -1)
    distances = torch.cdist(rows, model.locations.bank).amin(1)
    assert len(model.locations.bank) == 40 and (distances < 1e-3).sum() >= 40
    random = rows[torch.randperm(128, generator=torch.Generator().manual_seed(0))[:40]]
    assert distances.max() < torch.cdist(rows, random).amin(1).max()


def test_any_timm_backbone_and_oblong_pictures() -> None:
    images, _ = pictures(6)
    model = MetricDetector(backbone="resnet10t", layers=["layer1", "layer2"], neighbors=1, map_locations=100)
    fit(model, images[..., :48])
    answer = model(images[..., :48])
    assert answer.score.shape == (6,) and answer.anomaly_map.shape == (6, 1, 64, 48)
    assert answer.score.abs().max() < 1e-5  # each is its own nearest neighbour


# -- several classes ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["knn", "prototype"])
def test_the_nearest_of_several_normal_classes_counts(method: str) -> None:
    images, codes = pictures(40)
    given = {"method": method, "class_names": CLASSES, "normal_classes": GOOD, "whiten": False, "map": False}
    model = detector(**given, temperature=0.5)
    fit(model, images, codes)
    answer = model(images)
    points = unit(embedded(model, images))
    best = np.empty((40, 4))
    for code in range(4):
        own = points[codes.numpy() == code]
        own = own if method == "knn" else unit(own.mean(0, keepdims=True))
        best[:, code] = (points @ own.T).max(1)
    np.testing.assert_allclose(answer.score.numpy(), 1 - best[:, [1, 3]].max(1), rtol=0, atol=2e-6)
    normal = codes.numpy() % 2 == 1
    own = np.stack([unit(points[codes.numpy() == code].mean(0, keepdims=True))[0] for code in range(4)])
    spread = (1 - (points * own[codes.numpy()]).sum(1))[normal].mean()
    logits = best / (0.5 * spread)
    expected = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(answer.probs.numpy(), expected / expected.sum(1, keepdims=True), rtol=1e-3, atol=1e-5)
    assert model.supervised
    contrast = detector(**given, contrast=True)
    fit(contrast, images, codes)
    margin = best[:, [0, 2]].max(1) - best[:, [1, 3]].max(1)
    np.testing.assert_allclose(contrast(images).score.numpy(), margin, rtol=0, atol=2e-6)


def test_a_class_without_images_and_images_without_a_class() -> None:
    images, codes = pictures(40)
    names = [*CLASSES, "wood-worm"]
    model = detector(class_names=names, normal_classes=GOOD)
    fit(model, images, codes)
    unlabelled = detector(class_names=names, normal_classes=GOOD)
    fit(unlabelled, torch.cat([images, images[:5] * 2]), torch.cat([codes, torch.full((5,), -1)]), batch=45)
    answer, expected = unlabelled(images), model(images)
    torch.testing.assert_close(answer.score, expected.score)
    assert answer.probs.shape == (40, 5) and torch.all(answer.probs.argmax(1) == codes)
    assert torch.isfinite(answer.score).all()


def test_answers_do_not_depend_on_batch_mates() -> None:
    images, codes = pictures(20)
    for model in (detector(class_names=CLASSES, normal_classes=GOOD), learner(map=True, map_locations=300)):
        fit(model, images, codes)
        whole = model(images)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
        parts = [model(part) for part in images[order].split(3)]
        for name in ("score", "anomaly_map", "probs"):
            shuffled = torch.cat([getattr(part, name) for part in parts])
            torch.testing.assert_close(shuffled, getattr(whole, name)[order], rtol=0, atol=1e-5)


def test_memory_does_not_depend_on_the_collecting_batches() -> None:
    images, codes = pictures(24)
    first, second = (detector(method="prototype", prototypes=2) for _ in range(2))
    fit(first, images[codes == 1], batch=2)
    fit(second, images[codes == 1], batch=6)
    torch.testing.assert_close(first(images).score, second(images).score)
    torch.testing.assert_close(first(images).anomaly_map, second(images).anomaly_map)


# -- losses ---------------------------------------------------------------------------------------------------------
def arcface_by_hand(
    vectors: torch.Tensor, weights: torch.Tensor, codes: torch.Tensor, *, margin: float, scale: float
) -> torch.Tensor:
    """Equation 3 of Deng et al.: a margin on the angle to the own class, then cross-entropy."""
    cosine = (F.normalize(vectors, dim=1) @ F.normalize(weights, dim=0)).double()
    logits = cosine.clone()
    for row, code in enumerate(codes.tolist()):
        logits[row, code] = math.cos(math.acos(cosine[row, code]) + math.radians(margin))
    return F.cross_entropy(scale * logits, codes)


def supcon_by_hand(vectors: torch.Tensor, codes: torch.Tensor, *, temperature: float) -> float:
    """Equation 2 of Khosla et al., over the anchors that have another image of their class."""
    rows = F.normalize(vectors, dim=1).double() / math.sqrt(temperature)
    losses = []
    for anchor in range(len(rows)):
        others = [index for index in range(len(rows)) if index != anchor]
        same = [index for index in others if codes[index] == codes[anchor]]
        total = sum(math.exp(rows[anchor] @ rows[index]) for index in others)
        if same:
            losses.append(-sum(float(rows[anchor] @ rows[i]) - math.log(total) for i in same) / len(same))
    return sum(losses) / len(losses)


def test_arcface_equals_the_papers_formula() -> None:
    images, codes = pictures(12)
    model = learner(margin=20.0, scale=16.0).eval()
    with torch.no_grad():
        vectors = model.embedding(model.features(images))
        weights = model.criterion.W
        losses = model.loss(images, codes)
        assert list(losses) == ["arcface"]
        expected = arcface_by_hand(vectors, weights, codes, margin=20.0, scale=16.0)
        torch.testing.assert_close(losses["arcface"].double(), expected, rtol=1e-4, atol=0)
        torch.testing.assert_close(model.loss(images, F.one_hot(codes, 4).float()), losses)
        # a soft target is the weighted mean of the losses for its classes
        other = codes.roll(1)
        mixed = 0.7 * F.one_hot(codes, 4) + 0.3 * F.one_hot(other, 4)
        both = 0.7 * losses["arcface"] + 0.3 * model.loss(images, other)["arcface"]
        torch.testing.assert_close(model.loss(images, mixed)["arcface"], both)
    assert "criterion.W" in model.state_dict()
    assert any(model.criterion.W is p for group in model.parameter_groups(0.1, 0.01) for p in group["params"])


def test_supcon_equals_the_papers_formula() -> None:
    images, codes = pictures(13)
    codes[-1], codes[codes == 3] = 3, 2  # the only image of class 3: no positive
    model = learner(method="supcon", loss_temperature=0.2).eval()
    with torch.no_grad():
        vectors = model.embedding(model.features(images))
        found = model.loss(images, codes)["supcon"]
    assert float(found) == pytest.approx(supcon_by_hand(vectors, codes, temperature=0.2), rel=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(model.loss(images, F.one_hot(codes, 4).float())["supcon"], found)
        with pytest.raises(ProjectError, match="model.mixing"):
            model.loss(images, torch.full((13, 4), 0.25))
        assert float(model.loss(images, torch.zeros(13, dtype=torch.int64))["supcon"]) == 0


class Known(nn.Module):
    """Frozen features of given pictures, computed once and answered by the pictures' numbers."""

    def __init__(self, features: nn.Module, images: torch.Tensor) -> None:
        super().__init__()
        self.maps = features(images)

    def forward(self, rows: torch.Tensor) -> list[torch.Tensor]:
        return [layer[rows] for layer in self.maps]


# -- training -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["arcface", "supcon"])
@pytest.mark.parametrize("projection", ["linear", "mlp"])
def test_training_separates_the_classes(method: str, projection: str) -> None:
    images, codes = pictures(48)
    model = learner(method=method, projection=projection)
    filters, model.features = model.features, Known(model.features, images)
    model.train()
    optimizer = torch.optim.AdamW(model.parameter_groups(0.005, 0.01))
    generator = torch.Generator().manual_seed(0)
    first = last = None
    for _ in range(12):
        for rows in torch.randperm(48, generator=generator).split(16):
            optimizer.zero_grad()
            loss = sum(model.loss(rows, codes[rows]).values())
            loss.backward()
            optimizer.step()
            first, last = first or loss.item(), loss.item()
    assert last < first
    model.features = filters
    fit(model, images, codes)
    fresh, kinds = pictures(40, seed=9)
    answer = model(fresh)
    assert (answer.probs.argmax(1) == kinds).float().mean() >= 0.95
    bad = kinds % 2 == 0
    assert (answer.score[bad, None] > answer.score[None, ~bad]).float().mean() > 0.97


def test_the_backbone_learns_or_stays() -> None:
    images, codes = pictures(8)
    for trainable in (True, False):
        model = learner(backbone="resnet10t", layers=["layer1"], train_backbone=trainable, backbone_lr=0.5).train()
        before = {name: value.clone() for name, value in model.features.state_dict().items()}
        optimizer = torch.optim.SGD(model.parameter_groups(0.1, 0.0))
        model.loss(images, codes)["arcface"].backward()
        optimizer.step()
        after = model.features.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert bool(changed) == trainable
        assert not any("running" in name for name in changed)  # batch norms keep their statistics
        rates = {group["lr"] for group in optimizer.param_groups}
        assert rates == ({0.1, 0.05} if trainable else {0.1})


def test_memorising_again_replaces_the_memory() -> None:
    """Loss steps, collect all, finish, forward; then once more, as before each validation."""
    images, codes = pictures(16)
    model = learner(compare="knn", neighbors=1, map=True, map_locations=200)
    assert (model.kind, model.memorizes, model.supervised) == ("gradient", True, True)
    optimizer = torch.optim.SGD(model.parameter_groups(0.1, 0.0))
    for _ in range(2):
        model.train()
        optimizer.zero_grad()
        model.loss(images, codes)["arcface"].backward()
        optimizer.step()
        fit(model, images, codes)
        assert len(model.memory) == 16
        assert model(images[codes % 2 == 1]).score.max() < 1e-5  # each is its own nearest neighbour in the new space
    model.train().loss(images[:1], codes[:1])["arcface"].backward()  # a last batch of one


# -- checkpoints ----------------------------------------------------------------------------------------------------
def test_rebuilt_networks_answer_the_same() -> None:
    images, codes = pictures(24)
    given = {"class_names": CLASSES, "normal_classes": GOOD}
    for make, options in (
        (detector, {}),
        (detector, {"method": "prototype", "prototypes": 3, "center": True}),
        (detector, {**given, "contrast": True}),
        (learner, {"map": True, "map_locations": 200}),
        (learner, {"method": "supcon", "compare": "knn", "whiten": True}),
    ):
        model = make(**options)
        told = model.supervised
        rows = torch.arange(24) if told else (codes == 1).nonzero()[:, 0]
        fit(model, images[rows], codes[rows] if told else None)
        fresh = make(**options).eval()
        with torch.no_grad():
            for parameter in fresh.parameters():
                parameter.mul_(-2)
        fit(fresh, images[rows][:9], codes[rows][:9] if told else None)  # a memory of another size is replaced
        fresh.load_state_dict(model.state_dict())
        answer, expected = fresh(images), model(images)
        for one, other in zip(answer, expected, strict=True):
            assert (one is None and other is None) or torch.equal(one, other)


# -- refusals -------------------------------------------------------------------------------------------------------
def test_refusals() -> None:
    images, codes = pictures(8)
    with pytest.raises(ProjectError, match="not fitted"):
        detector()(images)
    with pytest.raises(ProjectError, match="no normal image"):
        detector().finish()
    with pytest.raises(ProjectError, match="needs the images' classes"):
        detector(class_names=CLASSES, normal_classes=GOOD).collect(images)
    with pytest.raises(ProjectError, match="no normal image"):
        fit(detector(class_names=CLASSES, normal_classes=GOOD), images[codes == 0], codes[codes == 0])
    with pytest.raises(ProjectError, match="model.whiten=false"):
        fit(detector(), images[:1])
    with pytest.raises(ProjectError, match="'tile-good'"):
        detector(class_names=CLASSES, normal_classes=["tile-god"])
    with pytest.raises(ProjectError, match="choose model=arcface"):
        detector(method="arcface")
    with pytest.raises(ProjectError, match="Did you mean 'knn'"):
        detector(method="kn")
    with pytest.raises(ProjectError, match="model.contrast"):
        detector(contrast=True)
    with pytest.raises(ProjectError, match="model.center"):
        detector(method="prototype", center=True)
    for name in ("neighbors", "prototypes", "temperature", "map_locations", "top_share", "pooling"):
        with pytest.raises(ProjectError, match=name):
            detector(**{name: "median" if name == "pooling" else 0})


def test_training_needs_two_classes() -> None:
    images, _ = pictures(8)
    for names in ([], ["good"]):
        with pytest.raises(ProjectError, match="model=metric model.method=knn"):
            learner(class_names=names, normal_classes=names)
    with pytest.raises(ProjectError, match="every training image is 'tile-good'.*model.method=knn"):
        fit(learner(), images, torch.ones(8, dtype=torch.int64))
    with pytest.raises(ProjectError, match="nothing would learn"):
        learner(projection="none", method="supcon")
    with pytest.raises(ProjectError, match="Did you mean 'supcon'"):
        learner(method="subcon")
