"""The preprocessing spec is validated and exact; pipelines from config are strict, seeded, and mask-aware."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from src.data.sampler import AUGMENT, draw_keys, hash_ids
from src.data.transforms import PreprocessSpec, build_augmentation
from src.errors import ProjectError

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = PreprocessSpec(64, 64)
SHIPPED = sorted((REPOSITORY / "conf" / "augment").glob("*.yaml"))


def picture(seed: int = 0, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


# -- spec


def test_spec_goes_through_plain_scalars_and_back():
    spec = PreprocessSpec(224, 320, "letterbox", "bicubic", mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2])
    plain = yaml.safe_load(yaml.safe_dump(spec.to_dict()))
    assert plain["mean"] == [0.5, 0.4, 0.3] and isinstance(plain["mean"], list)
    assert PreprocessSpec.from_dict(plain) == spec
    assert spec.pad_value == (128, 102, 76)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 0}, "height"),
        ({"width": 22.5}, "width"),
        ({"height": True}, "height"),
        ({"resize": "leterbox"}, "Did you mean 'letterbox'"),
        ({"interpolation": "linear"}, "interpolation"),
        ({"mean": (123.7, 116.3, 103.5)}, "divide"),
        ({"std": (0.2, 0.0, 0.2)}, "std"),
        ({"mean": (0.5,)}, "mean"),
        ({"heigth": 3}, "Did you mean 'height'"),
    ],
)
def test_spec_refuses(change, message):
    with pytest.raises(ProjectError, match=message):
        PreprocessSpec.from_dict({"height": 64, "width": 64, **change})


def test_spec_needs_its_size():
    with pytest.raises(ProjectError, match="'width' is missing"):
        PreprocessSpec.from_dict({"height": 64})


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_normalize_equals_the_definition(order):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 8, 9)).astype(np.uint8))
    images = images.contiguous(memory_format=order)
    kept = images.clone()
    mean, std = torch.tensor(SPEC.mean).view(1, 3, 1, 1), torch.tensor(SPEC.std).view(1, 3, 1, 1)
    out = SPEC.normalize(images)
    assert torch.allclose(out, (images.float() / 255 - mean) / std, atol=2e-6)
    assert out.dtype == torch.float32 and out.is_contiguous() and torch.equal(images, kept)
    last = SPEC.normalize(images, memory_format=torch.channels_last)
    assert last.is_contiguous(memory_format=torch.channels_last) and torch.equal(last, out)
    half = SPEC.normalize(images, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16 and torch.allclose(half.float(), out, atol=0.02)


def test_normalize_works_under_autograd_after_inference_mode():
    spec = PreprocessSpec(4, 4, mean=(0.1, 0.2, 0.3))
    images = torch.zeros((1, 3, 4, 4), dtype=torch.uint8)
    with torch.inference_mode():
        spec.normalize(images)
    weight = torch.ones(1, requires_grad=True)
    (spec.normalize(images) * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 4, 4), torch.zeros((3, 4, 4), dtype=torch.uint8)])
def test_normalize_refuses_what_is_no_uint8_batch(images):
    with pytest.raises(ValueError, match="uint8"):
        SPEC.normalize(images)


# -- pipelines


def test_pipelines_are_shipped():
    names = [path.stem for path in SHIPPED]
    detection = ["detection", "detection_light", "detection_strong", "detection_topdown"]
    assert names == ["caption", "caption_light", "classify", *detection, "industrial", "light", "none", "strong"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_pipelines(path):
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    augment = build_augmentation(config, SPEC)
    assert (augment is None) == (path.stem == "none")
    if augment is None:
        return
    image, mask = picture(), (picture(1)[..., 0] > 200).astype(np.uint8)
    changed = 0
    for key in range(20):
        out = augment(key=key, image=image.copy(), mask=mask.copy())
        assert out["image"].shape == (64, 64, 3) and out["image"].dtype == np.uint8
        assert out["mask"].shape == (64, 64) and set(np.unique(out["mask"])) <= {0, 1}
        changed += int((out["image"] != image).any())
    assert changed >= 15
    names = " ".join(str(entry) for entry in config["transforms"])
    assert ("RandomResizedCrop" in names) == (
        path.stem in ("caption", "caption_light", "classify", "light", "strong")
    )


def test_mask_moves_with_the_image():
    augment = build_augmentation(
        [{"name": "RandomResizedCrop", "scale": [0.3, 0.6], "p": 1}, {"name": "D4", "p": 1}], SPEC
    )
    mask = np.zeros((64, 64), np.uint8)
    mask[12:40, 20:50] = 1
    image = np.dstack([mask * 255] * 3)
    for key in range(10):
        out = augment(key=key, image=image, mask=mask)
        assert ((out["image"][..., 0] > 127) != out["mask"].astype(bool)).mean() < 0.08


@pytest.mark.parametrize("name", ["classify", "light", "industrial", "strong"])
def test_the_key_alone_decides(name):
    """In any order, in a pickled copy, with or without a mask; and different keys differ."""
    config = yaml.safe_load((REPOSITORY / "conf" / "augment" / f"{name}.yaml").read_text(encoding="utf-8"))
    augment = build_augmentation(config, SPEC)
    copy = pickle.loads(pickle.dumps(build_augmentation(config, SPEC)))
    image = picture()
    first = {key: augment(key=key, image=image.copy())["image"] for key in range(12)}
    for key in reversed(range(12)):
        np.random.seed(key + 5)
        mask = np.zeros((64, 64), np.uint8)
        assert (copy(key=key, image=image.copy(), mask=mask)["image"] == first[key]).all()
    assert sum((first[a] != first[b]).any() for a in range(12) for b in range(a)) > 55


def test_empty_means_none():
    for config in (None, [], {"transforms": []}, {"name": "none", "transforms": None}):
        assert build_augmentation(config, SPEC) is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([{"name": "HorizontalFlp"}], "Did you mean 'HorizontalFlip'"),
        ([{"name": "HorizontalFlip", "prob": 1}], "unknown argument 'prob'"),
        ([{"name": "CoarseDropout", "max_holes": 3}], "Did you mean 'num_holes_range'"),
        ([{"name": "HorizontalFlip", "p": 2}], "p: Input should be less than or equal to 1, not 2"),
        ([{"name": "RandomGamma", "gamma_limit": "x"}], "gamma_limit"),
        ([{"name": "OneOf", "transforms": [{"name": "Foo"}]}], r"transform 1 \(OneOf\), 1: .*'Foo'"),
        ([{"name": "Normalize"}], "expected uint8 64×64×3"),
        ([{"name": "Resize", "height": 32, "width": 32}], "gives uint8 32×32×3"),
        ([{"name": "RandomCrop", "height": 640, "width": 640}], "cannot be applied"),
        (["HorizontalFlip"], "expected {name"),
        ({"transform": []}, "Did you mean 'transforms'"),
    ],
)
def test_mistakes_in_a_config_are_errors(config, message):
    with pytest.raises(ProjectError, match=message):
        build_augmentation(config, SPEC)


def test_quarter_turns_need_a_square_input():
    wide = PreprocessSpec(32, 64)
    industrial = yaml.safe_load(
        (REPOSITORY / "conf" / "augment" / "industrial.yaml").read_text(encoding="utf-8")
    )
    with pytest.raises(ProjectError, match="RandomRotate90.*Quarter turns"):
        build_augmentation(industrial, wide)
    light = yaml.safe_load((REPOSITORY / "conf" / "augment" / "light.yaml").read_text(encoding="utf-8"))
    out = build_augmentation(light, wide)(key=1, image=picture(size=(32, 64)))
    assert out["image"].shape == (32, 64, 3)


def test_size_is_filled_in_from_the_spec():
    for name in ("RandomResizedCrop", "Resize", "CenterCrop"):
        assert build_augmentation([{"name": name}], SPEC)(key=0, image=picture())["image"].shape == (
            64,
            64,
            3,
        )


def test_albumentations_is_imported_lazily_and_without_asking_the_network():
    code = (
        "import sys, os; os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None)\n"
        "import urllib.request\n"
        "def refuse(*a, **k): raise SystemExit('network')\n"
        "urllib.request.urlopen = refuse\n"
        "from src.data.transforms import PreprocessSpec, build_augmentation\n"
        "spec = PreprocessSpec(32, 32)\n"
        "assert build_augmentation(None, spec) is None and 'albumentations' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
        "build_augmentation([{'name': 'HorizontalFlip'}], spec)\n"
        "assert 'albumentations' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# -- draws


def test_draws_are_a_function_of_seed_epoch_stream_and_id():
    hashes = hash_ids([f"{i:03d}" for i in range(1000)])
    base = draw_keys(hashes, 0, 0, AUGMENT)
    assert len(np.unique(hashes)) == len(np.unique(base)) == 1000
    assert (draw_keys(hashes[::-1], 0, 0, AUGMENT)[::-1] == base).all()
    for other in (
        draw_keys(hashes, 1, 0, AUGMENT),
        draw_keys(hashes, 0, 1, AUGMENT),
        draw_keys(hashes, 0, 0, 1),
    ):
        assert (other != base).all()
    assert abs(np.corrcoef(base.astype(float), draw_keys(hashes, 0, 1, AUGMENT).astype(float))[0, 1]) < 0.1
    assert (draw_keys(hashes, -1, 0, AUGMENT) != base).all()


def test_draws_never_change_between_versions():
    """Golden: a run resumed with a newer version must see the same order."""
    assert hash_ids(["007"])[0] == 13655456112802015817
    assert draw_keys(hash_ids(["007"]), 42, 3, AUGMENT)[0] == 13177576856606850304
