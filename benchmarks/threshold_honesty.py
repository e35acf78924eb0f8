"""Is the promised interval kept? The metric at a tuned threshold, on data that no tuning saw, against the promise.

    python benchmarks/threshold_honesty.py                                    simulated scores and the bundled sample
    python benchmarks/threshold_honesty.py --root ../shared/data/magnetic_tile \
        --weights ../shared/data/weights/mobilenetv2_100_same.safetensors     and PaDiM and PatchCore on real data

Labelled rows are cut into two halves, both classes alike. On one the threshold is tuned and the interval promised
(`promised_interval`, for a test of the other half's size); on the other the metric is measured at that threshold. 20
splits of real scores, and many fresh draws of simulated ones, which say more. Beside it the naive interval: resampled
tuning rows at the threshold held fixed (`bootstrap_interval`). Both at level 0.95; at least 85% should hold.

Real scores are those of the test images of `train.py` runs, made once and kept as CSV under --cache.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.calibration.certainty import promised_interval
from src.calibration.threshold import tune_threshold
from src.metrics.bootstrap import bootstrap_interval
from src.metrics.registry import get_metric

REPOSITORY = Path(__file__).resolve().parent.parent
Rows = tuple[np.ndarray, np.ndarray]  # scores, 0/1 labels

# normal and anomalous rows of a half, and how many standard deviations lie between the classes
SIMULATED = [
    (30, 10, 1.5),
    (30, 10, 3.5),
    (100, 10, 2.5),
    (100, 50, 0.5),
    (100, 50, 2.0),
    (100, 50, 4.0),
    (300, 300, 2.5),
]


def halves(scores: np.ndarray, labels: np.ndarray, splits: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Random halves of the rows, stratified by class."""
    random = np.random.default_rng(seed)
    for _ in range(splits):
        first = np.zeros(len(labels), dtype=bool)
        for label in (0, 1):
            rows = random.permutation(np.flatnonzero(labels == label))
            first[rows[: len(rows) // 2]] = True
        yield (scores[first], labels[first]), (scores[~first], labels[~first])


def simulated(normal: int, anomalous: int, apart: float, repeats: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Two samples of equal size from two skewed populations (log-normal scores, as distances are)."""
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [normal, anomalous])
    for _ in range(repeats):
        yield tuple((np.exp(0.4 * random.normal(apart * labels, 1 + 0.3 * labels)), labels) for _ in range(2))


def measure(pairs: Iterator[tuple[Rows, Rows]], metric: str, resamples: int) -> dict[str, float]:
    """Share of the pairs whose second half keeps the promise made on the first, and mean widths."""
    rows = []
    function = get_metric(metric)
    for seed, ((scores, labels), (new, truth)) in enumerate(pairs):
        threshold = tune_threshold(scores, labels, metric).value
        value = function.value_at(new, truth, threshold)
        normal, anomalous = int((truth == 0).sum()), int((truth == 1).sum())
        promise = promised_interval(
            scores, labels, metric, test_normal=normal, test_anomalous=anomalous, n=resamples, seed=seed
        )
        low, high = bootstrap_interval(metric, scores, labels, threshold=threshold, n=resamples, seed=seed)
        rows.append(
            {
                "kept": _within(promise.low, value, promise.high),
                "width": promise.high - promise.low,
                "naive kept": _within(low, value, high),
                "naive width": high - low,
                "tuned on": function.value_at(scores, labels, threshold),
                "promised": promise.value,
                "measured": value,
            }
        )
    table = pd.DataFrame(rows)
    return {"repeats": len(table), **table.mean().to_dict()}


def _within(low: float, value: float, high: float) -> bool:
    return low - 1e-9 <= value <= high + 1e-9


def real_scores(name: str, competition: list[str], options: list[str], cache: Path) -> Rows:
    """Scores and labels of the test images of a run, from the cache or from `train.py`."""
    table = cache / f"{name}.csv"
    if not table.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "train.py", "task=anomaly", "logger=csv", "report=false", "data.num_workers=0"]
        command += [f"run={name}", f"outputs={cache / 'runs'}", *competition, *options]
        one_core = {"OMP_NUM_THREADS": "1", **os.environ}
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=sys.stderr, env=one_core)
        _join(cache / "runs" / "anomaly" / name, competition).to_csv(table, index=False)
    rows = pd.read_csv(table)
    return rows["score"].to_numpy(), rows["label"].to_numpy()


def _join(run: Path, competition: list[str]) -> pd.DataFrame:
    from src.competition import read_competition
    from src.manifest import read_solution
    from src.predictions import read_predictions

    chosen = dict(entry.split("=", 1) for entry in competition)
    root = {"root": chosen["competition.root"]} if "competition.root" in chosen else {}
    spec = read_competition(chosen.get("competition", "sample_anomaly"), root)
    test = read_predictions(run / "predictions" / "test.parquet", "anomaly")
    return test[["id", "score"]].merge(read_solution(spec)[["id", "label"]], on="id", validate="one_to_one")


def real_sources(options: argparse.Namespace) -> Iterator[tuple[str, Rows]]:
    yield "sample, PatchCore", real_scores("sample_patchcore", [], [], options.cache)
    if not options.root:
        return
    tiles = ["competition=mvtec", f"competition.root={options.root.resolve()}"]
    network = [
        "model.backbone=mobilenetv2_100",
        "model.backbone_args.pad_type=same",
        f"model.weights={options.weights.resolve()}",
        "model.mean=[0.5,0.5,0.5]",
        "model.std=[0.5,0.5,0.5]",
        "model.layers=[blocks.2,blocks.4]",
        "model.image_size=224",
    ]
    yield "magnetic tiles, PaDiM", real_scores("tiles_padim", tiles, ["model=padim", *network], options.cache)
    coreset = ["model=patchcore", "model.coreset_ratio=0.002"]
    yield "magnetic tiles, PatchCore", real_scores("tiles_patchcore", tiles, [*coreset, *network], options.cache)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a real data set in MVTec's layout")
    parser.add_argument("--weights", type=Path, help="MobileNetV2's state dict, for --root")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / "outputs" / "honesty", help="where scores are kept")
    parser.add_argument("--metric", default="f1")
    parser.add_argument("--splits", type=int, default=20, help="of each set of real scores")
    parser.add_argument("--repeats", type=int, default=500, help="of each simulation")
    parser.add_argument(
        "--resamples", type=int, default=1000, help="of an interval on real scores; a fifth if simulated"
    )
    options = parser.parse_args()
    if options.root and not options.weights:
        parser.error("--root needs --weights")

    def show(source: str, pairs: Callable[[], Iterator[tuple[Rows, Rows]]], resamples: int) -> None:
        found = measure(pairs(), options.metric, resamples)
        shares = [f"{found[key]:.1%} | {found[key.replace('kept', 'width')]:.3f}" for key in ("kept", "naive kept")]
        means = [f"{found[key]:.3f}" for key in ("tuned on", "promised", "measured")]
        print("|", " | ".join([source, str(found["repeats"]), *shares, *means]), "|", flush=True)

    print(f"{options.metric}; level 0.95\n")
    print("| scores (normal + anomalous to tune on) | splits | kept | width | naive kept | naive width "
          "| tuned rows say | promised | measured |\n|" + " --- |" * 9)  # fmt: skip
    for name, (scores, labels) in real_sources(options):
        sizes = " + ".join(str(int((labels == label).sum()) // 2) for label in (0, 1))
        show(f"{name} ({sizes})", lambda s=scores, y=labels: halves(s, y, options.splits, 0), options.resamples)
    for normal, anomalous, apart in SIMULATED:
        show(
            f"simulated, {apart} deviations apart ({normal} + {anomalous})",
            lambda a=normal, b=anomalous, d=apart: simulated(a, b, d, options.repeats, 0),
            max(1, options.resamples // 5),
        )


if __name__ == "__main__":
    main()
