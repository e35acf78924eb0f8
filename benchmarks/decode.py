"""File → picture at the model's size: ours beside the usual ways, in speed and in closeness to anomalib's.

    python benchmarks/decode.py               under a minute; CPU time of one thread; files are made as it
    starts

The reference is what anomalib does: full decode, float picture, torchvision's antialiased bilinear Resize.
Errors are levels of 0 to 255 against it. Times are medians over interleaved repeats; a ratio is theirs ÷
ours.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from skimage import data as samples

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.data import images
from src.data.images import read_resized
from src.data.transforms import PreprocessSpec

SIZE = (224, 224)


def make_pictures(folder: Path) -> dict[str, list[Path]]:
    """Photographs of skimage with sensor noise, as JPEG at quality 90, and one set of small PNGs."""
    rng = np.random.default_rng(0)
    photos = [samples.astronaut(), samples.coffee(), samples.chelsea(), np.dstack([samples.brick()] * 3)]
    sets = {
        "JPEG 4000×3000": (3000, 4000, ".jpg"),
        "JPEG 2000×1500": (1500, 2000, ".jpg"),
        "JPEG 400×300": (300, 400, ".jpg"),
        "PNG 900×900": (900, 900, ".png"),
    }
    made = {}
    for name, (height, width, suffix) in sets.items():
        made[name] = []
        for i, photo in enumerate(photos):
            large = cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
            noisy = (large + rng.normal(0, 3, large.shape)).clip(0, 255).astype(np.uint8)
            path = folder / f"{width}_{i}{suffix}"
            Image.fromarray(noisy).save(
                path, **({"quality": 90} if suffix == ".jpg" else {"compress_level": 3})
            )
            made[name].append(path)
    return made


def ours(path: Path) -> np.ndarray:
    return read_resized(path, PreprocessSpec(*SIZE))[0]


def ours_area(path: Path) -> np.ndarray:
    return read_resized(path, PreprocessSpec(*SIZE, interpolation="area"))[0]


def ours_with_margin(margin: float) -> Callable[[Path], np.ndarray]:
    """Ours with another bound on how far the DCT may shrink: 1 is the boldest, infinity decodes in full."""

    def read(path: Path) -> np.ndarray:
        shipped, images.DCT_MARGIN = images.DCT_MARGIN, margin
        try:
            return ours(path)
        finally:
            images.DCT_MARGIN = shipped

    return read


def opencv_area(path: Path) -> np.ndarray:
    full = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return cv2.resize(full, SIZE[::-1], interpolation=cv2.INTER_AREA)


def opencv_linear(path: Path) -> np.ndarray:
    full = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return cv2.resize(full, SIZE[::-1], interpolation=cv2.INTER_LINEAR)


def pillow(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR))


def torchvision_float(path: Path) -> np.ndarray:
    """anomalib's way; its result is the reference."""
    from torchvision.transforms.v2.functional import pil_to_tensor, resize

    tensor = pil_to_tensor(Image.open(path).convert("RGB")).float() / 255
    return (resize(tensor, list(SIZE), antialias=True) * 255).permute(1, 2, 0).numpy()


WAYS: dict[str, Callable[[Path], np.ndarray]] = {
    "ours (bilinear)": ours,
    "ours, DCT down to 1× the target": ours_with_margin(1),
    "ours, full decode": ours_with_margin(float("inf")),
    "ours (area)": ours_area,
    "OpenCV, INTER_AREA": opencv_area,
    "OpenCV, INTER_LINEAR (aliases)": opencv_linear,
    "Pillow, BILINEAR": pillow,
    "Pillow + torchvision float (anomalib)": torchvision_float,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=24, help="time to spend measuring")
    budget = parser.parse_args().seconds
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        sets = make_pictures(Path(folder))
        for name, paths in sets.items():
            times: dict[str, list[float]] = {way: [] for way in WAYS}
            ends = time.monotonic() + budget / len(sets)
            while time.monotonic() < ends or len(times["ours (bilinear)"]) < 3:
                for way, read in WAYS.items():  # interleaved, so that a busy moment hits all alike
                    began = time.process_time()
                    for path in paths:
                        read(path)
                    times[way].append((time.process_time() - began) / len(paths))
            references = [torchvision_float(path) for path in paths]
            mine, repeats = np.median(times["ours (bilinear)"]), len(times["ours (bilinear)"])
            print(f"\n{name} → {SIZE[1]}×{SIZE[0]}, {repeats} repeats of {len(paths)} files")
            print(f"{'':40}{'CPU ms':>8}{'ratio':>8}{'mean error':>12}{'99.9 %':>8}")
            for way, read in WAYS.items():
                errors = np.concatenate(
                    [np.abs(read(p) - r).ravel() for p, r in zip(paths, references, strict=True)]
                )
                median = np.median(times[way])
                print(
                    f"{way:40}{median * 1e3:8.2f}{median / mine:8.2f}{errors.mean():12.3f}"
                    f"{np.percentile(errors, 99.9):8.2f}"
                )


if __name__ == "__main__":
    main()
