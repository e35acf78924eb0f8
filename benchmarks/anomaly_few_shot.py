"""Few labelled defects on magnetic tiles: what k images of each kind bring, and how well the kinds are told apart.

    python benchmarks/anomaly_few_shot.py --root ../shared/data/magnetic_tile \\
        --weights ../shared/data/weights/mobilenetv2_100_same.safetensors
    … --parts frozen --seeds 0 --shots 5          a part of it: finished results in --out are read, not made again

few-shot (parts frozen, patchcore, classifier): all training normals and k defects of each kind, drawn by the seed
(more shots of a seed keep the fewer), are labelled; the other defects and the test normals are the test. Image AUROC
and average precision. On frozen features that are computed once: `linear`, a logistic regression; `nearest`, the cosine
to the nearest labelled defect less that to the nearest normal; `distance`, Mahalanobis from the normals with a shrunk
covariance (Ledoit and Wolf 2004), which uses no labelled defect. `patchcore` uses none either. `classifier` is this
project's, fine-tuned by its own task, sampler and augmentation, with classes by --classes.

six classes (part kinds): half of the defects of each kind and all training normals train, the rest is the test;
macro-F1 over six classes and over the five kinds of defect alone, of the most probable class.
"""

import argparse
import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.atomic import atomic_path
from src.metrics.anomaly import accuracy, auroc, average_precision, f1, macro_f1

PARTS = ("frozen", "patchcore", "classifier", "kinds")
BACKBONE = "mobilenetv2_100"
NORM = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
LAYERS = ("blocks.2", "blocks.4", "blocks.6")  # of the frozen features
RECIPE = (
    "task=anomaly", "model=classifier", f"model.backbone={BACKBONE}", "model.backbone_args.pad_type=same",
    "model.freeze_norm=true", "model.mean=[0.5,0.5,0.5]", "model.std=[0.5,0.5,0.5]", "augment=industrial",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data/magnetic_tile"))
    weights = Path("../shared/data/weights/mobilenetv2_100_same.safetensors")
    parser.add_argument("--weights", type=Path, default=weights)
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/anomaly_few_shot.json"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--frozen-size", type=int, default=224, help="pixels, of the frozen features and PatchCore")
    parser.add_argument("--size", type=int, default=128, help="pixels, of the fine-tuned classifier")
    parser.add_argument("--steps", type=int, default=60, help="batches of 16 that the few-shot classifier trains on")
    parser.add_argument("--kinds-steps", type=int, default=120, help="the same of the six-class classifier")
    parser.add_argument("--classes", choices=("binary", "targets"), default="binary", help="of the few-shot part")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("overrides", nargs="*", help="of the classifier's configuration, as model.lr=0.001")
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    for name in ("lightning.pytorch", "lightning.fabric", "src.models.features"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    results = Results(options.out)
    images = labelled_images(options.root)
    print(images.groupby(["split", "target"]).size().to_string(), flush=True)
    if "frozen" in options.parts:
        frozen(options, images, results)
    if "patchcore" in options.parts:
        patchcore(options, images, results)
    for seed in options.seeds if "classifier" in options.parts else ():
        for shots in options.shots:
            few_shot_classifier(options, images, results, shots, seed)
    if "kinds" in options.parts:
        for seed in options.seeds:
            six_classes(options, images, results, seed)
    print("\n" + few_shot_table(results) + "\n\n" + kinds_table(results))


class Results:
    """Records by name in a JSON file that is whole after each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}

    def add(self, name: str, record: dict[str, Any]) -> None:
        self.records[name] = record
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps(self.records, indent=1))
        print(f"{name:<32} " + ", ".join(f"{k} {v:.4f}" for k, v in record.items() if isinstance(v, float)), flush=True)


def labelled_images(root: Path) -> pd.DataFrame:
    """Every image as a manifest row, with its target and label, those of the test folder too; ids of both differ."""
    from src.competition import read_competition
    from src.manifest import read_manifest, read_solution

    spec = read_competition("mvtec", {"root": str(root.resolve())})
    manifest, solution = read_manifest(spec), read_solution(spec).set_index("id")
    known = manifest["split"] == "test"
    for column in ("target", "label"):
        values = manifest[column].astype(object)
        values[known] = [solution.at[name, column] for name in manifest.loc[known, "id"]]
        manifest[column] = values
    manifest["label"] = manifest["label"].astype("Int64")
    manifest.loc[manifest["label"] == 0, "target"] = "good"
    manifest["id"] = manifest["split"] + "/" + manifest["id"]
    return manifest.reset_index(drop=True)


def train_mask(images: pd.DataFrame, seed: int, shots: int | None) -> np.ndarray:
    """(N,) bool, the labelled rows: all training normals, and of each kind `shots` defects, or half where None."""
    mask = (images["split"] == "train").to_numpy().copy()
    for number, kind in enumerate(sorted(images.loc[images["label"] == 1, "target"].unique())):
        members = np.flatnonzero(images["target"] == kind)
        drawn = np.random.default_rng([seed, number]).permutation(members)
        mask[drawn[: len(members) // 2 if shots is None else shots]] = True
    return mask


# -- frozen features ------------------------------------------------------------------------------------------------
def frozen(options: argparse.Namespace, images: pd.DataFrame, results: Results) -> None:
    from sklearn.covariance import LedoitWolf
    from sklearn.linear_model import LogisticRegression

    features = frozen_features(options, images)
    labels = images["label"].to_numpy(dtype=np.int64)
    good = features[(images["split"] == "train").to_numpy()].astype(np.float64)
    location, scale = good.mean(0), good.std(0) + 1e-6
    distance = LedoitWolf().fit((good - location) / scale).mahalanobis((features - location) / scale)
    for seed in options.seeds:
        for shots in options.shots:
            train = train_mask(images, seed, shots)
            record_scores(results, "distance", shots, seed, distance[~train], labels[~train])
            mean, deviation = features[train].mean(0), features[train].std(0) + 1e-6
            scaled = (features - mean) / deviation
            model = LogisticRegression(C=1e-2, class_weight="balanced", max_iter=2000)
            model.fit(scaled[train], labels[train])
            record_scores(results, "linear", shots, seed, model.decision_function(scaled[~train]), labels[~train])
            unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
            normal, defect = (unit[train & (labels == label)] for label in (0, 1))
            score = (unit[~train] @ defect.T).max(1) - (unit[~train] @ normal.T).max(1)
            record_scores(results, "nearest", shots, seed, score, labels[~train])
    kinds = images["target"].to_numpy(dtype=str)
    for seed in options.seeds:
        train = train_mask(images, seed, None)
        scaled = (features - features[train].mean(0)) / (features[train].std(0) + 1e-6)
        model = LogisticRegression(C=1e-2, class_weight="balanced", max_iter=2000).fit(scaled[train], kinds[train])
        record_kinds(results, "linear", seed, model.predict(scaled[~train]), kinds[~train])


def frozen_features(options: argparse.Namespace, images: pd.DataFrame) -> np.ndarray:
    """Mean, deviation and maximum of three layers' channels over each image, (N, D); kept beside the results."""
    from src.models.features import FeatureExtractor

    path = options.out.with_name(f"{options.out.stem}_frozen_{options.frozen_size}.npy")
    if path.is_file():
        return np.load(path)
    extractor = FeatureExtractor(
        backbone=BACKBONE, layers=LAYERS, backbone_args={"pad_type": "same"}, weights=str(options.weights)
    )
    spec = spec_of(options.frozen_size)
    rows = []
    for batch in loader_of(images, spec):
        maps = [m.flatten(2).float() for m in extractor(spec.normalize(batch["image"]))]
        rows.append(torch.cat([p for m in maps for p in (m.mean(2), m.std(2, correction=0), m.amax(2))], 1))
        if len(rows) % 10 == 0:
            print(f"frozen features: {len(rows) * 16} of {len(images)} images", flush=True)
    features = torch.cat(rows).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, features)
    return features


def patchcore(options: argparse.Namespace, images: pd.DataFrame, results: Results) -> None:
    """Fitted once on the training normals; judged on the test of each draw."""
    from src.models.anomaly.patchcore import PatchCore

    path = options.out.with_name(f"{options.out.stem}_patchcore_{options.frozen_size}.npy")
    if not path.is_file():
        model = PatchCore(
            backbone=BACKBONE, layers=["blocks.1", "blocks.2", "blocks.4"], backbone_args={"pad_type": "same"},
            weights=str(options.weights), coreset_ratio=0.002, seed=0,
        )  # fmt: skip
        spec = spec_of(options.frozen_size)
        for batch in loader_of(images[images["split"] == "train"], spec):
            model.collect(spec.normalize(batch["image"]))
        model.finish()
        print("patchcore fitted", flush=True)
        test = loader_of(images[images["split"] == "test"], spec)
        np.save(path, torch.cat([model.eval()(spec.normalize(batch["image"])).score for batch in test]).numpy())
    scores = np.full(len(images), np.nan)
    scores[(images["split"] == "test").to_numpy()] = np.load(path)
    labels = images["label"].to_numpy(dtype=np.int64)
    for seed in options.seeds:
        for shots in options.shots:
            test = ~train_mask(images, seed, shots)
            record_scores(results, "patchcore", shots, seed, scores[test], labels[test])


def spec_of(size: int) -> Any:
    from src.data.transforms import PreprocessSpec

    return PreprocessSpec(size, size, **NORM)


def loader_of(images: pd.DataFrame, spec: Any) -> Any:
    from src.data.datamodule import DataModule

    data = DataModule(None, None, 0, spec, batch_size=16, num_workers=0, cache="ram")
    return data.infer_dataloader(images[["id", "path"]])


# -- the classifier -------------------------------------------------------------------------------------------------
def few_shot_classifier(
    options: argparse.Namespace, images: pd.DataFrame, results: Results, shots: int, seed: int
) -> None:
    name = f"few/classifier/{shots}/{seed}"
    if name in results.records:
        return
    train = train_mask(images, seed, shots)
    start = time.perf_counter()
    table = fit_and_predict(options, images, train, way=options.classes, steps=options.steps, seed=seed)
    scores = table.loc[images.loc[~train, "id"], "score"].to_numpy()
    labels = images["label"].to_numpy(dtype=np.int64)[~train]
    record_scores(results, "classifier", shots, seed, scores, labels, seconds=round(time.perf_counter() - start))


def six_classes(options: argparse.Namespace, images: pd.DataFrame, results: Results, seed: int) -> None:
    if f"kinds/classifier/{seed}" in results.records:
        return
    train = train_mask(images, seed, None)
    start = time.perf_counter()
    table = fit_and_predict(options, images, train, way="targets", steps=options.kinds_steps, seed=seed)
    chosen = table.loc[images.loc[~train, "id"], "class"].to_numpy(dtype=str)
    truth = images.loc[~train, "target"].to_numpy(dtype=str)
    record_kinds(results, "classifier", seed, chosen, truth, seconds=round(time.perf_counter() - start))


def fit_and_predict(
    options: argparse.Namespace, images: pd.DataFrame, train: np.ndarray, *, way: str, steps: int, seed: int
) -> pd.DataFrame:
    """Train the project's classifier task on the labelled rows; `score` and `class` of the others, by id."""
    import lightning.pytorch as pl

    from src.class_set import class_set, counts_of
    from src.data.datamodule import DataModule
    from src.data.training_choice import TrainingChoice
    from src.data.transforms import build_augmentation
    from src.tasks.callbacks import averaging
    from src.tasks.create import create_task

    pl.seed_everything(seed, verbose=False)
    config = compose([*RECIPE, f"model.image_size={options.size}", *options.overrides])
    model = {**config["model"], "weights": os.fspath(options.weights)}
    manifest = images.assign(split=np.where(train, "train", "test"))
    classes = class_set(manifest, way)
    counts = counts_of(classes, manifest[train])
    task, _ = create_task(
        model, monitor="auroc", weights_dir=Path("weights"), bundled=False, classes=classes, class_counts=counts
    )
    data = DataModule(
        manifest, pd.Series(-1, index=manifest.index), 0, task.preprocess,
        build_augmentation(config["augment"], task.preprocess), batch_size=16, num_workers=0, seed=seed, cache="ram",
        choice=TrainingChoice(classes=classes, balanced=model["sampling"] == "balanced"),
    )  # fmt: skip
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        gradient_clip_val=model["gradient_clip"], callbacks=averaging(model["ema"]),
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    task.eval()
    answers = trainer.predict(task, dataloaders=data.test_dataloader())
    ids = [name for batch in answers for name in batch.ids]
    probs = torch.cat([batch.probs for batch in answers])
    chosen = [classes.names[code] for code in probs.argmax(1).tolist()]
    return pd.DataFrame({"score": torch.cat([b.scores for b in answers]).numpy(), "class": chosen}, index=ids)


def compose(overrides: list[str]) -> dict[str, Any]:
    import hydra
    from omegaconf import OmegaConf

    from src.cli import CONF, expand_arguments

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", overrides=expand_arguments(overrides))
    return {name: OmegaConf.to_container(config[name], resolve=True) for name in ("model", "augment")}


# -- figures --------------------------------------------------------------------------------------------------------
def record_scores(
    results: Results, method: str, shots: int, seed: int, scores: np.ndarray, labels: np.ndarray, **more: Any
) -> None:
    figures = {"auroc": float(auroc(scores, labels)), "average_precision": float(average_precision(scores, labels))}
    results.add(f"few/{method}/{shots}/{seed}", figures | {"test": len(labels)} | more)


def record_kinds(
    results: Results, method: str, seed: int, chosen: np.ndarray, truth: np.ndarray, **more: Any
) -> None:
    each = {kind: float(f1(chosen == kind, truth == kind)) for kind in sorted(set(truth))}
    figures = {
        "macro_f1": float(macro_f1(chosen, truth)),
        "macro_f1_defects": float(np.mean([value for kind, value in each.items() if kind != "good"])),
        "accuracy": float(accuracy(chosen, truth)),
    }
    results.add(f"kinds/{method}/{seed}", figures | {"per_class": each, "test": len(truth)} | more)


def few_shot_table(results: Results) -> str:
    """Markdown: mean ± standard deviation over the seeds."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for name, record in results.records.items():
        part, *rest = name.split("/")
        if part == "few":
            found.setdefault((rest[0], int(rest[1])), []).append(record)
    lines = ["| method | k a kind | image AUROC | average precision | seeds |", "| --- | --- | --- | --- | --- |"]
    for (method, shots), records in sorted(found.items()):
        cells = [spread([r[key] for r in records]) for key in ("auroc", "average_precision")]
        lines.append(f"| {method} | {shots} | {cells[0]} | {cells[1]} | {len(records)} |")
    return "\n".join(lines)


def kinds_table(results: Results) -> str:
    """Markdown: mean ± standard deviation over the seeds, and the mean F1 of each class."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, record in results.records.items():
        if name.startswith("kinds/"):
            found.setdefault(name.split("/")[1], []).append(record)
    lines = [
        "| method | macro-F1, six classes | macro-F1, five kinds | accuracy | F1 of each class | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for method, records in sorted(found.items()):
        cells = [spread([r[key] for r in records]) for key in ("macro_f1", "macro_f1_defects", "accuracy")]
        kinds = records[0]["per_class"]
        each = ", ".join(f"{kind} {np.mean([r['per_class'][kind] for r in records]):.3f}" for kind in kinds)
        lines.append(f"| {method} | {' | '.join(cells)} | {each} | {len(records)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
