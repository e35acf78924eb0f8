"""The autoencoder: its loss by hand, hidden cells, what it learns, where it sees a defect; and batches, rebuilding."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from src.data.geometry import map_to_original
from src.data.transforms import PreprocessSpec
from src.errors import ProjectError
from src.models.anomaly.autoencoder import Autoencoder
from tests.models.plain_pictures import centroid, fit, plain, with_square

OPTIONS = {"channels": [8, 16, 32], "latent_channels": 8, "hide": 0.0, "inpaint": False, "blur_sigma": 2.0}


def make(**options: object) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(**(OPTIONS | options))


def test_loss_is_weighted_ssim_and_l1() -> None:
    network, images = make(ssim_weight=0.5, l1_weight=3.0), plain(2, seed=0)
    with torch.no_grad():
        terms, rebuilt = network.loss(images), network.reconstruct(images)
    assert set(terms) == {"ssim", "l1"}
    assert terms["l1"].item() == pytest.approx(3 * (images - rebuilt).abs().mean().item(), rel=1e-5)
    similarity = np.mean(
        [
            structural_similarity(
                a.numpy(), b.numpy(), data_range=2.0, gaussian_weights=True, use_sample_covariance=False, full=True
            )[1].mean()  # the whole map, border included: it mirrors as ours does, up to the repeated edge pixel
            for x, y in zip(images, rebuilt, strict=True)
            for a, b in zip(x, y, strict=True)
        ]
    )
    assert terms["ssim"].item() == pytest.approx(0.5 * (1 - similarity), rel=0.02)
    assert set(make(ssim_weight=0.0).loss(images)) == {"l1"}


def test_hidden_cells_are_rebuilt_from_their_surroundings_alone() -> None:
    network = make(hide=0.3, inpaint=True, cell=16).eval()
    images = plain(1, seed=0)
    changed = images.clone()
    changed[..., 16:32, 32:48] = 0.9
    first, second = network.reconstruct(images), network.reconstruct(changed)
    assert torch.equal(first[..., 16:32, 32:48], second[..., 16:32, 32:48])
    assert not torch.equal(first[..., 0:16, 32:48], second[..., 0:16, 32:48])
    odd = plain(1, seed=0)[..., :61, :70]
    assert network.reconstruct(odd).shape == odd.shape


def test_training_input_is_spoilt_as_asked() -> None:
    network, images = make(hide=0.5, cell=8), torch.full((8, 3, 64, 80), 0.7)
    seen = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.loss(images)
    values = seen[0].reshape(8, 3, 8, 8, 10, 8)
    assert (values == values[:, :1, :, :1, :, :1]).all()  # whole cells, all colours
    assert 0.4 < (seen[0] == 0).float().mean() < 0.6 and seen[0].unique().numel() == 2
    noisy = make(noise=0.2)
    noisy.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    noisy.loss(images)
    assert (seen[1] - images).std().item() == pytest.approx(0.2, rel=0.05)


def test_learns_and_finds_a_planted_defect() -> None:
    network = make(hide=0.25, inpaint=True, cell=16)
    losses = fit(network, plain(8, seed=1), steps=60, lr=4e-3)
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    normal, spoilt = plain(3, seed=2), with_square(plain(3, seed=2), top=24, left=40, side=8)
    good, bad = network(normal), network(spoilt)
    assert bad.score.min() > good.score.max() and bad.anomaly_map.shape == (3, 1, 64, 80)
    for plane in bad.anomaly_map:
        assert np.hypot(*(centroid(plane[0].numpy()) - np.array([27.5, 43.5]))) < 2
    # pixels alone are finer than the features' cells: within 2 pixels of a picture that was twice as large
    network.comparison.map_weights["features"] = 0.0
    spec = PreprocessSpec(height=64, width=80)
    for plane in network(spoilt).anomaly_map:
        original = map_to_original(plane[0].numpy(), (128, 160), spec)
        assert np.hypot(*(centroid(original) - np.array([55.5, 87.5]))) < 2


def test_answers_depend_on_the_picture_alone_and_survive_a_rebuild() -> None:
    network = make(hide=0.2, inpaint=True)
    images = plain(5, seed=3)
    fit(network, images, steps=1)
    whole, one = network(images), network(images[2:3])
    torch.testing.assert_close(one.anomaly_map, whole.anomaly_map[2:3], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.score, whole.score[2:3], atol=1e-4, rtol=1e-4)
    assert torch.equal(network(images).score, whole.score)
    torch.manual_seed(5)
    rebuilt = Autoencoder(**(OPTIONS | {"hide": 0.2, "inpaint": True})).eval()
    rebuilt.load_state_dict(network.state_dict())
    assert torch.equal(rebuilt(images).anomaly_map, whole.anomaly_map)
    assert network.report is None and Autoencoder.normalization({})["mean"] == (0.5, 0.5, 0.5)


def test_refusals() -> None:
    with pytest.raises(ProjectError, match="l1_weight"):
        make(ssim_weight=0.0, l1_weight=0.0)
    with pytest.raises(ProjectError, match="hide=1"):
        make(hide=1.0)
    with pytest.raises(ProjectError, match="inpaint=true"):
        make(inpaint=True)
    with pytest.raises(ProjectError, match="channels"):
        make(channels=[])
