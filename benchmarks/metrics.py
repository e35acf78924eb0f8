"""Metrics side by side with scikit-learn, torchmetrics and anomalib: time, ratio, and how far the values are apart.

    python benchmarks/metrics.py              under a minute on 2 cores
    python benchmarks/metrics.py --maps 300   more pixels

Each line is one metric on the same arrays: our time (best of three), the peer's, their ratio, and how far the values
are apart. They must agree to 1e-9 with scikit-learn and to 1e-6 with torchmetrics and anomalib, which use float32.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.calibration.threshold import tune_threshold
from src.metrics.anomaly import auroc, average_precision, f1_at
from src.metrics.bootstrap import bootstrap_interval
from src.metrics.pixel import PIXEL_METRICS, aupro, count_pixels, pixel_auroc, pixel_average_precision


def make_maps(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Float16 maps n×size×size, higher in the defects, and their masks; one image in three is defective."""
    import cv2

    random = np.random.default_rng(0)
    masks = np.zeros((n, size, size), np.uint8)
    for index in range(0, n, 3):
        for _ in range(2):
            centre = tuple(random.integers(size // 8, size - size // 8, 2).tolist())
            axes = tuple(random.integers(size // 40 + 1, size // 8, 2).tolist())
            cv2.ellipse(masks[index], centre, axes, float(random.integers(180)), 0, 360, 1, -1)
    maps = np.empty(masks.shape, np.float16)
    for index, mask in enumerate(masks):
        maps[index] = random.gamma(2.0, 1.0, mask.shape) + 2.0 * mask
    return maps, masks


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    value = function()
    return value, time.perf_counter() - start


def compare(name: str, ours: Callable[[], Any], peer_name: str, peer: Callable[[], Any], tolerance: float) -> bool:
    """Print one line; false when the values are further apart than the tolerance."""
    our_value, our_time = min((timed(ours) for _ in range(3)), key=lambda result: result[1])
    peer_value, peer_time = timed(peer)
    difference = float(np.max(np.abs(np.subtract(our_value, peer_value))))
    agree = difference <= tolerance
    print(
        f"{name:<38} {our_time:8.3f} s   {peer_name:<28} {peer_time:8.3f} s   {peer_time / our_time:8.1f}×   "
        f"differ by {difference:.1e}{'' if agree else f'  OVER {tolerance:.0e}'}",
        flush=True,
    )
    return agree


def brute_f1(scores: np.ndarray, labels: np.ndarray) -> float:
    values = np.unique(scores)
    return max(f1_at(scores, labels, t) for t in values[:-1] + np.diff(values) / 2)


def looped_interval(scores: np.ndarray, labels: np.ndarray, n: int) -> tuple[float, float]:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    parts = scores[labels == 0], scores[labels == 1]
    truth = np.repeat([0, 1], [len(part) for part in parts])
    values = [roc_auc_score(truth, np.concatenate([random.choice(p, len(p)) for p in parts])) for _ in range(n)]
    return tuple(np.quantile(values, [0.025, 0.975]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=64, help="maps that ours and the peers measure")
    parser.add_argument("--size", type=int, default=256, help="height and width of a map")
    options = parser.parse_args()
    import torch
    from anomalib.metrics.aupro import _AUPRO
    from sklearn.metrics import average_precision_score, roc_auc_score
    from torchmetrics.functional.classification import binary_auroc

    maps, masks = make_maps(options.maps, options.size)
    flat, truth = maps.ravel().astype(np.float32), masks.ravel()
    print(f"{options.maps} maps of {options.size}² ({maps.size / 1e6:.1f} M pixels), {torch.get_num_threads()} threads")

    def anomalib_aupro(planes: np.ndarray) -> float:
        metric = _AUPRO()
        metric.update(torch.from_numpy(planes.astype(np.float32)), torch.from_numpy(masks))
        return float(metric.compute())

    single = (maps.astype(np.float32) + np.random.default_rng(1).normal(0, 1e-4, maps.shape)).astype(np.float32)
    tensors = torch.from_numpy(flat), torch.from_numpy(truth.astype(np.int64))
    agree = [
        compare("pixel AUROC, float16 maps", lambda: pixel_auroc(maps, masks),
                "scikit-learn", lambda: roc_auc_score(truth, flat), 1e-9),
        compare("pixel AUROC, float16 maps", lambda: pixel_auroc(maps, masks),
                "torchmetrics", lambda: float(binary_auroc(*tensors)), 1e-6),
        compare("pixel AUROC, float32 maps", lambda: pixel_auroc(single, masks),
                "scikit-learn", lambda: roc_auc_score(truth, single.ravel()), 1e-9),
        compare("pixel AP, float16 maps", lambda: pixel_average_precision(maps, masks),
                "scikit-learn", lambda: average_precision_score(truth, flat), 1e-9),
        compare("AUPRO, float16 maps", lambda: aupro(maps, masks), "anomalib", lambda: anomalib_aupro(maps), 1e-6),
        compare("AUPRO, float32 maps", lambda: aupro(single, masks), "anomalib", lambda: anomalib_aupro(single), 1e-6),
    ]  # fmt: skip
    random = np.random.default_rng(2)
    labels = (random.random(1_000_000) < 0.1).astype(np.int64)
    scores = random.normal(labels, 1.0)
    few = slice(0, 3000)
    agree += [
        compare("image AUROC, 1 M scores", lambda: auroc(scores, labels),
                "scikit-learn", lambda: roc_auc_score(labels, scores), 1e-9),
        compare("image AP, 1 M scores", lambda: average_precision(scores, labels),
                "scikit-learn", lambda: average_precision_score(labels, scores), 1e-9),
        compare("best F1 threshold, 3000 scores", lambda: tune_threshold(scores[few], labels[few], "f1").score,
                "every midpoint in turn", lambda: brute_f1(scores[few], labels[few]), 1e-9),
        compare("AUROC interval, 1000 × 3000 scores", lambda: bootstrap_interval("auroc", scores[few], labels[few]),
                "scikit-learn in a loop", lambda: looped_interval(scores[few], labels[few], 1000), 1e-2),
    ]  # fmt: skip

    repeated = (index % len(maps) for index in range(583))
    _, seconds = timed(
        lambda: [m(c) for c in [count_pixels((maps[i], masks[i]) for i in repeated)] for m in PIXEL_METRICS.values()]
    )
    print(f"all four pixel metrics, 583 maps       {seconds:8.3f} s   one pass, no copy of the maps")
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
