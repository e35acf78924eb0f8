"""PatchCore and PaDiM: this project beside anomalib's own Engine, on the same images, weights, layers and size.

    python benchmarks/anomalib_parity.py --root ../shared/data/magnetic_tile \
        --weights ../shared/data/weights/mobilenetv2_100_same.safetensors --limit 60          minutes
    python benchmarks/anomalib_parity.py --root … --weights … --out parity.jsonl              everything; see below
    … --models patchcore --sides anomalib                one at a time: finished ones are read from --out, not run again

Ours is src.models.anomaly on this project's data layer, under its own task; theirs is anomalib's class under anomalib's
Engine, reading the files with anomalib's Folder and transforms. One thing of theirs is replaced: timm.create_model
loads the weights from our file (and passes backbone_args on), because their own way is a download. Both get the same
training and test images; both answers go through the same metric functions against the same masks, at the network's
size. PaDiM uses the same feature channels on both sides. "fit" runs from the first file read to a model that predicts.

anomalib's coreset loop costs about 0.3 s a step per 250,000 patches on 2 cores: at 224 pixels, 761 images and
--coreset 0.002 that is a quarter of an hour, at 0.01 more than an hour.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
warnings.filterwarnings("ignore")
os.environ.setdefault("TQDM_MININTERVAL", "30")  # anomalib's bars, in a log


def read_rows(root: Path, limit: int | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Manifest and solution of an mvtec-layout folder, cut to `limit` training and about `limit` test images."""
    from src.competition import read_competition
    from src.manifest import read_manifest, read_solution

    spec = read_competition("mvtec", {"root": str(root.resolve())})
    manifest, solution = read_manifest(spec), read_solution(spec)
    if limit:
        train = manifest[manifest["split"] == "train"].iloc[:limit]
        test = manifest[manifest["split"] == "test"]
        manifest = pd.concat([train, test.iloc[:: max(1, len(test) // limit)]])
        solution = solution[solution["id"].isin(set(manifest.loc[manifest["split"] == "test", "id"]))]
    return manifest, solution


def run_ours(options: argparse.Namespace, manifest: pd.DataFrame, channels: list[int] | None) -> dict[str, Any]:
    import lightning.pytorch as pl

    from src.data.datamodule import DataModule
    from src.data.transforms import PreprocessSpec
    from src.tasks.anomaly import AnomalyTask

    pl.seed_everything(options.seed, verbose=False)
    network: dict[str, Any] = {"backbone": options.backbone, "layers": options.layers, "seed": options.seed}
    network["backbone_args"] = backbone_args(options)
    if options.model == "patchcore":
        network["_target_"] = "src.models.anomaly.patchcore.PatchCore"
        network |= {"coreset_ratio": options.coreset, "num_neighbors": options.neighbors, "max_memory_gb": 8.0}
    else:
        network["_target_"] = "src.models.anomaly.padim.PaDiM"
        network["feature_indices"] = channels
    spec = PreprocessSpec(options.size, options.size, mean=options.mean, std=options.std)
    task = AnomalyTask(
        network=network, preprocess=spec.to_dict(), optimization={}, weights=os.fspath(options.weights)
    )  # fmt: skip
    train = manifest[manifest["split"] == "train"]
    folds = pd.Series(-1, index=train.index)
    trainer = pl.Trainer(**quiet(), max_epochs=1, limit_val_batches=0, use_distributed_sampler=False)
    started = time.perf_counter()
    data = DataModule(manifest, folds, 0, spec, batch_size=options.batch, num_workers=options.workers, one_class=True)
    trainer.fit(task, datamodule=data)
    fitted = time.perf_counter()
    batches = trainer.predict(task, dataloaders=data.test_dataloader())
    done = time.perf_counter()
    rows = {
        name: (float(score), plane[0].numpy())
        for batch in batches
        for name, score, plane in zip(batch.ids, batch.scores, batch.maps, strict=True)
    }
    return {"rows": rows, "fit_s": fitted - started, "predict_s": done - fitted}


def run_anomalib(options: argparse.Namespace, manifest: pd.DataFrame, root: Path) -> dict[str, Any]:
    import lightning.pytorch as pl
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    from src.tasks.anomalib_weights import weights_from

    with warnings.catch_warnings():
        from anomalib.callbacks import ModelCheckpoint
        from anomalib.data import Folder
        from anomalib.engine import Engine
        from anomalib.models import Padim, Patchcore
        from anomalib.pre_processing import PreProcessor

    pl.seed_everything(options.seed, verbose=False)
    size = (options.size, options.size)
    transform = Compose([Resize(size, antialias=True), Normalize(mean=list(options.mean), std=list(options.std))])
    shared = {
        "backbone": options.backbone, "layers": list(options.layers), "pre_processor": PreProcessor(transform),
        "post_processor": False, "evaluator": False, "visualizer": False,
    }  # fmt: skip
    with weights_from(lambda _: os.fspath(options.weights), backbone_args(options)):
        if options.model == "patchcore":
            model = Patchcore(coreset_sampling_ratio=options.coreset, num_neighbors=options.neighbors, **shared)
        else:
            model = Padim(n_features=options.features, **shared)
    kinds = sorted(p.name for p in (root / "test").iterdir() if p.is_dir() and p.name != "good")
    started = time.perf_counter()
    data = Folder(
        name="parity", root=root, normal_dir="train/good", normal_test_dir="test/good",
        abnormal_dir=[f"test/{kind}" for kind in kinds], train_batch_size=options.batch, eval_batch_size=options.batch,
        num_workers=options.workers, val_split_mode="same_as_test",
    )  # fmt: skip
    data.setup()
    keep(data.train_data, manifest[manifest["split"] == "train"])
    keep(data.test_data, manifest[manifest["split"] == "test"])
    with tempfile.TemporaryDirectory() as folder:
        nothing_saved = ModelCheckpoint(save_top_k=0)
        settings = {**quiet(), "enable_checkpointing": True, "limit_val_batches": 0}
        engine = Engine(default_root_dir=folder, callbacks=[nothing_saved], **settings)
        data.setup = lambda stage=None: data._update_augmentations()  # the images stay those that were kept
        engine.fit(model, datamodule=data)
        fitted = time.perf_counter()
        batches = engine.predict(model, datamodule=data, return_predictions=True)
        done = time.perf_counter()
    name_of = {os.path.realpath(row.path): row.id for row in manifest[manifest["split"] == "test"].itertuples()}
    rows = {
        name_of[os.path.realpath(path)]: (float(score), plane.numpy().squeeze())
        for batch in batches
        for path, score, plane in zip(batch.image_path, batch.pred_score, batch.anomaly_map, strict=True)
    }
    channels = [int(i) for i in model.model.idx] if options.model == "padim" else None
    return {"rows": rows, "fit_s": fitted - started, "predict_s": done - fitted, "channels": channels}


def keep(dataset: Any, rows: pd.DataFrame) -> None:
    wanted = {os.path.realpath(path) for path in rows["path"]}
    samples = dataset.samples
    kept = samples[[os.path.realpath(path) in wanted for path in samples["image_path"]]].reset_index(drop=True)
    if len(kept) != len(wanted):
        raise SystemExit(f"anomalib's Folder found {len(kept)} of {len(wanted)} images")
    kept.attrs = samples.attrs
    dataset.samples = kept


def quiet() -> dict[str, Any]:
    return {
        "accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip


def backbone_args(options: argparse.Namespace) -> dict[str, Any]:
    return {"pad_type": options.pad_type} if options.pad_type else {}


def grade(rows: dict[str, tuple[float, np.ndarray]], solution: pd.DataFrame, size: int) -> dict[str, float]:
    from src.metrics.anomaly import auroc
    from src.metrics.pixel import pixel_auroc

    truth = solution.set_index("id")
    if set(rows) != set(truth.index):
        raise SystemExit(f"{len(set(truth.index) - set(rows))} test images have no prediction")
    masks = []
    for name in rows:
        path = truth.loc[name, "mask"]
        mask = np.zeros((size, size), np.uint8)
        if isinstance(path, str):
            full = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
            mask = (cv2.resize(full, (size, size), interpolation=cv2.INTER_NEAREST) > 0).astype(np.uint8)
        masks.append(mask)
    labels = truth.loc[list(rows), "label"].astype(int).to_numpy()
    scores = np.array([score for score, _ in rows.values()])
    return {
        "image_auroc": auroc(scores, labels),
        "pixel_auroc": pixel_auroc((plane for _, plane in rows.values()), masks),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="mvtec layout: train/good, test/<kind>, ground_truth")
    parser.add_argument("--weights", type=Path, required=True, help="state dict of the backbone")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--pad-type", default="same", help="timm's pad_type; empty for none")
    parser.add_argument("--mean", type=float, nargs=3, default=(0.5, 0.5, 0.5))
    parser.add_argument("--std", type=float, nargs=3, default=(0.5, 0.5, 0.5))
    parser.add_argument("--layers", nargs="+", default=["blocks.2", "blocks.4"], help="strides 8 and 16")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--coreset", type=float, default=0.002)
    parser.add_argument("--neighbors", type=int, default=9)
    parser.add_argument("--features", type=int, default=100, help="PaDiM's channels")
    parser.add_argument("--models", nargs="+", default=["padim", "patchcore"], choices=["padim", "patchcore"])
    parser.add_argument("--sides", nargs="+", default=["anomalib", "ours"], choices=["anomalib", "ours"])
    parser.add_argument("--limit", type=int, help="only so many training and about so many test images")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON lines; a finished (model, side) of the same settings is kept")
    options = parser.parse_args()
    options.mean, options.std = tuple(options.mean), tuple(options.std)

    import logging

    import torch

    for name in ("lightning.pytorch", "lightning_fabric", "lightning.fabric", "anomalib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    manifest, solution = read_rows(options.root, options.limit)
    counts = manifest["split"].value_counts()
    print(f"{counts['train']} training and {counts['test']} test images of {options.root}, {options.size} pixels")
    records = [json.loads(line) for line in options.out.read_text().splitlines()] if _exists(options.out) else []
    for model in options.models:
        options.model = model
        for side in sorted(options.sides):  # anomalib first: PaDiM takes its channels
            settings = {
                "model": options.model, "backbone": options.backbone, "layers": list(options.layers),
                "size": options.size, "coreset": options.coreset, "features": options.features,
                "neighbors": options.neighbors, "seed": options.seed, "n_train": int(counts["train"]),
                "n_test": int(counts["test"]),
            }  # fmt: skip
            if _find(records, settings, side) is None:
                record = _run(side, options, manifest, solution, _find(records, settings, "anomalib"))
                records.append({**settings, "side": side, **record})
                if options.out:
                    with options.out.open("a") as file:
                        file.write(json.dumps(records[-1]) + "\n")
        _report(records, settings)


def _run(
    side: str, options: argparse.Namespace, manifest: pd.DataFrame, solution: pd.DataFrame, peer: dict | None
) -> dict[str, Any]:
    from importlib.metadata import version

    if side == "anomalib":
        result = run_anomalib(options, manifest, options.root.resolve())
    else:
        channels = (peer or {}).get("channels") or list(range(options.features))
        result = run_ours(options, manifest, channels)
    scores = grade(result.pop("rows"), solution, options.size)
    return {
        **scores, **result, "threads": options.threads, "weights": options.weights.name,
        "versions": {name: version(name) for name in ("anomalib", "torch", "timm")},
    }  # fmt: skip


def _exists(path: Path | None) -> bool:
    return path is not None and path.is_file()


def _find(records: list[dict], settings: dict[str, Any], side: str) -> dict | None:
    wanted = {**settings, "side": side}
    return next((r for r in reversed(records) if all(r[key] == value for key, value in wanted.items())), None)


def _report(records: list[dict], settings: dict[str, Any]) -> None:
    ours, theirs = (_find(records, settings, side) for side in ("ours", "anomalib"))
    for side, record in (("anomalib", theirs), ("ours", ours)):
        if record:
            print(
                f"{settings['model']:10} {side:9} image AUROC {record['image_auroc']:.4f}  pixel AUROC "
                f"{record['pixel_auroc']:.4f}  fit {record['fit_s']:8.1f} s  predict {record['predict_s']:7.1f} s",
                flush=True,
            )
    if ours and theirs:
        print(
            f"{settings['model']:10} {'difference':9} image AUROC {ours['image_auroc'] - theirs['image_auroc']:+.4f}  "
            f"pixel AUROC {ours['pixel_auroc'] - theirs['pixel_auroc']:+.4f}  ours is "
            f"{theirs['fit_s'] / ours['fit_s']:.1f}× as fast to fit, "
            f"{theirs['predict_s'] / ours['predict_s']:.1f}× to predict",
            flush=True,
        )


if __name__ == "__main__":
    main()
