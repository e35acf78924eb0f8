"""SSIM: scikit-image's values away from the border, and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from src.errors import ProjectError
from src.models.anomaly.ssim import SSIM


@pytest.mark.parametrize("sigma", [1.5, 0.8])
def test_equals_scikit_image(sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(2, 3, 30, 37, generator=generator) * 2 - 1
    second = (first + 0.4 * torch.randn(first.shape, generator=generator)).clamp(-1, 1)
    answer = SSIM(sigma=sigma, data_range=2.0)(first, second)
    assert answer.shape == first.shape
    border = int(3.5 * sigma + 0.5)
    for picture in range(2):
        for colour in range(3):
            mean, expected = structural_similarity(
                first[picture, colour].double().numpy(), second[picture, colour].double().numpy(), data_range=2.0,
                gaussian_weights=True, sigma=sigma, use_sample_covariance=False, full=True,
            )  # fmt: skip
            inside = (slice(border, -border), slice(border, -border))
            np.testing.assert_allclose(answer[picture, colour].numpy()[inside], expected[inside], atol=2e-5)
            assert answer[picture, colour][inside].mean().item() == pytest.approx(mean, abs=2e-5)


@settings(max_examples=20, deadline=None)
@given(a=st.floats(-1, 1, width=32), b=st.floats(-1, 1, width=32))
def test_flat_pictures_compare_their_brightness(a: float, b: float) -> None:
    c1 = (0.01 * 2) ** 2
    answer = SSIM()(torch.full((1, 1, 12, 12), a), torch.full((1, 1, 12, 12), b))
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    torch.testing.assert_close(answer, torch.full_like(answer, expected), atol=1e-3, rtol=1e-3)


def test_equal_is_one_and_opposite_is_negative() -> None:
    picture = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(SSIM()(picture, picture), torch.ones_like(picture))
    board = (torch.arange(20).view(-1, 1) + torch.arange(20)).remainder(2).mul(2.0).sub(1).view(1, 1, 20, 20)
    assert SSIM()(board, -board)[..., 6:-6, 6:-6].max() < -0.9  # no brightness, and the opposite structure


def test_half_precision_is_left_aside() -> None:
    picture = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    other = picture + 0.01
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = SSIM()(picture, other)
    torch.testing.assert_close(inside, SSIM()(picture, other))


def test_refusals() -> None:
    with pytest.raises(ProjectError, match="5 pixels each way, but the picture is 5×40"):
        SSIM()(torch.zeros(1, 3, 5, 40), torch.zeros(1, 3, 5, 40))
    with pytest.raises(ProjectError, match="sigma=0"):
        SSIM(sigma=0)
