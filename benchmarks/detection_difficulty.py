"""How hard the sample of boxes and counts is: what methods without a trained detector reach on its test images.

python benchmarks/detection_difficulty.py       some minutes; compare with `graded` of `python train.py task=detection`

Colour blobs: every pixel gets the class whose colours (in the boxes of the training images) it most resembles, against
those outside all boxes; connected areas are the objects. Templates: crops of training objects are compared everywhere
at several sizes by normalised cross-correlation. Each method's threshold is the best for count_exact on TUNING training
images, which the colours and templates do not come from.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.boxes.nms import nms
from src.boxes.types import Detections, Truth
from src.competition import read_competition
from src.data.images import read_image
from src.data.sample import ensure_sample
from src.manifest import read_manifest, read_solution
from src.metrics.counting import count_metrics
from src.metrics.detection import evaluate_boxes

SIDE = 192  # pixels, longer side of an image as the methods see it
TUNING = 80  # training images that choose the thresholds
BINS = 12  # of a colour channel
TEMPLATES = 10  # a class
SIZES = (24, 34, 48)  # longer side of a template in pixels

Finder = Callable[[np.ndarray], Detections]


def shrink(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The image with a longer side of SIDE, and the factor."""
    scale = SIDE / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale


def colour_bins(image: np.ndarray) -> np.ndarray:
    """H×W index of each pixel's colour."""
    parts = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL).astype(np.int64) * BINS // 256
    return (parts[..., 0] * BINS + parts[..., 1]) * BINS + parts[..., 2]


def blob_finder(images: list[np.ndarray], truth: list[Truth], n_classes: int) -> Finder:
    """Areas of the colours of a class; a blob's score is its mean share of that class times its fill of the box."""
    colours = np.ones((n_classes + 1, BINS**3))  # the last: outside all boxes
    for image, known in zip(images, truth, strict=True):
        bins, outside = colour_bins(image), np.ones(image.shape[:2], bool)
        for (x1, y1, x2, y2), label in zip(known.boxes.astype(int), known.labels, strict=True):
            outside[y1:y2, x1:x2] = False
            dx, dy = (x2 - x1) // 5, (y2 - y1) // 5  # corners of a box show the ground
            inner = bins[y1 + dy : y2 - dy, x1 + dx : x2 - dx]
            colours[label] += np.bincount(inner.ravel(), minlength=BINS**3)
        colours[-1] += np.bincount(bins[outside], minlength=BINS**3)
    share = colours / colours.sum(0)

    def find(image: np.ndarray) -> Detections:
        parts = []
        likely = cv2.GaussianBlur(share[:, colour_bins(image)].transpose(1, 2, 0), (5, 5), 0)
        best = likely.argmax(-1)
        for label in range(n_classes):
            _, areas, stats, _ = cv2.connectedComponentsWithStats((best == label).astype(np.uint8))
            for index in range(1, len(stats)):
                x, y, w, h, pixels = stats[index]
                if pixels >= 60:
                    score = likely[..., label][areas == index].mean() * pixels / (w * h)
                    parts.append(Detections([[x, y, x + w, y + h]], [score], [label]))
        return Detections.concatenate(parts)

    return find


def template_finder(images: list[np.ndarray], truth: list[Truth], n_classes: int) -> Finder:
    """Places that correlate with a crop of a training object; the score is the correlation."""
    random, crops = np.random.default_rng(0), []
    for label in range(n_classes):
        places = [(i, box) for i, known in enumerate(truth) for box in known.boxes[known.labels == label].astype(int)]
        places = [(i, (x1, y1, x2, y2)) for i, (x1, y1, x2, y2) in places if max(x2 - x1, y2 - y1) >= SIZES[0]]
        for index in random.permutation(len(places))[:TEMPLATES]:
            image, (x1, y1, x2, y2) = places[index]
            crops.append((label, images[image][y1:y2, x1:x2]))

    def find(image: np.ndarray) -> Detections:
        parts = []
        for label, crop in crops:
            for size in SIZES:
                scale = size / max(crop.shape[:2])
                w, h = max(4, round(crop.shape[1] * scale)), max(4, round(crop.shape[0] * scale))
                if h > image.shape[0] or w > image.shape[1]:
                    continue
                match = cv2.matchTemplate(image, cv2.resize(crop, (w, h)), cv2.TM_CCOEFF_NORMED)
                peaks = (match == cv2.dilate(match, np.ones((9, 9)))) & (match > 0.35)
                y, x = np.nonzero(peaks)
                boxes = np.stack([x, y, x + w, y + h], 1)
                parts.append(Detections(boxes, match[y, x], np.full(len(x), label)))
        return nms(Detections.concatenate(parts), iou=0.3, agnostic=True)

    return find


def counts_of(found: list[Detections], threshold: float, n_classes: int) -> np.ndarray:
    return np.stack([np.bincount(d.labels[d.scores >= threshold], minlength=n_classes) for d in found])


def main() -> None:
    competition = read_competition("sample_detection")
    ensure_sample(competition)
    manifest, solution = read_manifest(competition), read_solution(competition).set_index("id")
    classes = manifest.attrs["classes"]
    n = len(classes)

    def load(rows: pd.DataFrame) -> tuple[list[np.ndarray], list[Truth]]:
        images, truth = [], []
        for path, boxes, labels in zip(rows["path"], rows["boxes"], rows["labels"], strict=True):
            image, scale = shrink(read_image(path))
            images.append(image)
            truth.append(Truth(boxes * scale, labels))
        return images, truth

    train = manifest[manifest["split"] == "train"]
    test = manifest[manifest["split"] == "test"][["id", "path"]]
    test = test.assign(boxes=solution.loc[test["id"], "boxes"].values, labels=solution.loc[test["id"], "labels"].values)
    learned, tuned, graded = load(train[TUNING:]), load(train[:TUNING]), load(test)
    wanted = np.stack([known.counts(n) for known in graded[1]])
    goal = np.stack([known.counts(n) for known in tuned[1]])
    seen = np.stack([known.counts(n) for known in learned[1]])

    rows = {}
    for name, constant in (("zero", np.zeros(n)), ("mean of training", seen.mean(0)), ("median", np.median(seen, 0))):
        rows[name] = (None, count_metrics(np.tile(constant, (len(wanted), 1)), wanted, classes=classes))
    for name, build in (("colour blobs", blob_finder), ("templates", template_finder)):
        find = build(*learned, n)
        trial, found = ([find(image) for image in images] for images in (tuned[0], graded[0]))
        values = np.unique(np.concatenate([d.scores for d in trial]))
        steps = np.append(values[:: max(1, len(values) // 60)], np.inf)
        threshold = max(steps, key=lambda step: (counts_of(trial, step, n) == goal).mean())
        panel = evaluate_boxes(found, graded[1], classes=classes)
        rows[name] = (panel["map50"], count_metrics(counts_of(found, threshold, n), wanted, classes=classes))

    zeros = (wanted == 0).mean()
    print(f"{len(wanted)} test images, {wanted.sum()} objects of {n} classes; {zeros:.2f} of the counts are zero")
    print(f"{'method':18}{'mAP50':>8}{'exact':>8}{'exact image':>13}{'MAE':>8}{'RMSE':>8}")
    for name, (map50, panel) in rows.items():
        shown = "-" if map50 is None else f"{map50:.3f}"
        numbers = (panel["count_exact"], panel["count_exact_image"], panel["count_mae"], panel["count_rmse"])
        print(f"{name:18}{shown:>8}{numbers[0]:8.3f}{numbers[1]:13.3f}{numbers[2]:8.3f}{numbers[3]:8.3f}")


if __name__ == "__main__":
    main()
