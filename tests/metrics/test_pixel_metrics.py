"""Pixel metrics: exact for every dtype, equal to scikit-learn and anomalib's AUPRO, right on regions by hand."""

import cv2
import numpy as np
import pytest

from src.errors import ProjectError
from src.metrics import pixel
from src.metrics.ranking import UndefinedMetric


def drawn(seed: int, n: int = 6, size: int = 48, dtype: type = np.float16) -> tuple[np.ndarray, np.ndarray]:
    """Maps that are higher in blobs, and the blobs' masks; some images are normal."""
    random = np.random.default_rng(seed)
    masks = np.zeros((n, size, size), np.uint8)
    for index in range(n // 2 + 1):
        for _ in range(3):
            x, y = random.integers(4, size - 4, 2).tolist()
            cv2.ellipse(
                masks[index], (x, y), (int(random.integers(1, 7)), int(random.integers(1, 4))), 20, 0, 360, 1, -1
            )
    return random.normal(masks * 1.2, 1.0).astype(dtype), masks


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_equal_to_scikit_learn(dtype: type) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    maps, masks = drawn(0, dtype=dtype)
    truth, scores = masks.ravel(), maps.ravel().astype(np.float64)
    assert pixel.pixel_auroc(maps, masks) == pytest.approx(sk.roc_auc_score(truth, scores), abs=1e-12)
    theirs = sk.average_precision_score(truth, scores)
    assert pixel.pixel_average_precision(maps, masks) == pytest.approx(theirs, abs=1e-12)
    precision, recall, _ = sk.precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert pixel.pixel_f1(maps, masks) == pytest.approx(f1.max(), abs=1e-12)


def test_all_types_and_layouts_agree() -> None:
    half, masks = drawn(1)
    expected = {
        name: metric(pixel.count_pixels(zip(half, masks, strict=True))) for name, metric in pixel.PIXEL_METRICS.items()
    }
    single, double = half.astype(np.float32), half.astype(np.float64)
    mixed = [half[0], single[1], double[2], half[3], single[4], double[5]]
    strided = [np.asfortranarray(plane) for plane in half]
    channels = single[:, None]
    for maps in (single, double, mixed, strided, channels):
        counts = pixel.count_pixels((plane, mask) for plane, mask in zip(maps, masks, strict=True))
        for name, metric in pixel.PIXEL_METRICS.items():
            assert metric(counts) == pytest.approx(expected[name], abs=1e-14), name


def test_integer_maps_and_signed_zeros() -> None:
    masks = np.array([[[0, 1], [0, 1]]], np.uint8)
    assert pixel.pixel_auroc(np.array([[[7, 7], [3, 9]]], np.uint8), masks) == 0.875
    zeros = np.array([[[0.0, -0.0], [-0.0, 0.0]]], np.float16)
    assert pixel.pixel_auroc(zeros, masks) == 0.5
    assert pixel.aupro(zeros, masks) == pytest.approx(0.15)  # one tie: a straight line from (0, 0) to (1, 1)


def test_several_sizes_in_one_set() -> None:
    (small, small_masks), (large, large_masks) = drawn(2, size=24), drawn(3, size=40)
    together = pixel.pixel_auroc([*small, *large], [*small_masks, *large_masks])
    flat = np.concatenate([small.ravel(), large.ravel()]), np.concatenate([small_masks.ravel(), large_masks.ravel()])
    assert together == pytest.approx(pixel.pixel_auroc([flat[0][None]], [flat[1][None]]), abs=1e-14)


def test_aupro_of_one_region_by_hand() -> None:
    """Ten normal pixels and a region of two: the region is half found at rate 0.1, wholly at 0.2."""
    mask = np.zeros((1, 12), np.uint8)
    mask[0, :2] = 1
    scores = np.array([[9.5, 7.5, 10, 9, 8, 5, 4, 3, 2, 1, 0.5, 0.2]], np.float32)
    # rate 0→0.1: overlap 0. 0.1→0.3 (scores 9, 8): overlap 1/2. Above 0.3 overlap 1, but past the limit.
    assert pixel.aupro([scores], [mask]) == pytest.approx(0.2 * 0.5 / 0.3)
    assert pixel.aupro([scores], [mask], fpr_limit=1.0) == pytest.approx(0.2 * 0.5 + 0.7)
    assert pixel.aupro([mask.astype(np.float16)], [mask]) == 1.0
    assert pixel.aupro([1 - mask.astype(np.float16)], [mask]) == pytest.approx(0.0)


def test_aupro_weighs_regions_alike() -> None:
    """A large region found and a small one missed count half each; diagonal neighbours are one region."""
    mask = np.zeros((20, 20), np.uint8)
    mask[:10, :10] = 1
    mask[15, 15] = mask[16, 16] = 1
    found = np.zeros((20, 20), np.float32)
    found[:10, :10] = 1
    found[15:17, 15:17] = -1
    assert pixel.count_pixels([(found, mask)]).n_regions == 2
    assert pixel.aupro([found], [mask]) == pytest.approx(0.5, abs=1e-12)
    assert pixel.pixel_auroc([found], [mask]) > 0.95


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_aupro_equals_anomalibs(dtype: type, limit: float) -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("anomalib.metrics.aupro")
    maps, masks = drawn(4, dtype=dtype)
    peer = metrics._AUPRO(fpr_limit=limit)
    peer.update(torch.from_numpy(maps.astype(np.float32)), torch.from_numpy(masks))
    # The same definition; anomalib counts in float32, hence the tolerance.
    assert pixel.aupro(maps, masks, fpr_limit=limit) == pytest.approx(float(peer.compute()), abs=1e-6)


def test_bad_input() -> None:
    maps, masks = drawn(5)
    with pytest.raises(ProjectError, match="index 0 is 48×48 but its mask is 24×24"):
        pixel.pixel_auroc(maps, masks[:, ::2, ::2])
    with pytest.raises(ProjectError, match="ends at index 5"):
        pixel.aupro(maps, masks[:5])
    for bad in (np.nan, np.inf):
        broken = maps.copy()
        broken[3, 7, 7] = bad
        with pytest.raises(ProjectError, match="index 3 holds NaN or infinite"):
            pixel.pixel_auroc(broken, masks)
    with pytest.raises(ProjectError, match=r"'b' holds NaN"):
        pixel.count_pixels([(maps[0], masks[0]), (maps[1] * np.nan, masks[1])], ids=["a", "b"])
    for metric in (pixel.pixel_auroc, pixel.pixel_average_precision, pixel.pixel_f1, pixel.aupro):
        with pytest.raises(UndefinedMetric, match="anomalous"):
            metric(maps, np.zeros_like(masks))
    with pytest.raises(UndefinedMetric, match="no pixels"):
        pixel.pixel_auroc([], [])
    with pytest.raises(ProjectError, match="fpr_limit"):
        pixel.aupro(maps, masks, fpr_limit=0)
