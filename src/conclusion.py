"""The end of a run: merge the folds, tune, evaluate, submit, grade, report, log, and print the closing lines."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from src.flows import flow_of
from src.job import Job
from src.manifest import data_hash
from src.predictions import read_predictions, write_predictions
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
from src.tasks.load import load_task


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
    flow = flow_of(config["task"])
    oof, test, settled = merge_folds(job, broken)
    task = load_task(run.fold(job.folds[0]) / "best.ckpt")
    with clock.phase("evaluate"):
        metrics = {**flow.measure(job, oof, test, task.preprocess), **settled}
    write_record(run.path / "metrics.json", metrics)
    record = _record(job, task, weights, broken)
    write_record(run.path / "run.json", record)

    made = None
    if config["submission"]:
        from src.submission.build import submit, suffix_of

        with clock.phase("submit"):
            ledger = in_repository(config["outputs"]) / "ledger.csv"
            target = run.path / f"submission{suffix_of(job.competition)}"
            made = submit([run], job.competition, job.manifest, target, ledger=ledger)
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
    _print_closing(run, flow.closing(metrics), broken, made, report=config["report"])
    return RunResult(run, metrics["metric"]["value"], made["path"] if made else None)


def merge_folds(job: Job, broken: list[dict[str, str]]) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Write and answer the run's OOF rows and its test rows averaged over folds, unreadable test images filled.

    Third, what the task has settled about their scores (`Flow.settle`), for metrics.json.
    """
    flow, folder = flow_of(job.config["task"]), job.run.predictions
    parts = {
        name: [read_predictions(job.run.fold(k) / f"{name}.parquet", flow.task) for k in job.folds]
        for name in ("oof", "test")
    }
    oof, tests, settled = flow.settle(job, pd.concat(parts["oof"], ignore_index=True), parts["test"])
    unread = [image["id"] for image in broken if image["split"] == "test"]
    test = flow.fill_unread(flow.merge_test(tests, folder), unread, oof, job.manifest)
    metadata = {"run": job.run.path.name, **flow.metadata(job.config, job.manifest)}
    write_predictions(folder / "oof.parquet", oof, flow.task, metadata)
    write_predictions(folder / "test.parquet", test, flow.task, metadata)
    return oof, test, settled


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
        "network": _shortened(task.hparams.get("network", {})),
        "preprocess": task.preprocess.to_dict(),
        "finished": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": job.clock.seconds,
        "peak_memory": peak_memory(),
        "broken_images": broken,
        **{
            name: list(job.manifest.attrs[name])
            for name in ("box_reports", "caption_reports")
            if name in job.manifest.attrs
        },
    }


def _shortened(options: Any) -> Any:
    """Options for people to read: long texts (a tokenizer's JSON, a processor's files) by their length alone."""
    if isinstance(options, dict):
        return {key: _shortened(value) for key, value in options.items()}
    return f"({len(options)} characters)" if isinstance(options, str) and len(options) > 500 else options


def _print_closing(
    run: RunFolder,
    lines: list[tuple[str, str]],
    broken: list[dict[str, str]],
    submission: dict[str, Any] | None,
    *,
    report: bool,
) -> None:
    """The last lines: what was set aside, the run, the task's own (OOF metric, graded score), the submission."""
    for image in broken[:5]:
        print(f"set aside {image['split']} image {image['id']}: {image['reason']}")
    if len(broken) > 5:
        print(f"set aside {len(broken) - 5} more unreadable images; all are listed in the report")
    print(f"run       {run.shown()}")
    if report:
        print(f"report    {run.shown()}/report.html")
    for label, text in lines:
        print(f"{label:<9} {text}")
    if submission:
        for warning in submission["warnings"]:
            print(f"warning   {warning}")
        print(f"submission {shown_path(submission['path'])} (valid)")
