"""Coreset selection: ours beside anomalib's KCenterGreedy, on identical features and start, in one run.

    python benchmarks/coreset.py                        under a minute on 2 idle cores: 52,000 × 268 at 10%
    python benchmarks/coreset.py --full                 the same with anomalib to the end, and 250,000 × 128 at 1%:
                                                        10 minutes on 2 idle cores, an hour on busy ones
    python benchmarks/coreset.py --features bank.npy --ratio 0.01 --peer-steps 300

anomalib's loop costs the same at every step, so `--peer-steps` times that many of its steps and extrapolates; 0 runs
it to the end and compares the sets and the covering radii. Neither side projects here; what anomalib's projection
adds is printed beside. Ours compiles nothing, so there is no warm-up to count apart.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.models.anomaly.coreset import covering_radius, farthest_points

START = 7


def clumped(rows: int, width: int) -> Tensor:
    """Clumps of unequal spread, variance falling along the axes: closer to patch features than plain noise."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(rows // 50, width, generator=generator)
    which = torch.randint(len(centers), (rows,), generator=generator)
    spread = torch.rand(len(centers), 1, generator=generator) ** 3
    scale = torch.linspace(1, 0.02, width)
    return (centers[which] + torch.randn(rows, width, generator=generator) * spread[which]) * scale


def gaussian(rows: int, width: int) -> Tensor:
    """Plain noise: the worst case of every shortcut."""
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(0))


def time_peer(features: Tensor, steps: int) -> tuple[float, list[int]]:
    """Seconds and choices of anomalib's own loop; the third axis of its input keeps it from projecting."""
    from anomalib.models.components.sampling import KCenterGreedy

    sampler = KCenterGreedy(embedding=features.unsqueeze(2), sampling_ratio=(steps + 0.5) / len(features))
    with mock.patch("torch.randint", return_value=torch.tensor([START])), contextlib.redirect_stderr(io.StringIO()):
        begin = time.perf_counter()
        chosen = sampler.select_coreset_idxs()
        return time.perf_counter() - begin, chosen


def time_projection(features: Tensor) -> tuple[float, int]:
    """Seconds of anomalib's projection, which it applies whether or not it shrinks the features, and its width."""
    from anomalib.models.components.dimensionality_reduction import SparseRandomProjection

    begin = time.perf_counter()
    projection = SparseRandomProjection(eps=0.9).fit(features)
    return time.perf_counter() - begin, projection.transform(features).shape[1]


def compare(name: str, features: Tensor, count: int, peer_steps: int, repeats: int) -> None:
    """Time both sides, ours before and after the peer, and print one block of results."""
    rows, width = features.shape
    print(f"\n{name}: {rows:,} × {width}, {count:,} chosen")

    def ours() -> tuple[float, list[int]]:
        begin = time.perf_counter()
        chosen = farthest_points(features, count, start=START).tolist()
        return time.perf_counter() - begin, chosen

    runs = [ours() for _ in range(repeats)]
    steps = min(peer_steps, count) if peer_steps else count
    seconds, theirs = time_peer(features, steps)
    # The first choice costs the peer no pass over the points.
    peer = seconds if steps == count else seconds * (count - 1) / max(steps - 1, 1)
    runs += [ours() for _ in range(repeats)]
    times, chosen = [run[0] for run in runs], runs[0][1]
    projecting, target = time_projection(features)
    how = "measured whole" if steps == count else f"extrapolated from {steps} steps in {seconds:.1f} s"
    print(f"  ours      {statistics.median(times):9.2f} s   median of {[round(t, 2) for t in times]}")
    print(f"  anomalib  {peer:9.2f} s   {how}; its projection to {target} would add {projecting:.2f} s")
    print(f"  ratio     {peer / statistics.median(times):9.1f} ×")
    same = chosen[: len(theirs)] == theirs
    print(f"  choices   {'identical, in order' if same else 'DIFFER'} over the {len(theirs):,} compared")
    radius = covering_radius(features, torch.tensor(chosen))
    text = f"  radius    {radius:.6f}"
    if steps == count:
        text += f" ours, {covering_radius(features, torch.tensor(theirs)):.6f} anomalib"
    print(text, flush=True)
    if not same and set(chosen[: len(theirs)]) != set(theirs):
        raise SystemExit("the sets differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=52_000)
    parser.add_argument("--width", type=int, default=268)
    parser.add_argument("--ratio", type=float, default=0.1)
    parser.add_argument("--features", type=Path, help="an N×D .npy of real patch features instead of made ones")
    parser.add_argument("--peer-steps", type=int, default=150, help="steps of anomalib's loop to time; 0: all")
    parser.add_argument("--repeats", type=int, default=2, help="runs of ours before, and again after, the peer")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--full", action="store_true", help="the sizes of the project's target, anomalib to the end")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, load average {os.getloadavg()[0]:.1f}")
    if arguments.features:
        features = torch.from_numpy(np.load(arguments.features)).float()
        count = int(len(features) * arguments.ratio)
        compare(arguments.features.name, features, count, arguments.peer_steps, arguments.repeats)
        return
    sizes = [(arguments.rows, arguments.width, arguments.ratio)]
    if arguments.full:
        sizes = [(52_000, 268, 0.1), (250_000, 128, 0.01)]
    for rows, width, ratio in sizes:
        for kind in (clumped, gaussian):
            whole = arguments.full and kind is clumped
            steps = 0 if whole else arguments.peer_steps
            compare(kind.__name__, kind(rows, width), int(rows * ratio), steps, arguments.repeats)


if __name__ == "__main__":
    main()
