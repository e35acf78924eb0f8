"""PatchCore's nearest-neighbour search: ours beside anomalib's, on one bank and one batch of queries.

python benchmarks/knn.py                          seconds: 3,136 patches (one 224-pixel image) × 10,000 × 268
python benchmarks/knn.py --queries 50176 --bank 25000
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.models.anomaly.neighbors import NeighborIndex


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=3136)
    parser.add_argument("--bank", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=268)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    generator = torch.Generator().manual_seed(0)
    bank = torch.rand(arguments.bank, arguments.width, generator=generator)
    queries = torch.rand(arguments.queries, arguments.width, generator=generator)
    peer = PatchcoreModel(layers=["layer1"], backbone="resnet18", pre_trained=False)
    peer.memory_bank = bank
    index = NeighborIndex(bank)
    sides = {
        "ours": lambda: index.distances(queries),
        "anomalib": lambda: peer.nearest_neighbors(queries, n_neighbors=1)[0],
    }
    error = (sides["ours"]() - sides["anomalib"]()).abs().max().item()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(arguments.repeats):
        for name, function in sides.items():
            times[name].append(seconds(function))
    print(f"{arguments.queries:,} queries × {arguments.bank:,} × {arguments.width}, {arguments.threads} threads")
    for name, values in times.items():
        print(f"  {name:9} {statistics.median(values) * 1e3:8.1f} ms median, {min(values) * 1e3:.1f} ms best")
    ratio = statistics.median(times["anomalib"]) / statistics.median(times["ours"])
    print(f"  ratio     {ratio:8.2f} ×   largest difference {error:.1e}")


if __name__ == "__main__":
    main()
