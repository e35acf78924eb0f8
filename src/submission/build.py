"""From runs to a leaderboard file: tune on OOF, blend, format, validate, grade, enter in the ledger; and `check`."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.competition import Competition, available_competitions, from_config
from src.errors import ProjectError
from src.flows import flow_of
from src.metrics.registry import get_metric
from src.runs import RunFolder, in_repository, open_run, read_config, read_record, shown_path
from src.submission.formats import FORMATS, write_submission
from src.submission.grade import grade
from src.submission.ledger import append_entry
from src.submission.validate import InvalidSubmission, check_submission, vocabulary

if TYPE_CHECKING:
    import pandas as pd


def submit(
    runs: Sequence[RunFolder],
    competition: Competition,
    manifest: "pd.DataFrame",
    target: Path,
    *,
    ledger: Path,
    method: str | None = None,
    weights: Sequence[float] | None = None,
    target_false_alarm: float = 0.01,
) -> dict[str, Any]:
    """Write one validated submission from one or several runs and enter it in the ledger.

    Returns:
        `path`, `prepared` (`src.flows.base.Prepared`), `oof` and `graded` (values of the competition's metric, or
        None), `warnings`.

    Raises:
        ProjectError: runs of other rows, predictions missing, or a file that the validator refuses.
    """
    prepared = flow_of(competition.task).prepare(
        runs, competition, manifest, method=method, weights=weights, target_false_alarm=target_false_alarm
    )
    write_submission(
        target, prepared.ids, prepared.values, competition, threshold=prepared.threshold, **vocabulary(manifest)
    )
    try:
        warnings = check_submission(target, competition, manifest)
    except InvalidSubmission:
        target.replace(_refused(target, suffix_of(competition)))  # a file of the final name is a valid one
        raise
    panel = grade(target, competition, manifest)
    result = {
        "path": target,
        "prepared": prepared,
        "oof": prepared.oof,
        "graded": panel["metric"] if panel else None,
        "warnings": warnings,
    }
    append_entry(
        ledger,
        {
            "task": competition.task,
            "competition": competition.name,
            "runs": [run.path.name for run in runs],
            "file": shown_path(target),
            "config_hash": " ".join(read_record(run.path / "run.json")["config_hash"][:10] for run in runs),
            "metric": get_metric(competition.metric).name,
            "oof": result["oof"],
            "graded": result["graded"],
        },
    )
    return result


def suffix_of(competition: Competition) -> str:
    """How a submission's file name ends."""
    return FORMATS[competition.submission.format].file_suffix(competition.submission)


def make(config: dict[str, Any]) -> dict[str, Any]:
    """`python make_submission.py runs=[…]`: submit the runs that a configuration names, and say what came out."""
    from src.manifest import read_manifest

    if not config["runs"]:
        raise ProjectError(
            "nothing to do: name run folders (runs=[outputs/anomaly/a,outputs/anomaly/b]) or a file (check=my.csv)."
        )
    runs = [open_run(path) for path in config["runs"]]
    competition = _competition_of(runs)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    outputs = in_repository(config["outputs"])
    named = outputs / competition.task / "submissions" / f"{stamp}{suffix_of(competition)}"
    target = in_repository(config["out"] or named)
    result = submit(
        runs,
        competition,
        read_manifest(competition),
        target,
        ledger=outputs / "ledger.csv",
        method=config["blend"],
        weights=config["weights"],
        target_false_alarm=config["threshold"]["target_false_alarm"],
    )
    name = get_metric(competition.metric).name
    for warning in result["warnings"]:
        print(f"warning   {warning}")
    for run in runs:
        value = read_record(run.path / "metrics.json")["metric"]["value"]
        print(f"run       {run.shown()}  OOF {name} {_shown(value)}")
    print(f"OOF       {name} {_shown(result['oof'])}{' (blend)' if len(runs) > 1 else ''}")
    for label, text in result["prepared"].notes:
        print(f"{label:<9} {text}")
    if result["graded"] is not None:
        print(f"graded    {name} {result['graded']:.4f} (on the solution)")
    print(f"ledger    {shown_path(outputs / 'ledger.csv')}")
    print(f"submission {shown_path(target)} (valid)")
    return result


def check(config: dict[str, Any]) -> None:
    """`python make_submission.py check=my.csv competition=…`: validate a file, and grade it where that is possible."""
    from src.manifest import read_manifest

    if not config.get("competition"):
        known = ", ".join(available_competitions())
        raise ProjectError(f"check= needs the competition that the file is for: competition=<name>, one of {known}.")
    competition = from_config(config["competition"])
    if competition.bundled:
        from src.data.sample import ensure_sample

        ensure_sample(competition)
    path = Path(config["check"]).expanduser()
    manifest = read_manifest(competition)
    warnings = check_submission(path, competition, manifest)
    for warning in warnings:
        print(f"warning   {warning}")
    panel = grade(path, competition, manifest)
    print(f"valid     {path}")
    if panel is None:
        print("graded    no: this competition has no solution here")
        return
    print(f"graded    {panel['name']} {_shown(panel['metric'])}")
    for name, value in panel.items():
        if name not in {"name", "mode", "metric", panel["name"]} and isinstance(value, (int, float)):
            print(f"  {name:<20} {value:.4f}" if isinstance(value, float) else f"  {name:<20} {value}")


def _competition_of(runs: Sequence[RunFolder]) -> Competition:
    specs = [read_config(run)["competition"] for run in runs]
    for run, spec in zip(runs, specs, strict=True):
        if spec != specs[0]:
            raise ProjectError(
                f"{shown_path(run.path)} was trained for another competition or other settings of it "
                f"({spec['name']}) than {shown_path(runs[0].path)} ({specs[0]['name']}): they cannot be blended."
            )
    return from_config(specs[0])


def _refused(target: Path, suffix: str) -> Path:
    """What a file that the validator refuses is called: `.refused` before the suffix, which may be ".tar.gz"."""
    if target.name.endswith(suffix):
        return target.with_name(f"{target.name.removesuffix(suffix)}.refused{suffix}")
    return target.with_suffix(f".refused{target.suffix}")


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
