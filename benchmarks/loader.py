"""Pictures a second into the model: our loader beside a plain torch Dataset, and what each step of a sample costs.

    python benchmarks/loader.py               under a minute on 2 cores; 192 JPEGs of 640×480 are made as it
    starts

Both sides end with the same normalised float batches (compared). Wall time, medians over interleaved repeats:
a busy machine moves the figures, the ratio less. The plain Dataset is Pillow + torchvision Resize, ToTensor,
Normalize.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image
from skimage import data as samples
from torch.utils.data import DataLoader, Dataset

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from src.data.cache import build_store
from src.data.dataset import ImageDataset, collate
from src.data.sampler import AUGMENT, draw_keys, hash_ids
from src.data.transforms import PreprocessSpec, build_augmentation

SPEC = PreprocessSpec(224, 224)
BATCH = 32


class PlainDataset(Dataset):
    """What tutorials do."""

    def __init__(self, paths: list[str]) -> None:
        from torchvision.transforms import Compose, Normalize, Resize, ToTensor

        self.paths = paths
        self.transform = Compose(
            [Resize((SPEC.height, SPEC.width)), ToTensor(), Normalize(SPEC.mean, SPEC.std)]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def make_files(folder: Path, n: int) -> list[str]:
    rng = np.random.default_rng(0)
    base = cv2.resize(samples.astronaut(), (640, 480), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    paths = []
    for i in range(n):
        noisy = (base + rng.normal(0, 3, base.shape)).clip(0, 255).astype(np.uint8)
        paths.append(str(folder / f"{i:04d}.jpg"))
        Image.fromarray(noisy).save(paths[-1], quality=90)
    return paths


def epoch(loader: DataLoader) -> float:
    """Seconds of one pass that ends with normalised float32 batches."""
    began = time.perf_counter()
    for batch in loader:
        if isinstance(batch, dict):
            SPEC.normalize(batch["image"])
    return time.perf_counter() - began


def microseconds(function: Callable[[int], object], n: int = 300) -> float:
    """CPU microseconds a call."""
    times = []
    for repeat in range(3):
        began = time.process_time()
        for i in range(n):
            function(repeat * n + i)
        times.append((time.process_time() - began) / n * 1e6)
    return statistics.median(times)


def compare_loaders(paths: list[str], repeats: int) -> None:
    rows = pd.DataFrame({"id": [Path(path).stem for path in paths], "path": paths})
    ram = build_store(paths, SPEC, mode="ram")

    def our(workers: int, **options: object) -> DataLoader:
        dataset = ImageDataset(rows, SPEC, **options)
        return DataLoader(
            dataset, BATCH, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
        )

    def plain(workers: int) -> DataLoader:
        return DataLoader(PlainDataset(paths), BATCH, num_workers=workers, persistent_workers=workers > 0)

    loaders = {
        "plain Dataset, 0 workers": plain(0),
        "plain Dataset, 2 workers": plain(2),
        "ours from files, 0 workers": our(0),
        "ours from files, 2 workers": our(2),
        "ours cached, 0 workers": our(0, cache=ram),
        "ours cached, 2 workers": our(2, cache=ram),
    }
    theirs, mine = (
        next(iter(loaders["plain Dataset, 0 workers"])),
        next(iter(loaders["ours from files, 0 workers"])),
    )
    apart = (theirs - SPEC.normalize(mine["image"])).abs().mean().item() * np.mean(SPEC.std) * 255
    for name in ("light", "industrial"):
        config = yaml.safe_load(
            (REPOSITORY / "conf" / "augment" / f"{name}.yaml").read_text(encoding="utf-8")
        )
        augment = build_augmentation(config, SPEC)
        for workers in (0, 2):
            loaders[f"ours cached, augment={name}, {workers} workers"] = our(
                workers, cache=ram, augment=augment
            )
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for repeat in range(repeats + 1):
        for name, loader in loaders.items():
            taken = epoch(loader)
            if repeat:  # the first pass starts the workers
                times[name].append(len(paths) / taken)
    reference = statistics.median(times["plain Dataset, 2 workers"])
    print(
        f"\n{len(paths)} JPEGs 640×480 → 224×224, batches of {BATCH}, {repeats} repeats; {os.cpu_count()} cores"
    )
    print(f"the two sides' pictures differ by {apart:.2f} levels of 255 on average")
    print(f"{'':44}{'images/s':>10}{'ratio':>8}")
    for name, rates in times.items():
        print(f"{name:44}{statistics.median(rates):10.0f}{statistics.median(rates) / reference:8.2f}")


def cost_of_steps(path: str) -> None:
    import albumentations as A  # noqa: N812 - the name its users know

    image = (
        ImageDataset(pd.DataFrame({"id": ["a"], "path": [path]}), SPEC)[0]["image"]
        .permute(1, 2, 0)
        .numpy()
        .copy()
    )
    batch = torch.from_numpy(np.stack([image] * BATCH)).permute(0, 3, 1, 2)
    hashes = hash_ids(["a"])
    steps: dict[str, Callable[[int], object]] = {
        "Albumentations RandomResizedCrop + flip": A.Compose(
            [A.RandomResizedCrop((224, 224)), A.HorizontalFlip()]
        ),
        "Albumentations Normalize": A.Compose([A.Normalize()]),
    }
    print(f"\n{'cost of one sample, 224×224':60}{'CPU µs':>8}")
    for name, pipeline in steps.items():
        print(f"{name:60}{microseconds(lambda _, p=pipeline: p(image=image)):8.0f}")
    on_device = microseconds(lambda _: SPEC.normalize(batch), 20) / BATCH
    print(f"{'PreprocessSpec.normalize, in a batch of 32, on the CPU':60}{on_device:8.0f}")
    for name in ("light", "industrial", "strong"):
        config = yaml.safe_load(
            (REPOSITORY / "conf" / "augment" / f"{name}.yaml").read_text(encoding="utf-8")
        )
        augment = build_augmentation(config, SPEC)
        print(
            f"{f'augment={name}, seeded':60}{microseconds(lambda i, a=augment: a(key=i, image=image)):8.0f}"
        )
    seed = microseconds(lambda i: augment._seed(i)) + microseconds(lambda i: draw_keys(hashes, 0, i, AUGMENT))
    print(f"{'  of it the draw and the seeding':60}{seed:8.0f}")
    other = A.Compose(augment._compose.transforms)
    print(
        f"{'  Albumentations set_random_seed on the same pipeline':60}{microseconds(other.set_random_seed):8.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(2)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder), options.images)
        compare_loaders(paths, options.repeats)
        cost_of_steps(paths[0])


if __name__ == "__main__":
    main()
