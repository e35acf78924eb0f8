"""Mosaics and MixUp: boxes lie on their objects, partners follow from the key, limits hold, mistakes are named."""

import random

import numpy as np
import pytest

from src.data.mosaic import MixUp, Mosaic4
from src.data.scene import Scene
from src.data.transforms import PreprocessSpec, build_augmentation
from src.errors import ProjectError

SPEC = PreprocessSpec(96, 128, "letterbox")
LIMITS = {"min_visible": 0.3, "min_side": 2}
COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]], np.uint8)


def scene(label: int, box: tuple[int, int, int, int], region: tuple[int, int, int, int] = (0, 0, 128, 96)) -> Scene:
    """One rectangle of its class's colour on black, grey outside of the region; a tag 10 + label."""
    image = np.full((96, 128, 3), 128, np.uint8)
    image[region[1] : region[3], region[0] : region[2]] = 0
    image[box[1] : box[3], box[0] : box[2]] = COLOURS[label]
    boxes = np.array([box], np.float32)
    return Scene(image, boxes, np.array([label]), np.ones(1, np.float32), np.array([10 + label]), region)


def four() -> list[Scene]:
    return [
        scene(0, (20, 30, 70, 60)),
        scene(1, (44, 10, 80, 90), (32, 0, 96, 96)),
        scene(2, (8, 20, 120, 76), (0, 16, 128, 80)),
        scene(3, (60, 40, 90, 70)),
    ]


def extent(image: np.ndarray, label: int) -> tuple[np.ndarray, int]:
    mask = (abs(image.astype(int) - COLOURS[label]) < 120).all(-1)
    if not mask.any():
        return np.zeros(4), 0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]), int(mask.sum())


@pytest.mark.parametrize("scale", [(0.3, 0.5), (0.5, 1.5), (1.5, 3.0)])
def test_boxes_of_a_mosaic_lie_on_their_objects(scale):
    mosaic = Mosaic4(size=(96, 128), fill=(128, 128, 128), scale=scale, p=1)
    generator, kept = random.Random(0), 0
    for _ in range(60):
        draw = mosaic.draw(generator)
        out = mosaic.mix(four(), draw.values, **LIMITS)
        assert out.image.shape == (96, 128, 3) and out.image.dtype == np.uint8
        assert out.tags.tolist() == [10, 11, 12, 13] and out.region == (0, 0, 128, 96)
        for box, label, visible in zip(out.boxes, out.labels, out.visible, strict=True):
            seen, pixels = extent(out.image, label)
            assert abs(seen - box).max() <= 1.6
            assert visible >= 0.3 and pixels > 0
        for label in set(range(4)) - set(out.labels.tolist()):
            start = four()[label].boxes[0]
            whole = np.prod(start[2:] - start[:2]) * draw.values[0] ** 2
            assert extent(out.image, label)[1] <= 0.36 * whole + 4
        kept += len(out.boxes)
    assert kept > (20 if scale[0] > 1 else 150)


def test_pictures_are_all_used_and_fill_the_canvas():
    """Whole pictures at half size or more leave no padding; of each the part of its cell is seen."""
    whole = [scene(label, (2, 2, 126, 94)) for label in range(4)]
    mosaic, places = Mosaic4(size=(96, 128), fill=(128, 128, 128), scale=(0.5, 0.6), p=1), set()
    for seed in range(40):
        out = mosaic.mix(whole, mosaic.draw(random.Random(seed)).values, **LIMITS)
        assert not (out.image == 128).all(-1).any()
        assert sorted(out.labels) == [0, 1, 2, 3]
        places.add(tuple(out.labels))
    assert len(places) > 10


def test_mixup_keeps_both():
    first, second = scene(0, (20, 30, 70, 60)), scene(1, (44, 10, 80, 90), (32, 0, 96, 96))
    out = MixUp(size=(96, 128), fill=(0, 0, 0), p=1).mix([first, second], (), **LIMITS)
    assert out.boxes.tolist() == [[20, 30, 70, 60], [44, 10, 80, 90]] and out.labels.tolist() == [0, 1]
    assert out.image[45, 30].tolist() == [125 + 64, 64, 64] and out.tags.tolist() == [10, 11]
    assert out.region == (0, 0, 128, 96)


CONFIG = [
    {"name": "HorizontalFlip", "p": 0.5},
    {"name": "Mosaic4", "scale": [0.4, 0.8], "p": 0.6},
    {"name": "ScaleJitter", "scale": [0.8, 1.2], "p": 0.5},
    {"name": "MixUp", "p": 0.5},
    {"name": "RandomGamma", "p": 0.5},
]


def test_the_key_decides_about_partners_too():
    augment = build_augmentation(CONFIG, SPEC)
    asked: list[int] = []

    def partner(draw: int) -> Scene:
        asked.append(draw)
        return four()[draw % 4]

    results, counts = {}, set()
    for key in [*range(30), *range(30)]:
        asked.clear()
        out = augment.scene(four()[0], key=key, partner=partner)
        now = (tuple(asked), out.image.tobytes(), out.boxes.tobytes())
        assert results.setdefault(key, now) == now
        counts.add(len(asked))
    # None, MixUp alone, a mosaic, a plain partner for a mosaic, a mosaic that is a partner, both.
    assert counts == {0, 1, 3, 4, 7}
    assert len({r[0] for r in results.values() if r[0]}) == sum(bool(r[0]) for r in results.values())


def test_without_partners_nothing_is_mixed():
    plain = build_augmentation([entry for entry in CONFIG if entry["name"] not in ("Mosaic4", "MixUp")], SPEC)
    augment = build_augmentation(CONFIG, SPEC)
    assert augment.needs_boxes == ["Mosaic4", "MixUp"] and plain.needs_boxes == []
    for key in range(10):
        out = augment.scene(four()[0], key=key)
        assert len(out.boxes) <= 1 and out.tags.tolist() == [10]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "Mosaic"}, "Use Mosaic4"),
        ({"name": "Mosiac4"}, "Did you mean 'Mosaic4'"),
        ({"name": "Mosaic4", "size": 3}, "unknown argument 'size'"),
        ({"name": "Mosaic4", "p": 1.5}, "p must be a number, 0 to 1"),
        ({"name": "Mosaic4", "scale": [0, 1]}, "0.05 ≤ low"),
        ({"name": "MixUp", "alpha": 0.2}, "unknown argument 'alpha'"),
        ({"name": "OneOf", "transforms": [{"name": "MixUp"}]}, "into the list itself"),
    ],
)
def test_mistakes_are_named(entry, message):
    with pytest.raises(ProjectError, match=message):
        build_augmentation([entry], SPEC)
