"""The end of a run: merge the folds, tune, evaluate, submit, grade, report, log, and print the closing lines."""

import datetime
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from src.ensemble import average_folds
from src.evaluation import choose_threshold, evaluate
from src.job import Job
from src.manifest import data_hash
from src.metrics.registry import get_metric
from src.predictions import read_predictions, with_median_rows, write_predictions
from src.runs import (
    RunFolder,
    config_hash,
    git_revision,
    hardware,
    in_repository,
    peak_memory,
    read_record,
    shown_path,
    versions,
    write_record,
)
from src.tasks.anomaly import load_task


@dataclass(frozen=True)
class RunResult:
    """What a finished run answers: its folder, the OOF value of the competition's metric, the submission's path."""

    run: RunFolder
    objective: float | None
    submission: Path | None


def conclude(job: Job, broken: list[dict[str, str]], weights: dict[str, Any]) -> RunResult:
    """Everything after the last fold.

    Args:
        broken: unreadable images as {id, path, reason, split}.
        weights: what run.json keeps of the pretrained weights.
    """
    run, config, clock = job.run, job.config, job.clock
    oof, test = merge_folds(job, broken)
    task = load_task(run.fold(job.folds[0]) / "best.ckpt")
    with clock.phase("evaluate"):
        metrics = _metrics(job, oof, test, task.preprocess)
    write_record(run.path / "metrics.json", metrics)
    record = _record(job, task, weights, broken)
    write_record(run.path / "run.json", record)

    made = None
    if config["submission"]:
        from src.submission.build import submit

        with clock.phase("submit"):
            ledger = in_repository(config["outputs"]) / "ledger.csv"
            made = submit([run], job.competition, job.manifest, run.path / "submission.csv", ledger=ledger)
        record["submission"] = {"path": shown_path(made["path"]), "valid": True, "warnings": made["warnings"]}
    if config["report"]:
        from src.report import build_report

        with clock.phase("report"):
            build_report(
                run.path,
                competition=job.competition,
                manifest=job.manifest,
                oof=oof,
                test=test,
                solution=job.solution,
                metrics=read_record(run.path / "metrics.json"),
                record=record,
                broken=broken,
            )
    write_record(run.path / "run.json", {**record, "seconds": clock.seconds})
    job.loggers.summarize(metrics, oof, [run.fold(k) / "best.ckpt" for k in job.folds])
    _print_closing(run, metrics, broken, made, report=config["report"])
    return RunResult(run, metrics["metric"]["value"], made["path"] if made else None)


def merge_folds(job: Job, broken: list[dict[str, str]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write and answer the run's OOF rows and its test rows averaged over folds, unreadable test images filled."""
    folder = job.run.predictions
    parts = {
        name: [read_predictions(job.run.fold(k) / f"{name}.parquet", "anomaly") for k in job.folds]
        for name in ("oof", "test")
    }
    oof = pd.concat(parts["oof"], ignore_index=True)
    test = _fill_broken(average_folds(parts["test"], folder), oof, broken)
    metadata = {"task": "anomaly", "run": job.run.path.name}
    write_predictions(folder / "oof.parquet", oof, "anomaly", metadata)
    write_predictions(folder / "test.parquet", test, "anomaly", metadata)
    return oof, test


def _fill_broken(test: pd.DataFrame, oof: pd.DataFrame, broken: list[dict[str, str]]) -> pd.DataFrame:
    """Give each unreadable test image the median out-of-fold score: a submission needs every row.

    Where no row was held out there is no such score, and the median of the other test rows stands in, said aloud.
    """
    missing = [image["id"] for image in broken if image["split"] == "test"]
    if not missing:
        return test
    filled = with_median_rows(test, missing, oof)
    print(
        f"WARNING   {len(missing)} test image(s) could not be read and got the "
        f"{'training' if len(oof) else 'test'} median score {filled['score'].iloc[-1]:.4g}: {', '.join(missing[:5])}"
    )
    return filled


def _metrics(job: Job, oof: pd.DataFrame, test: pd.DataFrame, spec: Any) -> dict[str, Any]:
    """The content of metrics.json."""
    metric = get_metric(job.competition.metric)
    target = job.config["threshold"]["target_false_alarm"]
    threshold = choose_threshold(oof, job.train_rows, metric.name, target)
    figures = functools.partial(
        evaluate,
        metric=metric.name,
        threshold=threshold.value if threshold else None,
        folder=job.run.predictions,
        spec=spec,
    )
    whole = figures(oof, job.train_rows)
    return {
        "metric": {"name": metric.name, "value": whole.get("metric"), "mode": metric.mode},
        "oof": whole,
        "folds": [{"fold": k, **figures(oof[oof["fold"] == k], job.train_rows)} for k in job.folds],
        "threshold": threshold.to_dict() if threshold else None,
        "graded": figures(test, job.solution) if job.solution is not None else None,
    }


def _record(job: Job, task: Any, weights: dict[str, Any], broken: list[dict[str, str]]) -> dict[str, Any]:
    """The content of run.json."""
    return {
        "task": job.config["task"],
        "competition": job.competition.name,
        "model": job.config["model"].get("name"),
        "config_hash": config_hash(job.config),
        "data_hash": data_hash(job.manifest),
        "seed": job.config["seed"],
        "git": git_revision(),
        "versions": versions(),
        "hardware": hardware(),
        "weights": weights,
        "network": dict(task.hparams.get("network", {})),
        "preprocess": task.preprocess.to_dict(),
        "finished": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": job.clock.seconds,
        "peak_memory": peak_memory(),
        "broken_images": broken,
    }


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
