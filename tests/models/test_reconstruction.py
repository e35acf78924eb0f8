"""The comparison of pictures with their reconstructions: each map against NumPy, statistics, the score."""

import numpy as np
import pytest
import torch

from src.errors import ProjectError
from src.models.anomaly.reconstruction import Comparison, top_mean
from src.models.features import FeatureExtractor

OPTIONS = {
    "pixel_weight": 1.0, "feature_weight": 1.0, "backbone": "filter_bank", "layers": ["coarse"], "blur_sigma": 2.0,
    "top_share": 0.1, "relative": False,
}  # fmt: skip


def make(**options: object) -> Comparison:
    return Comparison(**(OPTIONS | options)).eval()


def pictures(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pictures 64×72 and reconstructions that lose their contrast."""
    generator = torch.Generator().manual_seed(seed)
    images = (0.3 * torch.randn(count, 3, 64, 72, generator=generator)).clamp(-1, 1)
    return images, 0.6 * images + 0.05 * torch.randn(images.shape, generator=generator)


def test_pixel_map_of_flat_pictures() -> None:
    images, reconstructed = torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 64, 64), -0.25)
    c1 = 0.02**2
    expected = 0.75 + 1 - (2 * 0.5 * -0.25 + c1) / (0.25 + 0.0625 + c1)
    answer = make().pixel_map(images, reconstructed)
    torch.testing.assert_close(answer, torch.full((1, 1, 64, 64), expected), rtol=1e-4, atol=1e-4)


def test_feature_map_is_the_distance_from_a_regression() -> None:
    images, reconstructed = pictures(6, 0)
    reconstructed = reconstructed.clamp(-1, 1)
    comparison = make()
    for part in (slice(0, 4), slice(4, 6)):
        comparison.collect(images[part], reconstructed[part])
    comparison.finish()
    bank = FeatureExtractor(backbone="filter_bank", layers=["coarse"])
    x, y = (bank(v)[0].double().permute(0, 2, 3, 1).flatten(0, 2).numpy() for v in (images, reconstructed))
    covariance = np.cov(np.column_stack([x, y]), rowvar=False, bias=True)
    covariance += np.diag(covariance.diagonal() * 1e-3 + 1e-8)  # some filters are sums of others
    xx, xy, yy = covariance[:44, :44], covariance[:44, 44:], covariance[44:, 44:]
    gain = xy @ np.linalg.inv(yy)
    left = x - x.mean(0) - (y - y.mean(0)) @ gain.T
    expected = np.sqrt((left @ np.linalg.inv(xx - gain @ xy.T) * left).sum(1) / 44)
    answer = comparison.feature_map(comparison.feature_pair(images, reconstructed), (8, 9))  # its own grid: no resizing
    found = answer.permute(0, 2, 3, 1).flatten().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert 0.9 < np.sqrt(np.mean(found**2)) <= 1


def test_maps_are_standardised_on_the_training_pictures() -> None:
    images, reconstructed = pictures(5, 1)
    comparison = make(pixel_weight=0.0)
    comparison.collect(images, reconstructed)
    comparison.finish()
    maps = comparison(images, reconstructed).anomaly_map
    assert maps.mean().item() == pytest.approx(0, abs=1e-4) and maps.std().item() == pytest.approx(1, abs=1e-3)


def test_maps_are_averaged_by_weight() -> None:
    images, reconstructed = pictures(5, 2)
    answers = {}
    for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 2.0, 1.0)):
        comparison = make(**dict(zip(("pixel_weight", "feature_weight", "own_weight"), weights, strict=True)))
        comparison.collect(images, reconstructed, images[:, :1])
        comparison.finish()
        answers[weights] = comparison(images, reconstructed, images[:, :1]).anomaly_map
    pixels, features, own, mixed = answers.values()
    torch.testing.assert_close(mixed, (pixels + 2 * features + own) / 4, atol=1e-4, rtol=1e-4)


def test_statistics_do_not_depend_on_the_batches_and_begin_anew() -> None:
    images, reconstructed = pictures(70, 3)  # more than the comparison keeps: it thins evenly
    whole, parts = make(), make()
    parts.collect(*pictures(3, 9))
    parts.finish()
    whole.collect(images, reconstructed)
    for start in range(0, 70, 9):
        parts.collect(images[start : start + 9], reconstructed[start : start + 9])
    for comparison in (whole, parts):
        comparison.finish()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_relative_maps_have_a_median_of_zero() -> None:
    images, reconstructed = pictures(3, 4)
    plain, relative = make(), make(relative=True)
    for comparison in (plain, relative):
        comparison.collect(images, reconstructed)
        comparison.finish()
    first, second = plain(images, reconstructed), relative(images, reconstructed)
    medians = first.anomaly_map.flatten(1).median(1).values
    torch.testing.assert_close(second.anomaly_map, first.anomaly_map - medians.view(-1, 1, 1, 1))
    torch.testing.assert_close(second.score, first.score - medians)


@pytest.mark.parametrize(("share", "expected"), [(0.0, [4.0]), (0.5, [3.5]), (1.0, [2.5]), (0.1, [4.0])])
def test_score_is_the_mean_of_the_top_share(share: float, expected: list[float]) -> None:
    assert top_mean(torch.tensor([[[[1.0, 4.0], [2.0, 3.0]]]]), share).tolist() == expected


def test_another_backbone_gets_pictures_as_it_expects_them() -> None:
    comparison = make(backbone="resnet10t", layers=["layer1"])
    images, _ = pictures(2, 5)
    seen = []
    comparison.features.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    comparison.feature_pair(images, images)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (images * 0.5 + 0.5 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    torch.testing.assert_close(seen[0][:2], expected)


def test_refusals() -> None:
    with pytest.raises(ProjectError, match="one of them must be above 0"):
        make(pixel_weight=0.0, feature_weight=0.0)
    with pytest.raises(ProjectError, match="top_share=1.5"):
        make(top_share=1.5)
    with pytest.raises(ProjectError, match="no statistics"):
        make()(*pictures(1, 0))
    with pytest.raises(ProjectError, match="no normal training picture"):
        make().finish()
    broken = make()
    images, reconstructed = pictures(2, 0)
    broken.collect(images, torch.full_like(reconstructed, torch.nan))
    with pytest.raises(ProjectError, match="not finite"):
        broken.finish()
