"""Pixel thresholds: exact against all thresholds tried one by one; areas only where they help; quantiles."""

import numpy as np
import pytest

from src.calibration.pixel_curves import bins_of, lower_edges
from src.calibration.pixels import PixelThreshold, normal_pixel_quantile, tune_pixel_threshold, without_small
from src.errors import ProjectError
from src.metrics.masks import dice, iou, seg_f1
from src.metrics.ranking import UndefinedMetric

METRICS = {"seg_f1": seg_f1, "dice": dice, "iou": iou}


def drawn(n: int = 12, size: int = 24, *, scale: float = 1.0, shift: float = 0.0, seed: int = 0) -> list[tuple]:
    """(map, mask): a bright square in two of three images, sizes differing, noise everywhere."""
    random = np.random.default_rng(seed)
    pairs = []
    for index in range(n):
        mask = np.zeros((size, size + index % 3), bool)
        if index % 3:
            mask[4:12, 5 : 9 + index % 5] = True
        pairs.append(((random.normal(mask * 2.0, 1.0) * scale + shift).astype(np.float32), mask))
    return pairs


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-7, 0.0), (1e6, -3e6)])
def test_no_threshold_is_better(metric: str, scale: float, shift: float) -> None:
    pairs = drawn(scale=scale, shift=shift)
    found = tune_pixel_threshold((pair for pair in pairs), metric)
    maps, masks = zip(*pairs, strict=True)
    function = METRICS[metric]
    assert found.score == pytest.approx(function([found.decide(plane) for plane in maps], masks), abs=1e-12)
    tried = np.unique(np.concatenate([plane.ravel() for plane in maps]))[::29]
    best = max(function([plane >= threshold for plane in maps], masks) for threshold in tried)
    assert found.score >= best - 5e-3  # values that share a bin are not told apart
    assert (found.source, found.metric, found.n_images, found.n_anomalous) == ("oof", metric, 12, 8)
    assert found.min_area == 0 and found.cross_validated is None  # a generator is gone through once


def test_exact_for_half_precision() -> None:
    pairs = [(plane.astype(np.float16), mask) for plane, mask in drawn()]
    found = tune_pixel_threshold((pair for pair in pairs), "pixel_f1")
    maps, masks = zip(*pairs, strict=True)
    every = np.unique(np.concatenate([plane.ravel() for plane in maps]))
    assert found.metric == "seg_f1"
    assert found.score == pytest.approx(max(seg_f1([p >= t for p in maps], masks) for t in every), abs=1e-12)


def test_the_widest_gap_is_halved() -> None:
    plane = np.array([[0.1, 0.2, 0.8, 0.9]], np.float32)
    found = tune_pixel_threshold(iter([(plane, plane > 0.5)]), "seg_f1")
    assert found.score == 1 and found.value == pytest.approx(0.5, abs=1e-3)


def test_bins_keep_the_order() -> None:
    values = np.array([-3e38, -2.5, -1e-30, -0.0, 0.0, 1e-30, 1.0, 1.001, 65504, 3e38], np.float32)
    index = bins_of(values)
    assert (np.diff(index) >= 0).all() and index[3] == index[4] and index[6] < index[7]
    assert (lower_edges(index) <= values).all() and (values < lower_edges(index + 1)).all()


def with_specks(n: int = 15) -> list[tuple[np.ndarray, np.ndarray]]:
    """Defects of 64 pixels, and specks of the same height that are none."""
    random = np.random.default_rng(1)
    pairs = []
    for index in range(n):
        mask = np.zeros((40, 40), bool)
        plane = random.uniform(0, 0.3, (40, 40)).astype(np.float32)
        if index % 3:
            mask[20:28, 10:18] = True
        plane[mask] = 0.9
        for row, column in random.integers(0, 18, (6, 2)).tolist():
            plane[row, column] = 0.9
        pairs.append((plane, mask))
    return pairs


@pytest.mark.parametrize("metric", METRICS)
def test_a_smallest_area_that_helps(metric: str) -> None:
    pairs = with_specks()
    found = tune_pixel_threshold(pairs, metric)
    maps, masks = zip(*pairs, strict=True)
    assert 4 <= found.min_area <= 64 and found.cross_validated > found.plain
    assert found.score == pytest.approx(METRICS[metric]([found.decide(plane) for plane in maps], masks))
    assert found.score == 1 and found.plain < 0.97


def test_an_area_that_does_not_help_is_left_out() -> None:
    pairs = []
    for index in range(10):
        mask = np.zeros((12, 12), bool)
        mask[index % 5, ::4] = True  # defects of one pixel
        pairs.append((np.where(mask, 0.9, 0.1).astype(np.float32), mask))
    found = tune_pixel_threshold(pairs, "dice")
    assert found.min_area == 0 and found.score == 1 and found.cross_validated == found.plain == 1


def test_too_few_defects_for_cross_validation() -> None:
    found = tune_pixel_threshold(with_specks(2), "dice")  # one image with a defect
    assert found.min_area == 0 and found.plain is None


def test_regions_touch_at_corners() -> None:
    mask = np.zeros((5, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = mask[4, 5] = True
    assert without_small(mask, 2).sum() == 3 and without_small(mask, 4).sum() == 0
    assert np.array_equal(without_small(mask, 0), mask)


def test_quantile_of_normal_pixels() -> None:
    random = np.random.default_rng(2)
    maps = [random.normal(size=(50, 40)).astype(np.float32) for _ in range(4)]
    found = normal_pixel_quantile(iter(maps), target_false_alarm=0.01)
    share = np.mean([plane >= found.value for plane in maps])
    assert share == found.score <= 0.01 and share > 0.009
    assert found.source == "normal_quantile" and found.n_images == 4 and found.min_area == 0
    flat = normal_pixel_quantile([np.ones((3, 3))], target_false_alarm=0.5)
    assert flat.value > 1 and flat.score == 0  # no value of these pixels is rare enough


def test_refusals() -> None:
    plane, mask = drawn(2)[1]
    for pairs, kind, message in (
        ([], UndefinedMetric, "none of the 0 images"),
        ([(plane, np.zeros_like(mask))], UndefinedMetric, "none of the 1 images has one"),
        ([(plane, mask[:-1])], ProjectError, "at index 0 is 24×25, and its mask 23×25"),
        ([(plane, mask), (np.full((2, 2), np.nan), np.ones((2, 2)))], ProjectError, "at index 1 holds NaN"),
        ([(np.zeros(3), np.zeros(3))], ProjectError, r"shape \(3,\)"),
    ):
        with pytest.raises(kind, match=message):
            tune_pixel_threshold(iter(pairs), "dice")
    with pytest.raises(UndefinedMetric, match="needs held-out normal images"):
        normal_pixel_quantile([])
    for target in (0, 1):
        with pytest.raises(ProjectError, match="between 0 and 1"):
            normal_pixel_quantile([plane], target_false_alarm=target)
    with pytest.raises(ProjectError, match="finite"):
        PixelThreshold(float("nan"), "oof", "dice", 1.0, 1, 1)


def test_record() -> None:
    found = tune_pixel_threshold(with_specks(), "dice")
    assert PixelThreshold.from_dict(found.to_dict()) == found
    with pytest.raises(ProjectError, match="cannot be read"):
        PixelThreshold.from_dict({"value": 1.0})
