"""A box never outlives its object: after any augmentation it is where the object's pixels are, or gone with them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml

from src.data.box_transforms import hide
from src.data.scene import Scene, cut_boxes, paste, plain_canvas
from src.data.transforms import PreprocessSpec, build_augmentation
from src.errors import ProjectError

CONF = Path(__file__).resolve().parents[2] / "conf"
SIZE = 128
SPEC = PreprocessSpec(SIZE, SIZE, mean=(0.0, 0.0, 0.0))
COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 250]], np.uint8)  # on black


def scene(seed: int, size: int = SIZE) -> Scene:
    """Four rectangles that do not touch, one in each quarter, each of its own colour."""
    rng, half = np.random.default_rng(seed), size // 2
    image, boxes = np.zeros((size, size, 3), np.uint8), []
    for quarter, colour in enumerate(COLOURS):
        width, height = rng.integers(10, half - 6, 2)
        x = quarter % 2 * half + rng.integers(2, half - width - 2)
        y = quarter // 2 * half + rng.integers(2, half - height - 2)
        image[y : y + height, x : x + width] = colour
        boxes.append([x, y, x + width, y + height])
    return Scene(
        image,
        np.array(boxes, np.float32),
        np.arange(4),
        np.ones(4, np.float32),
        np.array([9]),
        (0, 0, size, size),
    )


def extent(image: np.ndarray, label: int) -> tuple[np.ndarray, int]:
    """xyxy around the pixels that are more of one object than of the ground, and how many there are."""
    lit = COLOURS[label] > 0
    mask = (image[..., lit] > 125).all(-1) & (image[..., ~lit] < 60).all(-1)
    if not mask.any():
        return np.zeros(4), 0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]), int(mask.sum())


GEOMETRIC = {
    "flips": [{"name": "HorizontalFlip", "p": 0.5}, {"name": "VerticalFlip", "p": 0.5}],
    "quarter turns": [{"name": "D4", "p": 1}],
    "jitter": [{"name": "ScaleJitter", "scale": [0.4, 2.0]}],
    "crop": [{"name": "RandomResizedCrop", "scale": [0.3, 1.0], "p": 1}],
    "affine": [{"name": "Affine", "scale": [0.7, 1.3], "translate_percent": [-0.3, 0.3], "rotate": 0, "p": 1}],
    "one of": [{"name": "OneOf", "transforms": [{"name": "Transpose"}, {"name": "ScaleJitter"}], "p": 1}],
    "all": [
        {"name": "ScaleJitter", "scale": [0.6, 1.6]},
        {"name": "HorizontalFlip", "p": 0.5},
        {"name": "RandomResizedCrop", "scale": [0.5, 1.0], "p": 0.7},
        {"name": "ScaleJitter", "scale": [0.6, 1.6]},
    ],
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_boxes_are_where_the_objects_are(name):
    augment = build_augmentation({"transforms": GEOMETRIC[name], "min_visible": 0.3, "min_side": 4}, SPEC)
    kept = dropped = 0
    for key in range(60):
        out = augment.scene(scene(key), key=key)
        assert out.boxes.dtype == np.float32 and out.labels.dtype == np.int64 and (out.tags == [9]).all()
        assert (out.boxes >= 0).all() and (out.boxes <= SIZE).all()
        assert (out.boxes[:, 2:] - out.boxes[:, :2] >= 4 - 1e-3).all()
        for box, label in zip(out.boxes, out.labels, strict=True):
            seen, _ = extent(out.image, label)
            assert abs(seen - box).max() <= 1.5, (key, label, seen, box)
        kept += len(out.boxes)
        dropped += 4 - len(out.boxes)
    assert kept > 60
    assert (dropped > 0) == (name not in ("flips", "quarter turns"))


def test_what_is_dropped_is_hardly_visible():
    """Without padding, what a lost object leaves in the picture is under the limit, over all crops together."""
    crops = [{"name": "RandomResizedCrop", "scale": [0.4, 0.7], "ratio": [1, 1], "p": 1}] * 2
    augment = build_augmentation({"transforms": crops, "min_visible": 0.3, "min_side": 0}, SPEC)
    judged = 0
    for key in range(60):
        before, after = scene(key), None
        after = augment.scene(before, key=key)
        for label in set(range(4)) - set(after.labels):
            _, pixels = extent(after.image, label)
            if not pixels or not len(after.boxes):
                continue
            # The zoom, from an object that stays whole.
            whole = after.visible > 0.999
            if not whole.any():
                continue
            i = int(np.flatnonzero(whole)[0])
            zoom = (after.boxes[i, 2] - after.boxes[i, 0]) / np.diff(before.boxes[after.labels[i], [0, 2]])[0]
            area = np.prod(before.boxes[label, 2:] - before.boxes[label, :2]) * zoom**2
            assert pixels / area < 0.3 + 0.06
            judged += 1
    assert judged >= 5


def test_shares_add_up_over_transforms():
    """Three crops that each leave 70% of an object leave a third of it: the limit is for all together."""
    halves = [{"name": "Crop", "x_min": 0, "y_min": 0, "x_max": SIZE, "y_max": SIZE - cut} for cut in (32, 48)]
    pads = [{"name": "PadIfNeeded", "min_height": SIZE, "min_width": SIZE, "position": "bottom_right"}] * 2
    steps = [{"name": "Sequential", "transforms": [crop, pad], "p": 1} for crop, pad in zip(halves, pads, strict=True)]
    start = scene(0)
    box, label = np.array([[10, 0, 40, 128]], np.float32), np.zeros(1, np.int64)
    tall = Scene(start.image, box, label, np.ones(1, np.float32), start.tags, start.region)
    out = build_augmentation({"transforms": steps, "min_visible": 0.3}, SPEC).scene(tall, key=0)
    # 96 of 128 rows stay; padding puts them below row 32; 80 rows of the picture stay, of which 48 are the object's.
    assert out.visible == pytest.approx([48 / 128]) and out.boxes.tolist() == [[10, 80, 40, 128]]
    gone = build_augmentation({"transforms": steps, "min_visible": 0.4}, SPEC).scene(tall, key=0)
    assert gone.boxes.shape == (0, 4) and gone.labels.shape == (0,)


ERASING = {
    "CoarseDropout": {
        "num_holes_range": [2, 4], "hole_height_range": [0.2, 0.6], "hole_width_range": [0.2, 0.6], "fill": 0,
    },
    "GridDropout": {"ratio": 0.8, "fill": 0},
    "XYMasking": {
        "num_masks_x": 2, "num_masks_y": 2, "mask_x_length": [20, 40], "mask_y_length": [20, 40], "fill": 0,
    },
    "Erasing": {"scale": [0.2, 0.5], "fill": 0},
}  # fmt: skip


@pytest.mark.parametrize("name", ERASING)
def test_an_erased_object_loses_its_box(name):
    step = {"name": name, **ERASING[name], "p": 1}
    augment = build_augmentation({"transforms": [step], "min_visible": 0.4, "min_side": 0}, SPEC)
    dropped = shrunk = 0
    for key in range(40):
        before = scene(key)
        out = augment.scene(before, key=key)
        for label in range(4):
            seen, pixels = extent(out.image, label)
            share = pixels / np.prod(before.boxes[label, 2:] - before.boxes[label, :2])
            stays = label in out.labels
            assert stays == (share >= 0.4) or abs(share - 0.4) < 1e-3
            dropped += not stays
            if stays:
                at = out.labels.tolist().index(label)
                assert out.boxes[at] == pytest.approx(seen) and out.visible[at] == pytest.approx(share, abs=1e-4)
                shrunk += bool((out.boxes[at] != before.boxes[label]).any())
    assert dropped >= 5 and (shrunk or name == "GridDropout")


def test_crop_and_erasing_count_together():
    boxes = np.array([[10, 10, 30, 30, 0.5, 0], [50.25, 50.5, 60.75, 61, 1, 1]], np.float32)
    hidden = np.zeros((100, 100), bool)
    hidden[:, :20] = True
    out = hide(boxes, hidden)
    assert out[0].tolist() == [20, 10, 30, 30, 0.25, 0]
    assert (out[1] == boxes[1]).all()  # untouched boxes keep their fractions
    hidden[:] = True
    assert hide(boxes, hidden).shape == (0, 6)
    assert hide(boxes[:0], hidden).shape == (0, 6)


def test_pixel_dropout_of_everything():
    everything = [{"name": "PixelDropout", "dropout_prob": 1.0, "p": 1}]
    assert len(build_augmentation(everything, SPEC).scene(scene(0), key=0).boxes) == 0
    little = [{"name": "PixelDropout", "dropout_prob": 0.02, "p": 1}]
    assert len(build_augmentation(little, SPEC).scene(scene(0), key=0).boxes) == 4


def test_no_boxes_stay_no_boxes():
    start = scene(0)
    empty = Scene(start.image, start.boxes[:0], start.labels[:0], start.visible[:0], start.tags, start.region)
    steps = [{"name": "ScaleJitter"}, {"name": "HorizontalFlip"}, {"name": "CoarseDropout", "p": 1}]
    out = build_augmentation(steps, SPEC).scene(empty, key=3)
    assert out.boxes.shape == (0, 4) and out.labels.shape == (0,) and out.labels.dtype == np.int64


@pytest.mark.parametrize("name", ["detection", "detection_light", "detection_strong"])
def test_boxes_change_nothing_about_the_picture(name):
    config = yaml.safe_load((CONF / "augment" / f"{name}.yaml").read_text(encoding="utf-8"))
    augment = build_augmentation(config, SPEC)
    copy = pickle.loads(pickle.dumps(augment))
    augment.check_boxes()
    for key in range(10):
        alone = augment(key=key, image=scene(key).image)["image"]
        with_boxes, again = augment.scene(scene(key), key=key), copy.scene(scene(key), key=key)
        assert (with_boxes.image == alone).all() and (again.image == alone).all()
        assert (with_boxes.boxes == again.boxes).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"transforms": [{"name": "HorizontalFlip"}], "min_visible": 1.5}, "min_visible must be a number, 0 to 1"),
        ({"transforms": [{"name": "HorizontalFlip"}], "min_side": "2"}, "min_side"),
        ({"transforms": [], "min_visibility": 0.3}, "Did you mean 'min_visible'"),
        ([{"name": "ScaleJitter", "scale": [1.5, 0.5]}], "0.05 ≤ low ≤ high ≤ 4"),
        ([{"name": "ScaleJitter", "scale": 0.5}], "low ≤ high"),
        ([{"name": "ScaleJiter"}], "Did you mean 'ScaleJitter'"),
    ],
)
def test_mistakes_about_boxes(config, message):
    with pytest.raises(ProjectError, match=message):
        build_augmentation(config, SPEC)


def test_a_transform_that_cannot_move_boxes_is_named_before_training():
    augment = build_augmentation([{"name": "HorizontalFlip"}, {"name": "MaskDropout"}], SPEC)
    with pytest.raises(ProjectError, match="MaskDropout cannot be applied with boxes"):
        augment.check_boxes()


def test_crops_that_look_at_boxes():
    augment = build_augmentation([{"name": "RandomSizedBBoxSafeCrop", "p": 1}], SPEC)
    augment.check_boxes()
    assert augment.needs_boxes == ["RandomSizedBBoxSafeCrop"]
    assert all(len(augment.scene(scene(key), key=key).boxes) == 4 for key in range(10))


# -- the canvas


def test_cut_boxes():
    boxes = np.array([[-10, 0, 10, 20], [5, 5, 6, 30], [90, 90, 120, 120], [40, 40, 40, 50]], float)
    cut, visible, stays = cut_boxes(boxes, np.array([1, 1, 1, 1.0]), 100, 100, min_visible=0.4, min_side=2)
    assert cut.tolist() == [[0, 0, 10, 20], [5, 5, 6, 30], [90, 90, 100, 100], [40, 40, 40, 50]]
    assert visible.tolist() == pytest.approx([0.5, 1, 1 / 9, 0]) and stays.tolist() == [True, False, False, False]
    assert cut_boxes(boxes, np.ones(4), 100, 100, min_visible=0, min_side=0)[2].tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    "target", [(-20, 10, 60, 90), (0, 0, 64, 64), (30, -40, 200, 130), (5, 5, 10, 12), (70, 0, 9, 9)]
)
def test_paste_puts_a_picture_where_its_boxes_go(target):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[16:48, 8:56] = 255
    out = paste(plain_canvas((64, 64, 3), (7, 8, 9)), picture, target)
    left, top, width, height = target
    x1, x2 = round(left + width / 8), round(left + width * 7 / 8)
    y1, y2 = round(top + height / 4), round(top + height * 3 / 4)
    expected = np.zeros((64, 64), bool)
    expected[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)] = True
    assert ((out[..., 0] > 127) != expected).mean() < 0.06
    outside = np.ones((64, 64), bool)
    outside[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)] = False
    assert (out[outside] == [7, 8, 9]).all()
