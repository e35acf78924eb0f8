"""One run from configuration to validated submission: folds, out-of-fold scores, threshold, test rows, report."""

import contextlib
import datetime
import functools
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from src.cli import flat_keys
from src.competition import Competition, load_competition
from src.errors import ProjectError
from src.runs import (
    RunFolder,
    config_hash,
    git_revision,
    hardware,
    in_repository,
    peak_memory,
    read_config,
    read_record,
    shown_path,
    versions,
    write_config,
    write_record,
)


@dataclass(frozen=True)
class RunResult:
    """What a finished run answers: its folder, the OOF value of the competition's metric, the submission's path."""

    run: RunFolder
    objective: float | None
    submission: Path | None


class Clock:
    """Seconds by phase, for run.json."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 2)


def train(config: dict[str, Any]) -> RunResult:
    """Run everything that a configuration asks for.

    Raises:
        ProjectError: any mistake in configuration or input; nothing half-written is left under a final name.
    """
    from src.metrics.registry import get_metric

    competition = load_competition(config["competition"], source=_competition_source(config))
    if competition.task != config["task"]:
        raise ProjectError(
            f"competition={competition.name} is for task={competition.task}, but task={config['task']} was asked for."
        )
    metric = get_metric(competition.metric)
    folds = _folds_to_run(config)
    RunFolder.refuse(in_repository(config["outputs"]), config["task"], config["run"], resume=config["resume"])
    if competition.bundled:
        from src.data.sample import ensure_sample

        ensure_sample(competition)
    from src.manifest import read_manifest, read_solution

    manifest = read_manifest(competition)
    solution = read_solution(competition)

    quiet_libraries()
    from src.evaluation import check_masks
    from src.tasks.create import check_model

    check_model(config["model"])
    check_masks(manifest)
    if solution is not None:
        test_paths = manifest.loc[manifest["split"] == "test", ["id", "path"]]
        check_masks(solution.merge(test_paths, on="id"))
    clock = Clock()
    with clock.phase("build"):
        task, weights = _create(config, competition)
    run = RunFolder.create(in_repository(config["outputs"]), config["task"], config["run"], resume=config["resume"])
    if config["resume"]:
        _refuse_other_config(run, config)
    else:
        write_config(run, config)
    print(f"run       {run.shown()}")
    loaded = [str(report) for report in task.loaded_weights]
    print(f"weights   {weights.source}")
    for report in loaded:
        print(f"          {report}")
    fold_of = _assign_folds(run, competition, manifest, config, one_class=task.one_class)

    from src.loggers import RunLoggers

    loggers = RunLoggers(config["logger"], run, config)
    try:
        broken = _run_folds(run, config, competition, manifest, fold_of, folds, task, loggers, clock)
        result = _conclude(
            run,
            config,
            competition,
            manifest,
            solution,
            metric,
            folds,
            broken,
            {**asdict(weights), "loaded": loaded},
            clock,
        )
        _send_summary(run, loggers, folds)
    except BaseException:
        loggers.close(failed=True)
        raise
    return result


def _competition_source(config: dict[str, Any]) -> Path:
    from src.cli import CONF

    return CONF / "competition" / f"{config['competition'].get('name', 'competition')}.yaml"


def _folds_to_run(config: dict[str, Any]) -> list[int]:
    count, fold = config["folds"], config["fold"]
    if not isinstance(count, int) or count < 1:
        raise ProjectError(f"folds={count!r}: give a whole number of at least 1.")
    if fold == "all":
        return list(range(count))
    if not isinstance(fold, int) or not 0 <= fold < count:
        raise ProjectError(f"fold={fold!r}: give all, or a number from 0 to {count - 1} (folds={count}).")
    return [fold]


def _create(config: dict[str, Any], competition: Competition) -> tuple[Any, Any]:
    import lightning.pytorch as pl

    from src.tasks.create import create_task

    pl.seed_everything(config["seed"], workers=True, verbose=False)
    return create_task(
        config["model"],
        monitor=competition.metric,
        weights_dir=in_repository(config["weights_dir"]),
        bundled=competition.bundled,
    )


def quiet_libraries() -> None:
    """Lightning's banners and hints say nothing about this run; errors and our own lines remain."""
    import logging
    import warnings

    import lightning.pytorch  # noqa: F401  its import sets these levels, so it comes first

    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "anomalib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(timm|anomalib)\..*")
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    warnings.filterwarnings("ignore", message=r".*The number of training batches .* is smaller than the logging.*")
    warnings.filterwarnings("ignore", message=r".*configure_optimizers.*returned.*None.*")
    warnings.filterwarnings("ignore", message=r".*module\(s\) in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=r".*Checkpoint directory .* exists and is not empty.*")


def _refuse_other_config(run: RunFolder, config: dict[str, Any]) -> None:
    """A run continues only under the configuration that it was started with."""
    kept = read_config(run)
    if config_hash(kept) == config_hash(config):
        return
    different = [
        key
        for key in dict.fromkeys(flat_keys(kept) + flat_keys(config))
        if _value(kept, key) != _value(config, key)
        and not isinstance(_value(config, key), dict)
        and key.split(".")[0] not in {"run", "resume", "outputs", "logger", "report"}
    ]
    listed = ", ".join(f"{k} ({_value(kept, k)!r} then, {_value(config, k)!r} now)" for k in different[:5])
    raise ProjectError(
        f"resume=true, but {run.shown()} was started with other settings: {listed}. "
        "Repeat the first command with resume=true added, or start a new run under another name."
    )


def _value(tree: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return None
        tree = tree[part]
    return tree


def _assign_folds(
    run: RunFolder, competition: Competition, manifest: pd.DataFrame, config: dict[str, Any], *, one_class: bool
) -> pd.Series:
    """The run's folds: read back on resume or from a given file, else drawn; always kept in the run."""
    from src.folds import assign_folds, read_folds, write_folds

    data = config["data"]
    kept = run.path / "folds.csv"
    if kept.is_file():
        return read_folds(kept, manifest)
    if data["folds_file"]:
        fold_of = read_folds(in_repository(data["folds_file"]), manifest)
    else:
        fold_of = assign_folds(
            manifest, n_folds=config["folds"], seed=config["seed"], holdout=data["holdout"], one_class=one_class
        )
    write_folds(kept, manifest, fold_of)
    if data["save_folds"]:
        write_folds(competition.root / "folds.csv", manifest, fold_of)
        print(f"folds     also written to {shown_path(competition.root / 'folds.csv')}")
    return fold_of


def _run_folds(
    run: RunFolder,
    config: dict[str, Any],
    competition: Competition,
    manifest: pd.DataFrame,
    fold_of: pd.Series,
    folds: list[int],
    task: Any,
    loggers: Any,
    clock: Clock,
) -> list[dict[str, str]]:
    """Train and predict every fold that is not finished yet; answers the images that could not be read."""
    from src.data.datamodule import DataModule
    from src.data.transforms import build_augmentation
    from src.fold_run import FoldRun

    settings = config["data"]
    data = DataModule(
        manifest,
        fold_of,
        folds[0],
        task.preprocess,
        augment=build_augmentation(config["augment"], task.preprocess),
        batch_size=settings["batch_size"],
        num_workers=settings["num_workers"],
        seed=config["seed"],
        cache=settings["cache"],
        cache_dir=in_repository(config["outputs"]) / ".cache",
        verify=settings["verify"],
        one_class=task.one_class,
        with_masks=not task.one_class,
    )
    with clock.phase("read images"):
        data.setup()
    for position, fold in enumerate(folds):
        part = FoldRun(run, fold, config, competition, loggers, clock)
        label = f"fold {fold + 1} of {config['folds']}"
        if part.is_finished():
            print(f"{label} was finished before; kept")
            continue
        if config["folds"] > 1:
            print(label)
        if position:
            task, _ = _create(config, competition)  # a fold never starts from another fold's weights
        data.use_fold(fold)
        part.execute(task, data)
        loggers.finish_fold(last=len(folds) == 1)
    return [{"id": b.id, "path": str(b.path), "reason": b.reason, "split": b.split} for b in data.broken]


def _conclude(
    run: RunFolder,
    config: dict[str, Any],
    competition: Competition,
    manifest: pd.DataFrame,
    solution: pd.DataFrame | None,
    metric: Any,
    folds: list[int],
    broken: list[dict[str, str]],
    weights: dict[str, Any],
    clock: Clock,
) -> RunResult:
    """Merge the folds' predictions, tune, evaluate, submit, grade, report, and print the closing lines."""
    from src.ensemble import average_folds
    from src.evaluation import choose_threshold, evaluate
    from src.manifest import data_hash
    from src.predictions import read_predictions, write_predictions
    from src.tasks.anomaly import load_task

    predictions = run.predictions
    oof = pd.concat([read_predictions(run.fold(k) / "oof.parquet", "anomaly") for k in folds], ignore_index=True)
    task = load_task(run.fold(folds[0]) / "best.ckpt")
    spec = task.preprocess
    test = average_folds([read_predictions(run.fold(k) / "test.parquet", "anomaly") for k in folds], predictions)
    train_rows = manifest[manifest["split"] == "train"]
    with clock.phase("evaluate"):
        threshold = choose_threshold(oof, train_rows, competition.metric, config["threshold"]["target_false_alarm"])
        cut = threshold.value if threshold else None
        figures = functools.partial(evaluate, metric=metric.name, threshold=cut, folder=predictions, spec=spec)
        oof_figures = figures(oof, train_rows)
        fold_figures = [{"fold": k, **figures(oof[oof["fold"] == k], train_rows)} for k in folds]
        test = _fill_broken(test, oof, manifest, broken)
        metadata = {"task": "anomaly", "run": run.path.name}
        write_predictions(predictions / "oof.parquet", oof, "anomaly", metadata)
        write_predictions(predictions / "test.parquet", test, "anomaly", metadata)
        graded = figures(test, solution) if solution is not None else None
    metrics = {
        "metric": {"name": metric.name, "value": oof_figures.get("metric"), "mode": metric.mode},
        "oof": oof_figures,
        "folds": fold_figures,
        "threshold": threshold.to_dict() if threshold else None,
        "graded": graded,
    }
    write_record(run.path / "metrics.json", metrics)
    record = {
        "task": config["task"],
        "competition": competition.name,
        "model": config["model"].get("name"),
        "config_hash": config_hash(config),
        "data_hash": data_hash(manifest),
        "seed": config["seed"],
        "git": git_revision(),
        "versions": versions(),
        "hardware": hardware(),
        "weights": weights,
        "network": dict(task.hparams.get("network", {})),
        "preprocess": spec.to_dict(),
        "finished": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": clock.seconds,
        "peak_memory": peak_memory(),
        "broken_images": broken,
    }
    write_record(run.path / "run.json", record)

    made: dict[str, Any] | None = None
    if config["submission"]:
        from src.submission.build import submit

        with clock.phase("submit"):
            made = submit(
                [run],
                competition,
                manifest,
                run.path / "submission.csv",
                ledger=in_repository(config["outputs"]) / "ledger.csv",
            )
        record["submission"] = {"path": shown_path(made["path"]), "valid": True, "warnings": made["warnings"]}
    if config["report"]:
        from src.report import build_report

        with clock.phase("report"):
            build_report(
                run.path, competition=competition, manifest=manifest, oof=oof, test=test, solution=solution,
                metrics=read_record(run.path / "metrics.json"), record=record, broken=broken,
            )  # fmt: skip
    record["seconds"] = clock.seconds
    write_record(run.path / "run.json", record)
    _print_closing(run, metrics, broken, made, report=config["report"])
    return RunResult(run, oof_figures.get("metric"), made["path"] if made else None)


def _fill_broken(
    test: pd.DataFrame, oof: pd.DataFrame, manifest: pd.DataFrame, broken: list[dict[str, str]]
) -> pd.DataFrame:
    """Give each unreadable test image the median training score: a submission needs every row."""
    missing = [image["id"] for image in broken if image["split"] == "test"]
    if not missing:
        return test
    basis = oof["score"] if len(oof) else test["score"]
    rows = pd.DataFrame({"id": missing, "fold": -1, "score": float(basis.median()), "probs": None, "map": None})
    print(
        f"WARNING   {len(missing)} test image(s) could not be read and got the "
        f"{'training' if len(oof) else 'test'} median score {basis.median():.4g}: {', '.join(missing[:5])}"
    )
    return pd.concat([test, rows], ignore_index=True)


def _send_summary(run: RunFolder, loggers: Any, folds: list[int]) -> None:
    from src.predictions import read_predictions

    metrics = read_record(run.path / "metrics.json")
    table = read_predictions(run.predictions / "oof.parquet", "anomaly")
    loggers.summarize(metrics, table, [run.fold(k) / "best.ckpt" for k in folds])


def _print_closing(
    run: RunFolder,
    metrics: dict[str, Any],
    broken: list[dict[str, str]],
    submission: dict[str, Any] | None,
    *,
    report: bool,
) -> None:
    """The last lines: what was set aside, the run, the OOF metric, the graded score, the submission."""
    for image in broken[:5]:
        print(f"set aside {image['split']} image {image['id']}: {image['reason']}")
    if len(broken) > 5:
        print(f"set aside {len(broken) - 5} more unreadable images; all are listed in the report")
    name, value = metrics["metric"]["name"], metrics["metric"]["value"]
    threshold = metrics["threshold"]
    print(f"run       {run.shown()}")
    if report:
        print(f"report    {run.shown()}/report.html")
    if value is not None:
        print(f"OOF       {name} {value:.4f}")
    else:
        print(f"OOF       {name} undefined: no labelled defect among the held-out rows")
    if threshold:
        how = "tuned on OOF" if threshold["source"] == "oof" else "from held-out normal scores"
        print(f"threshold {threshold['value']:.6g} ({how})")
    if metrics["graded"] and metrics["graded"].get("metric") is not None:
        print(f"graded    {name} {metrics['graded']['metric']:.4f} (on the solution)")
    if submission:
        for warning in submission["warnings"]:
            print(f"warning   {warning}")
        print(f"submission {shown_path(submission['path'])} (valid)")
