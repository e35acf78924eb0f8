"""Augmented detection samples: ours beside torchvision's transforms v2 doing the same, one process, one thread.

    python benchmarks/detection_loader.py            about a minute on an idle core; the pictures are made as it starts

Both sides begin with decoded uint8 pictures in memory and end with uint8 pictures and their boxes; both flip,
rescale and crop or pad, and shift colours with the same chances, and drop small boxes. torchvision has no mosaic,
so its side resizes and joins four pictures through its own `functional`. CPU time; medians over interleaved repeats.
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
from skimage import data as samples
from torchvision import tv_tensors
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.data.cache import build_store
from src.data.detection_dataset import DetectionDataset
from src.data.transforms import PreprocessSpec, build_augmentation

CONF = Path(__file__).resolve().parent.parent / "conf" / "augment"
BOXES = 8  # a picture


def make_rows(folder: Path, n: int, side: int) -> pd.DataFrame:
    """PNGs of random windows of photographs, with random boxes."""
    rng = np.random.default_rng(0)
    photographs = [samples.astronaut(), samples.coffee(), samples.chelsea(), samples.rocket()]
    rows = []
    for i in range(n):
        photograph = photographs[i % 4]
        top, left = (int(rng.integers(0, length - 299)) for length in photograph.shape[:2])
        picture = cv2.resize(photograph[top : top + 299, left : left + 299], (side, side))
        path = str(folder / f"{i:03d}.png")
        cv2.imwrite(path, picture[..., ::-1])
        corner, size = rng.uniform(0, 0.6 * side, (BOXES, 2)), rng.uniform(12, 0.4 * side, (BOXES, 2))
        labels = rng.integers(0, 5, BOXES)
        rows.append({"id": f"{i}", "path": path, "boxes": np.concatenate([corner, corner + size], 1), "labels": labels})
    return pd.DataFrame(rows)


class Peer:
    """torchvision's transforms v2 on tensors with bounding boxes, by the same numbers as an augmentation's config."""

    def __init__(self, rows: pd.DataFrame, store: object, config: dict, side: int) -> None:
        self.side, steps = side, {entry["name"]: entry for entry in config["transforms"]}
        self.pictures = [
            tv_tensors.Image(torch.from_numpy(store.read(p)[0]).permute(2, 0, 1).contiguous()) for p in rows["path"]
        ]
        self.boxes = [self._boxes(torch.tensor(b, dtype=torch.float32)) for b in rows["boxes"]]
        self.labels = [torch.tensor(label) for label in rows["labels"]]
        self.mosaic = steps.get("Mosaic4")
        jitter, colour = steps["ScaleJitter"], steps["HueSaturationValue"]
        self.transform = v2.Compose(
            [
                v2.RandomHorizontalFlip(steps["HorizontalFlip"]["p"]),
                v2.RandomApply(
                    [
                        v2.ScaleJitter((side, side), tuple(jitter["scale"]), antialias=False),
                        v2.RandomCrop(side, pad_if_needed=True, fill=124),
                    ],
                    p=jitter["p"],
                ),
                v2.RandomApply(
                    [
                        v2.ColorJitter(
                            brightness=colour["val_shift_limit"] / 255,
                            saturation=colour["sat_shift_limit"] / 255,
                            hue=colour["hue_shift_limit"] / 180,
                        )
                    ],
                    p=colour["p"],
                ),
                v2.SanitizeBoundingBoxes(min_size=config["min_side"]),
            ]
        )

    def _boxes(self, values: torch.Tensor) -> tv_tensors.BoundingBoxes:
        return tv_tensors.BoundingBoxes(values, format="XYXY", canvas_size=(self.side, self.side))

    def __getitem__(self, i: int) -> dict:
        if self.mosaic is not None and torch.rand(()) < self.mosaic["p"]:
            image, boxes, labels = self._four(i)
        else:
            image, boxes, labels = self.pictures[i], self.boxes[i], self.labels[i]
        return self.transform({"image": image, "boxes": boxes, "labels": labels})

    def _four(self, i: int) -> tuple:
        side, scale = self.side, self.mosaic["scale"]
        factor = float(torch.empty(()).uniform_(*scale))
        middle = [int(v) for v in (0.3 + 0.4 * torch.rand(2)) * side]
        canvas = torch.full((3, side, side), 124, dtype=torch.uint8)
        boxes, labels = [], []
        size = round(side * factor)
        for corner, j in enumerate([i, *torch.randint(0, len(self.pictures), (3,)).tolist()]):
            picture = v2.functional.resize(self.pictures[j], [size, size], antialias=False)
            x1, x2 = (middle[0], side) if corner % 2 else (0, middle[0])
            y1, y2 = (middle[1], side) if corner >= 2 else (0, middle[1])
            width, height = min(size, x2 - x1), min(size, y2 - y1)
            left = x1 if corner % 2 else x2 - width
            top = y1 if corner >= 2 else y2 - height
            canvas[:, top : top + height, left : left + width] = picture[:, :height, :width]
            cut = (self.boxes[j].as_subclass(torch.Tensor) * factor).clamp(min=0)
            cut = cut.minimum(torch.tensor([width, height] * 2)) + torch.tensor([left, top] * 2)
            boxes.append(cut)
            labels.append(self.labels[j])
        return tv_tensors.Image(canvas), self._boxes(torch.cat(boxes)), torch.cat(labels)


def seconds(function: Callable[[int], object], n: int) -> float:
    """CPU seconds a call."""
    began = time.process_time()
    for i in range(n):
        function(i)
    return (time.process_time() - began) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    spec = PreprocessSpec(options.side, options.side, "letterbox")
    config = yaml.safe_load((CONF / "detection.yaml").read_text(encoding="utf-8"))
    plain = {**config, "transforms": [entry for entry in config["transforms"] if entry["name"] != "Mosaic4"]}
    always = {**config, "transforms": [e | ({"p": 1} if e["name"] == "Mosaic4" else {}) for e in config["transforms"]]}
    with tempfile.TemporaryDirectory() as folder:
        rows = make_rows(Path(folder), options.images, options.side)
        store = build_store(rows["path"], spec, mode="ram")
    cases = {"without mosaic": plain, "as shipped": config, "a mosaic every time": always}
    sides: dict[tuple[str, str], Callable[[int], object]] = {}
    for name, each in cases.items():
        ours = DetectionDataset(rows, spec, augment=build_augmentation(each, spec), cache=store)
        peer = Peer(rows, store, each, options.side)
        sides[name, "ours"] = lambda i, d=ours: d[i // options.images, i % options.images]
        sides[name, "peer"] = lambda i, d=peer: d[i % options.images]
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in sides}
    for repeat in range(options.repeats + 1):
        for key, function in sides.items():
            cost = seconds(lambda i, f=function, r=repeat: f(r * options.images + i), options.images)
            if repeat:  # the first pass warms up
                taken[key].append(cost)
    print(f"\n{options.images} pictures {options.side}×{options.side}, {BOXES} boxes each, {options.repeats} repeats")
    print(f"{'conf/augment/detection.yaml':28}{'ours':>14}{'torchvision v2':>18}{'ratio':>8}")
    for name in cases:
        ours, peer = (statistics.median(taken[name, side]) for side in ("ours", "peer"))
        print(f"{name:28}{1 / ours:8.0f} img/s{1 / peer:12.0f} img/s{peer / ours:8.2f}")


if __name__ == "__main__":
    main()
