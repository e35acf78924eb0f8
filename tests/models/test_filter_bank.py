"""Fixed filters: shapes, no randomness, no gradients, blind to light."""

import pytest
import torch

from src.models.filter_bank import LAYERS, STRIDES, FilterBank


def picture(height: int = 128, width: int = 160) -> torch.Tensor:
    """Textured pictures in [0.15, 0.5] of the unit range, (2, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 1, height // 4, width // 4, generator=generator)
    return 0.15 + 0.35 * torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear").repeat(
        1, 3, 1, 1
    )


def normalised(unit: torch.Tensor) -> torch.Tensor:
    return (unit - 0.5) / 0.5


@pytest.mark.parametrize("layers", [LAYERS, ("coarse",), ("coarse", "fine")])
@pytest.mark.parametrize("size", [(128, 160), (100, 75)])
def test_shapes_follow_strides_and_channels(layers: tuple[str, ...], size: tuple[int, int]) -> None:
    bank = FilterBank(layers=layers)
    maps = bank(normalised(torch.rand(2, 3, *size)))
    assert bank.strides == [STRIDES[layer] for layer in layers]
    for found, channels, stride in zip(maps, bank.channels, bank.strides, strict=True):
        padded = [-(-side // 8) * 8 // stride for side in size]
        assert found.shape == (2, channels, *padded) and found.isfinite().all()


def test_nothing_is_random_and_nothing_learns() -> None:
    images = normalised(picture()).requires_grad_()
    first, second = FilterBank(), FilterBank()
    for a, b in zip(first(images), second(images), strict=True):
        assert torch.equal(a, b) and not a.requires_grad
    assert not list(first.parameters())


def test_a_picture_does_not_depend_on_its_batch() -> None:
    images, bank = normalised(picture()), FilterBank()
    for together, alone in zip(bank(images), bank(images[:1]), strict=True):
        torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-4)


def test_light_hardly_matters_and_a_scratch_does() -> None:
    """Exposure, tint and a slope of light change the maps far less than a drawn line does."""
    unit, bank = picture(), FilterBank()
    slope = 1 + 0.2 * torch.linspace(-0.5, 0.5, unit.shape[-1])
    lit = unit * 1.3 * slope * torch.tensor([1.03, 1.0, 0.97]).view(1, 3, 1, 1)
    scratched = unit.clone()
    scratched[..., 62:65, 30:130] = 0.02
    for plain, other, damaged in zip(*(bank(normalised(x)) for x in (unit, lit, scratched)), strict=True):
        by_light, by_scratch = ((x - plain).abs().mean(1).amax() for x in (other, damaged))
        assert by_light < 0.5 * by_scratch


def test_unknown_layer() -> None:
    with pytest.raises(ValueError, match=r"layers \['fine', 'coarse'\], not \['medium'\]"):
        FilterBank(layers=("medium",))
