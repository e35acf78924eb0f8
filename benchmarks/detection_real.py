"""Detectors on real pictures: raccoons (Pascal VOC, 200 photographs) and circuit boards (DeepPCB, COCO JSON).

python benchmarks/detection_real.py raccoon --root <folder of raccoon> --weights <mobilenetv2_100 state dict>
python benchmarks/detection_real.py deep_pcb --root <folder of deep_pcb>

Raccoons: every fifth picture, by name, is the test (40), the others train (160); 20% of these are held out to tune on.
Circuit boards: train.json trains (20% held out to tune on), val.json is the test. The run is a usual one of train.py;
the figures are its `graded` ones, beside a prediction of the mean count. Further arguments are overrides of train.py's.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.cli import CONF, expand_arguments

BACKBONE = (
    "model.backbone=mobilenetv2_100", "model.backbone_args.pad_type=same", "model.freeze_norm=true",
    "model.mean=[0.5,0.5,0.5]", "model.std=[0.5,0.5,0.5]",
)  # fmt: skip
RECIPES = {
    "raccoon": (
        "model=compact_pretrained", "model.image_size=320", "model.lr=0.001", "model.max_epochs=30",
        "data.batch_size=8", "competition=voc", "competition.data.images=images",
        "competition.data.annotations=annotations",
        "competition.data.train=train.txt", "competition.data.test=test.txt", "competition.metric=map50", *BACKBONE,
    ),
    "deep_pcb": (
        "model=compact", "model.weights=random", "model.image_size=512", "model.lr=0.004", "model.max_epochs=60",
        "data.batch_size=4", "augment=detection_topdown", "competition=coco", "competition.data.test=val.json",
        "competition.data.images={train: train, test: val}", "competition.metric=map50",
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=RECIPES)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--outputs", type=Path, default=Path("outputs/benchmarks"))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    root = arguments.root.resolve()
    if arguments.data == "raccoon":
        root = with_lists(root, arguments.outputs.resolve() / "raccoon_lists")
    overrides = [*RECIPES[arguments.data], f"competition.root={root}", f"outputs={arguments.outputs.resolve()}"]
    if arguments.weights:
        overrides.append(f"model.weights={arguments.weights.resolve()}")
    start = time.perf_counter()
    run = train_with(["task=detection", "logger=csv", *overrides, *arguments.overrides])
    print(f"\n{arguments.data}: {time.perf_counter() - start:.0f} s in all; python train.py {' '.join(overrides)}")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    graded = metrics["graded"]
    print(f"fit {record['seconds']['fit']:.0f} s, peak {record['peak_memory']['process_gib']} GiB")
    for name in ("map50", "map", "map75", "count_mae", "count_exact", "count_exact_image"):
        print(f"{name:<18} OOF {metrics['oof'][name]:.4f}   test {graded[name]:.4f}")
    each = ", ".join(f"{name} {values['ap50']:.3f}" for name, values in graded["per_class"].items())
    print(f"{'per class AP50':<18} {each}")
    report_counts(run)


def train_with(overrides: list[str]) -> Path:
    """One run of train.py in this process; answers its folder."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from src.training import train

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=expand_arguments(overrides))
    return train(OmegaConf.to_container(config, resolve=True, throw_on_missing=False)).run.path


def report_counts(run: Path) -> None:
    """Total objects an image: error of the run's rule, and of always saying the training mean."""
    from src.competition import from_config
    from src.flows.detection_panel import Decision, pair
    from src.manifest import read_manifest, read_solution
    from src.predictions import read_predictions
    from src.runs import open_run, read_config, read_record

    folder = open_run(run)
    competition = from_config(read_config(folder)["competition"])
    manifest, solution = read_manifest(competition), read_solution(competition)
    paired = pair(read_predictions(folder.predictions / "test.parquet", "detection"), solution)
    rule = Decision.from_dict(read_record(run / "metrics.json")).rule
    found, true = rule.count_all(paired.found, paired.sizes).sum(axis=1), paired.counts.sum(axis=1)
    known = np.stack([c for c in manifest["counts"] if c is not None]).sum(axis=1)
    print(
        f"objects an image: MAE {np.abs(found - true).mean():.3f}, always {known.mean():.2f} would give "
        f"{np.abs(known.mean() - true).mean():.3f}; exactly right {np.mean(found == true):.3f} of {len(true)} images"
    )


def with_lists(source: Path, root: Path) -> Path:
    """A root of its own: links to the pictures and annotations, and lists of training and test pictures."""
    root.mkdir(parents=True, exist_ok=True)
    for name in ("images", "annotations"):
        if not (root / name).exists():
            (root / name).symlink_to(source / name)
    stems = sorted(path.stem for path in (source / "images").glob("*.jpg"))
    (root / "test.txt").write_text("\n".join(stems[::5]) + "\n")
    (root / "train.txt").write_text("\n".join(s for i, s in enumerate(stems) if i % 5) + "\n")
    return root


if __name__ == "__main__":
    main()
