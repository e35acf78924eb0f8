"""Partial diffusion: the training loss and DDIM by hand, noise that depends on the seed alone, a planted defect."""

import numpy as np
import pytest
import torch
from torch import Tensor

from src.data.geometry import map_to_original
from src.data.transforms import PreprocessSpec
from src.errors import ProjectError
from src.models.anomaly.diffusion import Diffusion
from tests.models.plain_pictures import centroid, fit, plain, with_square

OPTIONS = {
    "channels": [8, 16], "groups": 4, "working_size": None, "crop": None, "blur_sigma": 2.0, "layers": ["coarse"],
    "noise_level": 100, "steps": 2,
}  # fmt: skip


def make(**options: object) -> Diffusion:
    torch.manual_seed(0)
    return Diffusion(**(OPTIONS | options))


def alphas(count: int) -> Tensor:
    """Cumulative products of 1 - beta of the linear schedule (Ho et al. 2020, section 4)."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)[:count]


class Constant(torch.nn.Module):
    """Stands in for the U-Net; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Tensor, object]] = []

    def forward(self, sample: Tensor, step: object) -> object:
        self.asked.append((sample, step))
        return type("Output", (), {"sample": torch.full_like(sample, 0.1)})()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_training_loss(prediction: str) -> None:
    network, images = make(prediction=prediction), plain(4, seed=0)
    network.unet = Constant()
    torch.manual_seed(3)
    loss = network.loss(images)["denoising"]
    torch.manual_seed(3)
    noise, steps = torch.randn_like(images), torch.randint(0, 100, (4,))
    kept = alphas(100)[steps].view(-1, 1, 1, 1)
    sample, asked = network.unet.asked[0]
    assert torch.equal(asked, steps)
    torch.testing.assert_close(sample, kept.sqrt() * images + (1 - kept).sqrt() * noise, atol=1e-5, rtol=1e-4)
    velocity = kept.sqrt() * noise - (1 - kept).sqrt() * images  # Salimans and Ho 2022, appendix D
    target = {"epsilon": noise, "sample": images, "v_prediction": velocity}[prediction]
    torch.testing.assert_close(loss, (0.1 - target).square().mean(), atol=1e-5, rtol=1e-4)


def test_denoising_is_ddim_from_the_noise_level() -> None:
    network, images = make(noise_level=101, steps=2, seed=7, prediction="epsilon"), plain(2, seed=0)
    network.unet = Constant()
    answer = next(iter(network.reconstruct(images)))
    noise = torch.randn(1, 3, 64, 80, generator=torch.Generator().manual_seed(7))
    kept = alphas(100)  # 101 is rounded down to a multiple of the steps
    sample = kept[99].sqrt() * images + (1 - kept[99]).sqrt() * noise
    for now, then in ((kept[99], kept[49]), (kept[49], torch.tensor(1.0))):
        clean = ((sample - (1 - now).sqrt() * 0.1) / now.sqrt()).clamp(-1, 1)
        sample = then.sqrt() * clean + (1 - then).sqrt() * 0.1  # Song et al. 2021, equation 12, sigma = 0
    assert [step for _, step in network.unet.asked] == [99, 49]
    torch.testing.assert_close(answer, sample, atol=1e-5, rtol=1e-4)


def test_training_sees_random_windows_at_working_size() -> None:
    network = make(working_size=32, crop=16)
    network.unet = Constant()
    network.loss(plain(3, seed=0))
    assert network.unet.asked[0][0].shape == (3, 3, 16, 16)
    assert network.working(plain(1, seed=0)).shape == (1, 3, 32, 40)
    assert make(working_size=None).working(plain(1, seed=0)[..., :63, :79]).shape == (1, 3, 64, 80)


def test_learns_and_finds_a_planted_defect() -> None:
    network = make(feature_weight=0.0, noise_level=600, steps=1, crop=32)
    losses = fit(network, plain(8, seed=1), steps=50, lr=1e-2)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])
    good, bad = network(plain(3, seed=2)), network(with_square(plain(3, seed=2), top=28, left=40, side=10))
    assert bad.score.min() > good.score.max()
    for plane in bad.anomaly_map:
        original = map_to_original(plane[0].numpy(), (128, 160), PreprocessSpec(height=64, width=80))
        assert np.hypot(*(centroid(original) - np.array([65.5, 89.5]))) < 2


def test_answers_depend_on_the_picture_and_the_seed_alone() -> None:
    network, images = make(draws=2, seed=1), plain(4, seed=3)
    fit(network, images, steps=1)
    whole, one = network(images), network(images[2:3])
    torch.testing.assert_close(one.score, whole.score[2:3], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.anomaly_map, whole.anomaly_map[2:3], atol=1e-3, rtol=1e-3)
    torch.manual_seed(11)
    assert torch.equal(network(images).anomaly_map, whole.anomaly_map)
    rebuilt = Diffusion(**(OPTIONS | {"draws": 2, "seed": 1})).eval()
    rebuilt.load_state_dict(network.state_dict())
    assert torch.equal(rebuilt(images).anomaly_map, whole.anomaly_map)
    other = Diffusion(**(OPTIONS | {"draws": 2, "seed": 2})).eval()
    other.load_state_dict(network.state_dict())
    assert not torch.equal(other(images).anomaly_map, whole.anomaly_map)


def test_maps_come_back_at_input_size() -> None:
    network, images = make(working_size=32), plain(2, seed=0)
    fit(network, images, steps=0)
    assert network(images).anomaly_map.shape == (2, 1, 64, 80)


def test_refusals() -> None:
    with pytest.raises(ProjectError, match="did you mean|must be one of linear"):
        make(beta_schedule="linaer")
    with pytest.raises(ProjectError, match="noise_level=2000"):
        make(noise_level=2000)
    with pytest.raises(ProjectError, match="groups=5"):
        make(groups=5)
    with pytest.raises(ProjectError, match="crop=15 must be a multiple of 2"):
        make(crop=15)
