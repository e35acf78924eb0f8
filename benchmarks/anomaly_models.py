"""Every kind of anomaly model on the bundled sample, then a blend: quality, time and memory in one table.

python benchmarks/anomaly_models.py                      all models; finished runs are kept, so it resumes
python benchmarks/anomaly_models.py models=padim,vae outputs=outputs/benchmark

Each model is one `python train.py` in a process of its own, so that time and peak memory are its alone. Most are
cross-validated over 3 folds: each training picture gets an out-of-fold score, each defect too, and fitting takes three
times as long. Those of normal pictures that train for minutes hold out a fifth of these, which are of windows never
seen, and all 20 labelled defects: a harder comparison, so their out-of-fold value is lower. The blend is of the three
runs with the best out-of-fold value, chosen and weighted without a look at the test.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

BLENDED = 3
SUPERVISED = ("augment=classify", "folds=3")
# model → further overrides: smaller pictures and fewer epochs than the presets where a processor would take hours
MODELS: dict[str, tuple[str, ...]] = {
    "patchcore": ("folds=3",),
    "padim": ("folds=3",),
    "cfa": ("trainer.max_epochs=4", "model.image_size=128"),
    "fastflow": ("trainer.max_epochs=10", "model.image_size=128"),
    "metric": ("folds=3",),
    "metric_prototype": ("folds=3",),
    "arcface": (*SUPERVISED, "trainer.max_epochs=8"),
    "supcon": (*SUPERVISED, "trainer.max_epochs=8", "data.batch_size=64"),
    "classifier": (*SUPERVISED, "trainer.max_epochs=10", "model.image_size=192"),
    "resnet": (
        *SUPERVISED, "model.backbone=resnet10t", "model.weights=random", "model.image_size=128",
        "trainer.max_epochs=10",
    ),
    "autoencoder": (),
    "vae": (),
    "diffusion": (),
}  # fmt: skip


def train(model: str, overrides: tuple[str, ...], *, outputs: str) -> Path:
    """The folder of a finished run, trained unless it is there."""
    folder = REPOSITORY / outputs / "anomaly" / model
    if (folder / "report.html").is_file():
        return folder
    arguments = [
        "task=anomaly", f"model={model}", f"run={model}", f"outputs={outputs}", "logger=csv", *overrides,
        *(["resume=true"] if folder.is_dir() else []),
    ]  # fmt: skip
    print(f"python train.py {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "train.py", *arguments], cwd=REPOSITORY, check=False)
    if done.returncode:
        raise SystemExit(f"{model} failed (status {done.returncode}); run again to go on")
    return folder


def row_of(folder: Path) -> dict[str, Any]:
    """The figures of a run."""
    metrics, record = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("metrics", "run"))
    graded, seconds = metrics["graded"] or {}, record["seconds"]
    return {
        "model": folder.name,
        "folds": len(metrics["folds"]),
        "oof": metrics["metric"]["value"],
        "graded": graded.get("metric"),
        "f1": graded.get("f1"),
        "pixel": graded.get("pixel_auroc"),
        "fit": seconds.get("fit", 0.0),
        "predict": seconds.get("predict", 0.0),
        "memory": (record["peak_memory"] or {}).get("process_gib"),
    }


def shown(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    unknown = set(given) - {"models", "outputs"}
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}. Known: models=a,b outputs=outputs/benchmark")
    chosen = given.get("models", ",".join(MODELS)).split(",")
    outputs = given.get("outputs", "outputs/benchmark")
    folders = [train(model, MODELS[model], outputs=outputs) for model in chosen]
    rows = sorted((row_of(folder) for folder in folders), key=lambda row: row["oof"] or 0.0, reverse=True)
    print("\n| model | folds | AUROC OOF | AUROC test | F1 test | pixel AUROC test | fit s | predict s | peak GiB |")
    print("| --- " * 9 + "|")
    for row in rows:
        cells = [str(row["folds"]), *(shown(row[key]) for key in ("oof", "graded", "f1", "pixel"))]
        cells += [shown(row["fit"], 0), shown(row["predict"], 0), shown(row["memory"], 2)]
        print(f"| {row['model']} | {' | '.join(cells)} |")
    best = [f"{outputs}/anomaly/{row['model']}" for row in rows[:BLENDED]]
    if len(best) > 1:
        command = [f"runs=[{','.join(best)}]", f"outputs={outputs}"]
        print(f"\npython make_submission.py '{command[0]}' {command[1]}", flush=True)
        subprocess.run([sys.executable, "make_submission.py", *command], cwd=REPOSITORY, check=True)


if __name__ == "__main__":
    main()
