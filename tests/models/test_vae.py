"""The VAE: the KL term by hand and by torch.distributions, both terms of the loss, the score, seeds, rebuilding."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from src.errors import ProjectError
from src.models.anomaly.vae import VAE, kl_map
from tests.models.plain_pictures import centroid, fit, plain, with_square

OPTIONS = {"channels": [8, 16, 32], "latent_channels": 4, "blur_sigma": 2.0, "layers": ["coarse"]}


def make(**options: object) -> VAE:
    torch.manual_seed(0)
    return VAE(**(OPTIONS | options))


def test_kl_by_hand() -> None:
    mean, log_variance = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, math.log(4.0)]).view(1, 2, 1, 1)
    expected = 0.5 * 1.0 + 0.5 * (4.0 - 1.0 - math.log(4.0))  # half the squared mean; half of variance - 1 - log
    assert kl_map(mean, log_variance).item() == pytest.approx(expected)
    assert kl_map(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)).abs().max() == 0


def test_kl_equals_torch_distributions() -> None:
    mean, log_variance = torch.randn(2, 2, 5, 3, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1, keepdim=True)
    torch.testing.assert_close(kl_map(mean, log_variance), expected)


@pytest.mark.parametrize("variance", [None, 0.05])
def test_loss_is_likelihood_and_kl(variance: float | None) -> None:
    network, images = make(beta=0.7, variance=variance), plain(3, seed=0)
    torch.manual_seed(4)
    terms = network.loss(images)
    torch.manual_seed(4)
    mean, log_variance = network.encode(images)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    codes = mean + torch.randn_like(mean) * posterior.stddev
    rebuilt = network.decode(codes, (64, 80))
    deviation = (images - rebuilt).square().mean().sqrt() if variance is None else torch.tensor(variance).sqrt()
    # Normal's constant is left out of the loss
    likelihood = -(Normal(rebuilt, deviation).log_prob(images) + 0.5 * math.log(2 * math.pi)).mean()
    kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum() / images.numel()
    torch.testing.assert_close(terms["likelihood"], likelihood, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["kl"], 0.7 * kl, rtol=1e-4, atol=1e-6)


def test_draws_follow_the_seed_and_answers_draw_nothing() -> None:
    network, images = make(), plain(2, seed=0)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(network.loss(images)["likelihood"].item())
    assert values[0] == values[1] != values[2]
    fit(network, images, steps=0)
    state = torch.get_rng_state()
    network(images)
    assert torch.equal(torch.get_rng_state(), state)


def test_score_is_of_the_mean_code_and_the_weighted_kl() -> None:
    network, images = (
        make(kl_weight=1.0, pixel_weight=0.0, feature_weight=0.0, blur_sigma=0.0, relative=False),
        plain(4, seed=0),
    )
    fit(network, images, steps=0)
    mean, log_variance = network.encode(images)
    surprise = torch.nn.functional.interpolate(kl_map(mean, log_variance), scale_factor=8, mode="bilinear")
    expected = (surprise - surprise.mean()) / surprise.std(correction=0)
    torch.testing.assert_close(network(images).anomaly_map, expected, atol=1e-3, rtol=1e-3)
    rebuilt, _ = network.reconstruct(images)
    assert torch.equal(rebuilt, network.decode(mean, (64, 80)))


def test_learns_and_finds_a_planted_defect() -> None:
    network = make(feature_weight=0.0)
    losses = fit(network, plain(8, seed=1), steps=60, lr=4e-3)
    assert np.mean(losses[-5:]) < losses[0] - 0.5  # nats a pixel value
    good, bad = network(plain(3, seed=2)), network(with_square(plain(3, seed=2), top=28, left=40, side=10))
    assert bad.score.min() > good.score.max()
    for plane in bad.anomaly_map:
        assert np.hypot(*(centroid(plane[0].numpy()) - np.array([32.5, 44.5]))) < 2


def test_answers_depend_on_the_picture_alone_and_survive_a_rebuild() -> None:
    network, images = make(), plain(4, seed=3)[..., :70]  # a width that the stride does not divide
    fit(network, images, steps=1)
    whole, one = network(images), network(images[2:3])
    assert whole.anomaly_map.shape == (4, 1, 64, 70)
    torch.testing.assert_close(one.score, whole.score[2:3], atol=1e-4, rtol=1e-4)
    rebuilt = VAE(**OPTIONS).eval()
    rebuilt.load_state_dict(network.state_dict())
    assert torch.equal(rebuilt(images).anomaly_map, whole.anomaly_map)


def test_half_precision_keeps_the_kl_term() -> None:
    network, images = make(), plain(2, seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_variance = network.encode(images)
        assert mean.dtype == log_variance.dtype == kl_map(mean, log_variance).dtype == torch.float32
        assert network.loss(images)["kl"].dtype == torch.float32


def test_refusals() -> None:
    with pytest.raises(ProjectError, match="beta=-1"):
        make(beta=-1.0)
    with pytest.raises(ProjectError, match="variance=0"):
        make(variance=0.0)
    with pytest.raises(ProjectError, match="weights of the maps"):
        make(kl_weight=-1.0)
