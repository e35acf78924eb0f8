"""Views of anomaly networks: exact ways back, defects found where planted, refusals that say what to change."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.data.geometry import lay_out, map_to_original, place
from src.data.images import read_resized
from src.data.transforms import PreprocessSpec
from src.errors import ProjectError
from src.models.anomaly.output import AnomalyOutput
from src.models.anomaly.padim import PaDiM
from src.models.anomaly.patchcore import PatchCore
from src.models.anomaly.views import Views, check_views, predict_views, resize

FLIP, TURN, ALL = Views(flip=True), Views(rot90=True), Views(flip=True, rot90=True)
SCALED = Views(flip=True, scales=(0.75, 1.0, 1.25))


class Bright(nn.Module):
    """The map is the first channel itself, as it is seen; remembers the views that it was shown."""

    any_size = True

    def __init__(self, *, stride: int = 32) -> None:
        super().__init__()
        self.stride = stride
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> AnomalyOutput:
        self.seen.append(images)
        return AnomalyOutput(images.amax(dim=(1, 2, 3)), images[:, :1])


class Lopsided(Bright):
    """Sees the left half only; its probabilities are those of a sum of the left half."""

    def forward(self, images: Tensor) -> AnomalyOutput:
        left = images[:, :1].clone()
        left[..., images.shape[3] // 2 :] = 0
        logits = torch.stack([left.sum(dim=(1, 2, 3)), torch.zeros(len(images))], dim=1)
        return AnomalyOutput(left.amax(dim=(1, 2, 3)), left, logits.softmax(dim=1))


class Mapless(Bright):
    def forward(self, images: Tensor) -> AnomalyOutput:
        return AnomalyOutput(images.mean(dim=(1, 2, 3)))


def centroid(plane: np.ndarray) -> tuple[float, float]:
    """(row, column) of the middle of the region above half of the map's peak over its median."""
    base = float(np.median(plane))
    rows, columns = np.nonzero(plane >= base + (plane.max() - base) / 2)
    return float(rows.mean()), float(columns.mean())


def disc(height: int, width: int, row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2).astype(np.float32)


def as_batch(*planes: np.ndarray) -> Tensor:
    return torch.tensor(np.stack(planes)).unsqueeze(1).repeat(1, 3, 1, 1)


@pytest.mark.parametrize("size", [(64, 64), (97, 97), (96, 131), (33, 70)])
@pytest.mark.parametrize("views", [FLIP, TURN, ALL])
def test_flips_and_turns_come_back_pixel_for_pixel(size: tuple[int, int], views: Views) -> None:
    if views.rot90:
        size = (size[1], size[1])
    whole = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0))
    images = whole / 256  # sums of eight are exact
    network = Bright()
    output = predict_views(network, images, views)
    assert torch.equal(output.anomaly_map, images[:, :1])
    assert torch.equal(output.score, images.amax(dim=(1, 2, 3)))
    assert len(network.seen) == len(views)
    different = {tuple(view.flatten().tolist()) for view in network.seen}
    assert len(different) == len(views), "two views show the same"


def test_views_are_averaged_where_they_belong() -> None:
    """One half is seen by each of the two views: each pixel counts half, probabilities after their softmax."""
    images = torch.zeros(1, 3, 8, 8)
    images[..., 1, 2], images[..., 5, 7] = 2.0, 1.0
    output = predict_views(Lopsided(), images, FLIP)
    expected = torch.zeros(1, 1, 8, 8)
    expected[..., 1, 2], expected[..., 5, 7] = 1.0, 0.5
    torch.testing.assert_close(output.anomaly_map, expected)
    torch.testing.assert_close(output.score, torch.tensor([1.5]))
    first = [1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-1.0))]
    assert output.probs[0, 0].item() == pytest.approx(np.mean(first), abs=1e-6)
    assert output.probs.sum().item() == pytest.approx(1.0)


def test_a_network_without_maps_stays_without() -> None:
    output = predict_views(Mapless(), torch.ones(3, 3, 64, 64), ALL)
    assert output.anomaly_map is None and output.probs is None and output.score.tolist() == [1.0] * 3


@pytest.mark.parametrize("size", [(128, 128), (160, 96), (101, 135)])
@pytest.mark.parametrize("scale", [0.7, 0.75, 1.25, 1.5, 2.0])
def test_rescaled_views_do_not_shift(size: tuple[int, int], scale: float) -> None:
    height, width = size
    places = [(height * 0.22, width * 0.71), (height * 0.8, width * 0.15)]
    images = as_batch(*(disc(height, width, row, column, 6) for row, column in places))
    network = Bright(stride=8)
    output = predict_views(network, images, Views(scales=(scale,)))
    assert network.seen[0].shape[2:] != images.shape[2:]
    assert output.anomaly_map.shape == (2, 1, height, width)
    for plane, place_of in zip(output.anomaly_map[:, 0].numpy(), places, strict=True):
        assert centroid(plane) == pytest.approx(place_of, abs=0.6)


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.0])
def test_resizing_keeps_pixel_centres(factor: float) -> None:
    """Pixel i is the interval from i to i + 1, as in `src.data.geometry`; aligned corners would shift by up to 1."""
    row, column = 12.0, 71.0
    plane = cv2.GaussianBlur(disc(96, 96, row, column, 5), (0, 0), 2)
    scaled = resize(as_batch(plane), (int(96 * factor), int(96 * factor)))[0, 0].numpy()
    rows, columns = np.mgrid[: len(scaled), : len(scaled)]
    found = np.array([(scaled * rows).sum(), (scaled * columns).sum()]) / scaled.sum()
    assert found == pytest.approx([(row + 0.5) * factor - 0.5, (column + 0.5) * factor - 0.5], abs=0.1)


@pytest.mark.parametrize("mode", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("original", [(301, 457), (457, 301), (160, 161), (255, 640)])
@pytest.mark.parametrize(
    ("canvas", "views"),
    [
        ((160, 224), FLIP),
        ((160, 224), SCALED),
        ((192, 192), ALL),
        ((192, 192), Views(flip=True, rot90=True, scales=(1.0, 1.2))),
    ],
)
def test_planted_defects_are_found_in_the_original_picture(
    mode: str, original: tuple[int, int], canvas: tuple[int, int], views: Views
) -> None:
    spec = PreprocessSpec(height=canvas[0], width=canvas[1], resize=mode)
    height, width = original
    middle, side = (height / 2, width / 2), min(height, width)  # crop sees the middle of the picture
    for down, right in ((-0.21, 0.27), (0.3, 0.12), (0.17, -0.29)):
        row, column = middle[0] + down * side, middle[1] + right * side
        picture = disc(height, width, row, column, side * 0.07)
        placed = place(original, spec)
        scaled = cv2.resize(picture, (placed.scaled_width, placed.scaled_height), interpolation=cv2.INTER_AREA)
        batch = as_batch(lay_out(scaled, placed, canvas, 0.0))
        plane = predict_views(Bright(stride=16), batch, views).anomaly_map[0, 0].numpy()
        found = centroid(map_to_original(plane, original, spec))
        assert np.hypot(found[0] - row, found[1] - column) <= 2.0


@pytest.fixture(scope="module")
def fitted() -> PatchCore:
    """PatchCore on a smooth texture, with the fixed filters."""
    model = PatchCore(backbone="filter_bank", layers=["coarse", "fine"], coreset_size=400, standardize=True)
    generator = np.random.default_rng(0)
    for _ in range(4):
        model.collect(texture(generator, count=2))
    model.finish()
    return model.eval()


def texture(generator: np.random.Generator, *, count: int, size: int = 128) -> Tensor:
    noise = generator.normal(0, 1, (count, size, size)).astype(np.float32)
    return as_batch(*(cv2.GaussianBlur(plane, (0, 0), 2) for plane in noise))


@pytest.mark.parametrize("views", [FLIP, ALL, Views(flip=True, rot90=True, scales=(1.0, 1.25))])
def test_patchcore_finds_a_planted_defect(fitted: PatchCore, views: Views) -> None:
    generator = np.random.default_rng(1)
    for row, column in ((37, 85), (90, 41), (70, 100)):
        image = texture(generator, count=1)
        spot = torch.tensor(disc(128, 128, row, column, 5)) > 0
        image[:, :, spot] = 1.0
        plane = predict_views(fitted, image, views).anomaly_map[0, 0].numpy()
        found = centroid(plane)
        assert np.hypot(found[0] - row, found[1] - column) <= 2.0


def test_a_real_network_on_real_tiles(shared_data: Path) -> None:
    """Strided convolutions displace maps by some pixels; the eight views cancel that."""
    tiles = sorted((shared_data / "magnetic_tile").glob("train/good/*.jpg"))[:11]
    weights = shared_data / "weights" / "mobilenetv2_100_same.safetensors"
    if len(tiles) < 11 or not weights.is_file():
        pytest.skip("the tiles or the weights are not here")
    model = PatchCore(
        backbone="mobilenetv2_100", layers=[1, 2], backbone_args={"pad_type": "same"}, weights=str(weights),
        coreset_size=600,
    )  # fmt: skip
    spec = PreprocessSpec(height=256, width=256)
    pictures = [torch.tensor(read_resized(path, spec)[0]).permute(2, 0, 1)[None] for path in tiles]
    for picture in pictures[:8]:
        model.collect(spec.normalize(picture))
    model.finish()
    distances: dict[str, list[float]] = {"plain": [], "eight": []}
    for picture, (row, column) in zip(pictures[8:], ((61, 187), (150, 70), (99, 120)), strict=True):
        picture[:, :, torch.tensor(disc(256, 256, row, column, 8)) > 0] = 240
        images = spec.normalize(picture)
        for name, output in (("plain", model.eval()(images)), ("eight", predict_views(model, images, ALL))):
            found = centroid(output.anomaly_map[0, 0].numpy())
            distances[name].append(float(np.hypot(found[0] - row, found[1] - column)))
    assert max(distances["eight"]) <= 1.5 and np.mean(distances["plain"]) > np.mean(distances["eight"])


def test_batch_mates_do_not_matter(fitted: PatchCore) -> None:
    images = texture(np.random.default_rng(2), count=3)
    whole = predict_views(fitted, images, ALL)
    alone = predict_views(fitted, images[1:2], ALL)
    torch.testing.assert_close(alone.score, whole.score[1:2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone.anomaly_map, whole.anomaly_map[1:2], rtol=1e-4, atol=1e-4)


def test_config() -> None:
    assert Views.from_config({"flip": False, "scales": [1.0], "iou": 0.6}) is None
    assert Views.from_config({"flip": False, "rot90": False, "scales": [1]}) is None
    views = Views.from_config({"flip": True, "rot90": True, "scales": [1, 0.75, 1.0], "iou": 0.6})
    assert views == Views(flip=True, rot90=True, scales=(1.0, 0.75)) and len(views) == 16
    assert Views.from_config(views.to_dict()) == views
    assert Views.from_config({"scales": [0.75]}) == Views(scales=(0.75,))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"flips": True}, "tta.flips is not known. Did you mean 'flip'"),
        ({"flip": "yes"}, "tta.flip must be true or false"),
        ({"rot90": 1}, "tta.rot90 must be true or false"),
        ({"scales": []}, "tta.scales is empty"),
        ({"scales": 1.25}, r"tta.scales must be a list"),
        ({"scales": [True]}, "tta.scales must be numbers"),
        ({"scales": [5]}, "tta.scales must be numbers from 0.25 to 4, not 5"),
        ({"scales": [float("nan")]}, "tta.scales must be numbers"),
    ],
)
def test_wrong_config(config: dict, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        Views.from_config(config)


def test_what_cannot_be_turned_or_rescaled_is_refused() -> None:
    with pytest.raises(ProjectError, match="tta.rot90 turns pictures by 90°.*96×64"):
        check_views(Bright(), (96, 64), TURN)
    padim = PaDiM(backbone="filter_bank", layers=["coarse"], n_features=8)
    check_views(padim, (128, 128), ALL)
    with pytest.raises(ProjectError, match=r"tta.scales=\[1.0, 1.25\]: PaDiM takes pictures of 128×128"):
        predict_views(padim, torch.zeros(1, 3, 128, 128), Views(scales=(1.0, 1.25)))
    with pytest.raises(ProjectError, match="64 pixels a side"):
        check_views(Bright(), (128, 128), Views(scales=(0.25,)))
    with pytest.raises(ProjectError, match="1.02 and 1 of 128×128 pixels are both 128×128"):
        check_views(Bright(), (128, 128), Views(scales=(1.0, 1.02)))


def test_a_backbone_of_one_size_says_so() -> None:
    """A transformer whose positions are fixed: what the backbone says comes with the key to change."""
    fixed = {"img_size": 64, "dynamic_img_size": False, "depth": 3}
    model = PatchCore(backbone="vit_tiny_patch16_224", layers=[1], backbone_args=fixed)
    model.memory_bank = torch.zeros(3, model.width)
    model.eval()
    with pytest.raises(ProjectError, match="tta.scales: a view of 128×128 pixels is refused. vit_tiny"):
        predict_views(model, torch.zeros(1, 3, 64, 64), Views(scales=(2.0,)))
