"""One network a category: each judged by its own, frozen features kept once, unknown categories guessed."""

import io

import pytest
import torch

from src.errors import ProjectError
from src.models.anomaly.cfa import CFA
from src.models.anomaly.padim import PaDiM
from src.models.anomaly.patchcore import PatchCore
from src.models.anomaly.per_category import PerCategory
from src.models.anomaly.views import Views, predict_views

NAMES = ["tile", "wood"]


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """Horizontal stripes (tile) and vertical ones (wood) in turn, B×3×64×64, with noise."""
    generator = torch.Generator().manual_seed(seed)
    wave = torch.sin(torch.arange(64) / 2.0)
    plain = [(wave[:, None] if row % 2 == 0 else wave[None, :]).expand(3, 64, 64) for row in range(count)]
    return torch.stack(plain) + 0.05 * torch.randn(count, 3, 64, 64, generator=generator)


def categories(count: int) -> list[str]:
    return [NAMES[row % 2] for row in range(count)]


def patchcore() -> PatchCore:
    torch.manual_seed(0)
    return PatchCore(backbone="resnet10t", layers=["layer1"], coreset_size=30, blur_sigma=1.0)


@pytest.fixture(scope="module")
def fitted() -> PerCategory:
    network = PerCategory([patchcore(), patchcore()], NAMES).eval()
    network.learn_categories([(pictures(12), categories(12))])
    network.collect(pictures(12), categories(12))
    network.finish()
    return network


def test_each_image_is_judged_by_its_own_network(fitted: PerCategory) -> None:
    alone = patchcore().eval()
    alone.features = fitted.networks[1].features
    alone.collect(pictures(12)[1::2])
    alone.finish()
    images = pictures(6, seed=5)
    output = fitted(images, categories(6))
    expected = alone(images[1::2])
    torch.testing.assert_close(output.score[1::2], expected.score)
    torch.testing.assert_close(output.anomaly_map[1::2], expected.anomaly_map)
    turned = fitted(images.flip(0), categories(6)[::-1])
    torch.testing.assert_close(turned.score.flip(0), output.score)


def test_an_unknown_category_is_the_nearest(fitted: PerCategory) -> None:
    images = pictures(6, seed=6)
    assert fitted.guess(images) == categories(6)
    torch.testing.assert_close(fitted(images).score, fitted(images, categories(6)).score)
    torch.testing.assert_close(fitted.told(images, [None, "wood"] * 3)(images).score, fitted(images).score)
    with pytest.raises(ProjectError, match="category 'stone' was not trained"):
        fitted(images[:1], ["stone"])


def test_views_of_an_image_are_of_one_category(fitted: PerCategory) -> None:
    images = pictures(4, seed=6)  # turned by 90°, a tile looks like wood
    views = Views(rot90=True)
    found = predict_views(fitted.told(images, None), images, views)
    torch.testing.assert_close(found.score, predict_views(fitted.told(images, categories(4)), images, views).score)


def test_frozen_features_are_kept_once_and_come_back(fitted: PerCategory) -> None:
    assert fitted.networks[0].features is fitted.networks[1].features
    whole, alone = io.BytesIO(), io.BytesIO()
    torch.save(fitted.state_dict(), whole)
    torch.save(fitted.networks[0].state_dict(), alone)
    assert whole.tell() < 1.3 * alone.tell()
    again = PerCategory([patchcore(), patchcore()], NAMES).eval()
    again.load_state_dict(torch.load(io.BytesIO(whole.getvalue()), weights_only=True))
    images = pictures(4, seed=7)
    torch.testing.assert_close(again(images).score, fitted(images).score)


def test_gradient_networks_learn_from_their_own_images() -> None:
    def cfa() -> CFA:
        torch.manual_seed(0)
        return CFA(backbone="resnet10t", layers=["layer1"], blur_sigma=1.0)

    network = PerCategory([cfa(), cfa()], NAMES)
    images, names = pictures(8), categories(8)
    network.initialise(lambda: [(images, names)])
    single = cfa()
    single.features = network.networks[0].features
    single.initialise([images[0::2]])
    whole = network.loss(images[0::2], names[0::2])["loss"]
    torch.testing.assert_close(whole, single.loss(images[0::2]))
    both = network.loss(images, names)["loss"]
    parts = [network.loss(images[part::2], names[part::2])["loss"] for part in range(2)]
    torch.testing.assert_close(both, (parts[0] + parts[1]) / 2)
    both.backward()


def test_a_category_with_too_few_images_is_named() -> None:
    torch.manual_seed(0)
    networks = [PaDiM(backbone="resnet10t", layers=["layer1"], n_features=4, blur_sigma=1.0) for _ in NAMES]
    network = PerCategory(networks, NAMES)
    network.collect(pictures(3), categories(3))
    with pytest.raises(ProjectError, match="category 'wood': PaDiM needs at least 2"):
        network.finish()


def test_supervised_networks_are_refused() -> None:
    network = patchcore()
    network.supervised = True
    with pytest.raises(ProjectError, match="^per_category=true is for models of normal images"):
        PerCategory([network], ["tile"])
