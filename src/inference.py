"""Predict images with a trained run; everything needed comes from its checkpoints and its record."""

from pathlib import Path
from typing import Any

import pandas as pd

from src.errors import ProjectError
from src.flows import flow_of
from src.runs import RunFolder, in_repository, open_run, read_config, read_record, shown_path

TABLE_PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path", "img")


def infer(config: dict[str, Any]) -> Path:
    """Predict `images` with the run's folds, averaged, and write the answers.

    Unreadable images keep their row (see the task's `fill_unread`), and `read_error` says why.

    Returns:
        The folder with predictions.csv, predictions.parquet, maps/ and heatmaps/.
    """
    run = open_run(config["run"])
    settings = read_config(run)
    read_record(run.path / "metrics.json")  # a run that did not finish is refused here
    rows, name = _rows(config["images"], settings)
    out = in_repository(config["out"]) if config["out"] else run.path / "infer" / name
    out.mkdir(parents=True, exist_ok=True)
    flow = flow_of(settings["task"])
    folds = _folds_of(run, config["fold"])
    frames, broken = _predict_folds(run, folds, rows, config, settings, out)
    from src.predictions import read_predictions, write_predictions

    stored = read_predictions(run.predictions / "oof.parquet", flow.task)
    unread = [image["id"] for image in broken]
    if unread and not len(stored) and not any(map(len, frames)):
        raise ProjectError(f"none of the {len(rows)} images could be read; the first: {broken[0]['reason']}")
    frame = flow.merge_test(flow.resettle(frames, rows, run, out, folds=folds), out)
    frame = flow.fill_unread(frame, unread, stored, None).set_index("id").loc[rows["id"]].reset_index()
    if not config["maps"] and "map" in frame:
        frame = frame.assign(map=None)
    kept = {k: v for k, v in stored.attrs["metadata"].items() if k not in ("task", "version")}
    write_predictions(out / "predictions.parquet", frame, flow.task, kept)
    table, remark = flow.answer(frame, rows, run=run, config=config, out=out)
    table["read_error"] = table["id"].map({image["id"]: image["reason"] for image in broken}).fillna("")
    write_table(out / "predictions.csv", table)
    for image in broken[:5]:
        print(f"WARNING   {image['id']} could not be read: {image['reason']}")
    print(f"images    {len(table)}{remark}")
    print(f"written   {shown_path(out / 'predictions.csv')}")
    return out


def _rows(images: str | None, settings: dict[str, Any]) -> tuple[pd.DataFrame, str]:
    """Rows to predict as `id`, `path` and, where it is known of the images, `category`; a name for the folder."""
    if images is None:
        from src.competition import from_config
        from src.manifest import read_manifest

        manifest = read_manifest(from_config(settings["competition"]))
        tested = manifest[manifest["split"] == "test"].reset_index(drop=True)
        told = "category" in tested and tested["category"].notna().any()
        return tested[["id", "path", *(["category"] if told else [])]], "test"
    path = Path(images).expanduser()
    if path.is_file() and path.suffix.lower() in {".csv", ".tsv"}:
        category = settings["competition"]["data"].get("category") or "category"
        return _table_rows(path, category if settings["task"] == "anomaly" else None), path.stem
    from src.listing import IMAGE_SUFFIXES, Tree, is_image

    if path.is_dir():
        base, found = path, list(Tree(path).images())
    else:
        base, files = (path.parent, [path]) if path.is_file() else _glob(str(path))
        found = [(p.relative_to(base).as_posix(), str(p.resolve())) for p in files if is_image(p.name)]
    if not found:
        raise ProjectError(
            f"images={images}: no image there. Give a folder, a quoted glob pattern, an image or a CSV; "
            f"known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))} in either case."
        )
    return pd.DataFrame(found, columns=["id", "path"]), base.resolve().name or "images"


def _glob(pattern: str) -> tuple[Path, list[Path]]:
    import glob

    fixed = Path(*_before_magic(Path(pattern).parts))
    return fixed, sorted(Path(p) for p in glob.glob(pattern, recursive=True) if Path(p).is_file())  # noqa: PTH207


def _before_magic(parts: tuple[str, ...]) -> list[str]:
    import glob

    kept: list[str] = []
    for part in parts:
        if glob.has_magic(part):
            break
        kept.append(part)
    return kept or ["."]


def _table_rows(path: Path, category: str | None) -> pd.DataFrame:
    """Rows of a table; `category` is the column of categories, which it need not have."""
    from src.tables import read_table

    table = read_table(path)
    column = next((c for c in TABLE_PATH_COLUMNS if c in table), None)
    if column is None:
        raise ProjectError(
            f"{path} has no path column. Name one of its columns {', '.join(TABLE_PATH_COLUMNS[:4])} "
            f"(it has: {', '.join(table.columns)}); paths are relative to the CSV's folder or absolute."
        )
    ids = table["id"] if "id" in table else table[column]
    if ids.duplicated().any():
        raise ProjectError(f"{path}: id {ids[ids.duplicated()].iloc[0]!r} stands twice. Ids must be unique.")
    paths = [str((path.parent / p).resolve()) for p in table[column]]
    missing = [p for p in paths if not Path(p).is_file()]
    if missing:
        raise ProjectError(f"{path}: {len(missing)} of {len(paths)} files are missing, the first: {missing[0]}")
    rows = pd.DataFrame({"id": ids.astype(str), "path": paths})
    if category in table:
        rows["category"] = pd.Series([cell or None for cell in table[category]], index=rows.index, dtype=object)
    return rows


def _folds_of(run: RunFolder, wanted: int | str) -> list[int]:
    """The folds to predict with: all that have a checkpoint, or the one asked for."""
    available = sorted(int(path.parent.name.removeprefix("fold_")) for path in run.path.glob("fold_*/best.ckpt"))
    folds = available if wanted == "all" else [wanted]
    if not set(folds) <= set(available) or not folds:
        raise ProjectError(f"fold={wanted}: {shown_path(run.path)} has checkpoints of folds {available}.")
    return folds


def _predict_folds(
    run: RunFolder,
    folds: list[int],
    rows: pd.DataFrame,
    config: dict[str, Any],
    settings: dict[str, Any],
    out: Path,
) -> tuple[list[pd.DataFrame], list[dict[str, str]]]:
    """One frame a fold; the images that could not be read."""
    from src.data.datamodule import DataModule
    from src.fold_run import predict_rows
    from src.tasks.load import load_task
    from src.training import quiet_libraries

    quiet_libraries()
    decoding = {key: value for key, value in config["decoding"].items() if value is not None}
    if decoding and settings["task"] != "caption":
        raise ProjectError(f"decoding.{min(decoding)} is for captions, and this run's task is {settings['task']}.")
    settings = {**settings, "trainer": {**settings["trainer"], "accelerator": config["accelerator"]}}
    frames, broken = [], {}
    loader, spec = None, None
    for fold in folds:
        task = load_task(run.fold(fold) / "best.ckpt")
        if decoding:
            task.decode_otherwise(decoding)
        if task.preprocess != spec:  # the folds of a run agree, so the pictures are read once
            data = DataModule(
                None,
                None,
                fold,
                task.preprocess,
                batch_size=config["batch_size"],
                num_workers=config["num_workers"],
                **getattr(task, "samples", {}),
            )
            loader, spec = task.wrap_datamodule(data).infer_dataloader(rows), task.preprocess
            broken = {b.id: {"id": b.id, "reason": b.reason} for b in data.broken}
        frames.append(predict_rows(task, loader, config=settings, folder=out, prefix=f"fold_{fold}", fold=-1))
    return frames, list(broken.values())


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A CSV for people: with the mark that makes Excel read Korean right."""
    from src.atomic import atomic_path

    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, encoding="utf-8-sig")
