"""Files → normalised batches: our loader beside a plain torch Dataset, and what each step of a sample costs.

    python benchmarks/loader.py               about a minute on 2 idle cores; the JPEGs are made as it starts

The plain Dataset is Pillow + torchvision Resize, ToTensor, Normalize. Both sides end with the same float
batches, which is checked. Without workers CPU time is compared, which a busy machine leaves alone; with
workers only wall time can be. Medians over interleaved repeats.
"""

from __future__ import annotations

import argparse
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.data.cache import build_store
from src.data.dataset import ImageDataset, collate
from src.data.transforms import Augmentation, PreprocessSpec, build_augmentation

CONF = Path(__file__).resolve().parent.parent / "conf" / "augment"
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


def epoch(loader: DataLoader, clock: Callable[[], float]) -> float:
    """Seconds of one pass that ends with normalised float32 batches."""
    began = clock()
    for batch in loader:
        if isinstance(batch, dict):
            SPEC.normalize(batch["image"])
    return clock() - began


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

    augments = {name: augmentation(name) for name in ("light", "industrial", "strong")}
    loaders = {
        "plain Dataset": plain,
        "ours, from files": our,
        "ours, cached": lambda workers: our(workers, cache=ram),
        **{
            f"ours, cached, augment={name}": lambda workers, a=augment: our(workers, cache=ram, augment=a)
            for name, augment in augments.items()
        },
    }
    theirs, mine = next(iter(plain(0))), next(iter(our(0)))
    apart = (theirs - SPEC.normalize(mine["image"])).abs().mean().item() * np.mean(SPEC.std) * 255
    print(f"\n{len(paths)} JPEGs 640×480 → 224×224, batches of {BATCH}, {repeats} repeats")
    print(f"the two sides' pictures differ by {apart:.2f} levels of 255 on average")
    for workers, clock, unit in ((0, time.process_time, "CPU"), (2, time.perf_counter, "wall")):
        ready = {name: make(workers) for name, make in loaders.items()}
        times: dict[str, list[float]] = {name: [] for name in ready}
        for repeat in range(repeats + 1):
            for name, loader in ready.items():
                taken = epoch(loader, clock)
                if repeat:  # the first pass starts the workers
                    times[name].append(taken / len(paths))
        reference = statistics.median(times["plain Dataset"])
        print(f"\n{f'{workers} workers':40}{f'ms/image, {unit}':>16}{'images/s':>10}{'ratio':>8}")
        for name, taken in times.items():
            median = statistics.median(taken)
            print(f"{name:40}{median * 1e3:16.2f}{1 / median:10.0f}{reference / median:8.2f}")


def augmentation(name: str) -> Augmentation:
    return build_augmentation(yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8")), SPEC)


def cost_of_steps(path: str) -> None:
    import albumentations

    rows = pd.DataFrame({"id": ["a"], "path": [path]})
    image = ImageDataset(rows, SPEC)[0]["image"].permute(1, 2, 0).numpy().copy()
    batch = torch.from_numpy(np.stack([image] * BATCH)).permute(0, 3, 1, 2)
    keyed = ImageDataset(pd.DataFrame({"id": range(300), "path": path}), SPEC)
    crop = [albumentations.RandomResizedCrop((SPEC.height, SPEC.width)), albumentations.HorizontalFlip()]
    crop_and_flip = albumentations.Compose(crop)
    normalize = albumentations.Compose([albumentations.Normalize()])
    strong = augmentation("strong")
    their_seeding = albumentations.Compose(augmentation("strong")._compose.transforms).set_random_seed
    costs = {
        "Albumentations RandomResizedCrop + HorizontalFlip": microseconds(
            lambda _: crop_and_flip(image=image)
        ),
        "Albumentations Normalize": microseconds(lambda _: normalize(image=image)),
        "ours: normalize on the CPU, in a batch": microseconds(lambda _: SPEC.normalize(batch), 20) / BATCH,
        "ours: draw and seed for one sample of strong": microseconds(
            lambda i: strong._seed(keyed._key(0, i % 300))
        ),
        "Albumentations set_random_seed on strong": microseconds(their_seeding),
    }
    print(f"\n{'a step of one sample, 224×224':56}{'µs, CPU':>8}")
    for name, cost in costs.items():
        print(f"{name:56}{cost:8.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder), options.images)
        compare_loaders(paths, options.repeats)
        cost_of_steps(paths[0])


if __name__ == "__main__":
    main()
