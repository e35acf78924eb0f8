"""COCO box metrics beside pycocotools and faster-coco-eval: time and equality; then count rules and intervals.

    pip install pycocotools faster-coco-eval
    python benchmarks/coco_metrics.py
    python benchmarks/coco_metrics.py --images 500 --detections 100

Each line prints the time from Detections and Truth to numbers, the others' from the same data as their dicts, the
ratio, and the largest difference among the twelve values.
"""

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.boxes.count_rule import tune_count_rule
from src.boxes.types import Detections, Truth
from src.metrics.detection import evaluate_boxes, to_xywh, voc_map
from src.metrics.intervals import count_interval, map50_interval

PANEL = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "ar1", "ar10", "ar100")
CLASSES = 80
SIDE = 640


def scenes(images: int, detections: int, seed: int = 0) -> tuple[list[Detections], list[Truth]]:
    """About seven objects an image as in COCO, and boxes around and beside them, most of low score."""
    random = np.random.default_rng(seed)
    predictions, truth = [], []
    for _ in range(images):
        count = int(random.poisson(7)) + 1
        side = np.exp(random.uniform(np.log(8), np.log(300), (count, 2)))
        corner = random.uniform(0, SIDE - side)
        boxes, labels = np.hstack([corner, corner + side]), random.integers(0, CLASSES, count)
        truth.append(Truth(boxes, labels, random.random(count) < 0.01))
        near = random.integers(0, count, detections)
        size = (boxes[near, 2:] - boxes[near, :2]).repeat(2, axis=1)[:, [0, 2, 1, 3]]
        moved = np.sort((boxes[near] + random.normal(0, 0.1, (detections, 4)) * size).reshape(-1, 2, 2), axis=1)
        kind = np.where(random.random(detections) < 0.6, labels[near], random.integers(0, CLASSES, detections))
        predictions.append(Detections(moved.reshape(-1, 4), random.beta(1, 6, detections), kind))
    return predictions, truth


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def as_dicts(predictions: list[Detections], truth: list[Truth]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    annotations: list[dict[str, Any]] = []
    for image, item in enumerate(truth):
        for box, label, crowd in zip(to_xywh(item.boxes).tolist(), item.labels, item.ignored, strict=True):
            more = {"id": len(annotations) + 1, "area": box[2] * box[3], "iscrowd": int(crowd)}
            annotations.append({"image_id": image + 1, "category_id": int(label) + 1, "bbox": box, **more})
    results = [
        {"image_id": image + 1, "category_id": int(label) + 1, "bbox": box, "score": float(score)}
        for image, item in enumerate(predictions)
        for box, label, score in zip(to_xywh(item.boxes).tolist(), item.labels, item.scores, strict=True)
    ]
    images = [{"id": index + 1, "width": SIDE, "height": SIDE} for index in range(len(truth))]
    categories = [{"id": index + 1, "name": str(index)} for index in range(CLASSES)]
    return {"info": {}, "images": images, "categories": categories, "annotations": annotations}, results


def reference(coco: type, evaluator: type, data: dict[str, Any], results: list[dict[str, Any]]) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        objects = coco()
        objects.dataset = data
        objects.createIndex()
        evaluation = evaluator(objects, objects.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.array(evaluation.stats[:9])


def compare(images: int, detections: int) -> None:
    predictions, truth = scenes(images, detections)
    names = [str(index) for index in range(CLASSES)]
    evaluate_boxes(predictions[:2], truth[:2], classes=names)  # imports
    ours, panel = timed(lambda: evaluate_boxes(predictions, truth, classes=names))
    values = np.array([panel[name] for name in PANEL])
    print(f"\n{images} images, {detections} boxes each, {CLASSES} classes: evaluate_boxes {ours:.3f} s")
    data, results = as_dicts(predictions, truth)
    for package in ("faster_coco_eval", "pycocotools"):
        try:
            if package == "pycocotools":
                from pycocotools.coco import COCO
                from pycocotools.cocoeval import COCOeval
            else:
                from faster_coco_eval import COCO
                from faster_coco_eval import COCOeval_faster as COCOeval
        except ImportError:
            print(f"  {package}: not installed")
            continue
        theirs, stats = timed(lambda coco=COCO, evaluator=COCOeval: reference(coco, evaluator, data, results))
        gap = np.abs(stats - values).max()
        print(f"  {package}: {theirs:.3f} s, {theirs / ours:.1f} times ours, largest difference {gap:.1e}")

    seconds, _ = timed(lambda: voc_map(predictions, truth, n_classes=CLASSES))
    print(f"  voc_map: {seconds:.3f} s")
    seconds, interval = timed(lambda: map50_interval(predictions, truth, n_classes=CLASSES))
    print(
        f"  map50_interval, 200 resamples: {seconds:.2f} s, {panel['map50']:.4f} in {interval[0]:.4f}–{interval[1]:.4f}"
    )
    counts, sizes = np.stack([item.counts(CLASSES) for item in truth]), [(SIDE, SIDE)] * images
    seconds, rule = timed(lambda: tune_count_rule(predictions, counts, sizes, classes=names, metric="count_mae"))
    kept = {key: rule.summary[key] for key in ("plain", "tuned", "corrected")}
    print(f"  tune_count_rule: {seconds:.1f} s, count_mae {kept}")
    seconds, found = timed(lambda: rule.count_all(predictions, sizes))
    again, interval = timed(lambda: count_interval("count_mae", found, counts))
    print(f"  count_all: {seconds:.2f} s; count_interval, 1000 resamples: {again:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--detections", type=int, default=100, help="boxes an image")
    arguments = parser.parse_args()
    for images in arguments.images:
        compare(images, arguments.detections)


if __name__ == "__main__":
    main()
