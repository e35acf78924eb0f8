"""From runs to a leaderboard file: tune on OOF, blend, format, validate, grade, enter in the ledger; and `check`."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.calibration import Threshold, tune_on_oof
from src.competition import Competition, available_competitions, from_config
from src.ensemble import blend_anomaly
from src.errors import ProjectError
from src.metrics.registry import get_metric
from src.predictions import read_predictions
from src.runs import RunFolder, in_repository, open_run, read_config, read_record, shown_path
from src.submission.formats import write_submission
from src.submission.grade import grade
from src.submission.ledger import append_entry
from src.submission.validate import InvalidSubmission, check_submission

if TYPE_CHECKING:
    import pandas as pd


def submit(
    runs: Sequence[RunFolder],
    competition: Competition,
    manifest: "pd.DataFrame",
    target: Path,
    *,
    ledger: Path,
    method: str = "rank",
    weights: Sequence[float] | None = None,
    target_false_alarm: float = 0.01,
) -> dict[str, Any]:
    """Write one validated submission from one or several runs and enter it in the ledger.

    One run keeps its own scores and threshold. Several are put on one scale by their own OOF distributions, blended,
    and the threshold is tuned on the blended OOF rows; no test statistic takes part.

    Returns:
        `path`, `threshold` (or None), `oof` and `graded` (values of the competition's metric, or None), `warnings`.

    Raises:
        ProjectError: runs of other rows, predictions missing, or a file that the validator refuses.
    """
    oof, test = blended(runs, method=method, weights=weights)
    labels = manifest[manifest["split"] == "train"].set_index("id")["label"]
    threshold = tuned(runs, oof, labels, competition, target_false_alarm)
    write_submission(
        target,
        test["id"].tolist(),
        test["score"].to_numpy(),
        competition,
        threshold=threshold.value if threshold else None,
    )
    try:
        warnings = check_submission(target, competition, manifest)
    except InvalidSubmission:
        target.replace(target.with_suffix(".refused.csv"))  # a file of the final name is a valid one
        raise
    panel = grade(target, competition)
    result = {
        "path": target,
        "threshold": threshold,
        "oof": oof_value(runs, oof, labels, competition, threshold),
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


def blended(
    runs: Sequence[RunFolder], *, method: str, weights: Sequence[float] | None
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(OOF rows, test rows) of the runs as one table each."""
    oof = [read_predictions(run.predictions / "oof.parquet", "anomaly") for run in runs]
    test = [read_predictions(run.predictions / "test.parquet", "anomaly") for run in runs]
    if len(runs) == 1:
        return oof[0], test[0]
    for run, frame in zip(runs, oof, strict=True):
        if frame.empty:
            raise ProjectError(
                f"{shown_path(run.path)} has no out-of-fold rows (data.holdout=0), and blending needs them to put the "
                "runs on one scale. Train it with data.holdout=0.2 or folds=5, or leave it out."
            )
    common = _common_rows(oof)  # runs of other splits still share rows; those alone can be blended out-of-fold
    return (
        blend_anomaly(common, method=method, weights=weights, reference=oof),
        blend_anomaly(test, method=method, weights=weights, reference=oof),
    )


def _common_rows(frames: "Sequence[pd.DataFrame]") -> "list[pd.DataFrame]":
    ids = set.intersection(*(set(frame["id"]) for frame in frames))
    if not ids:
        raise ProjectError(
            "the runs share no out-of-fold row, so nothing says how well their blend does. Train them with the same "
            "seed and data.holdout, or with data.folds_file=<folds.csv of the first run>, or with folds=5."
        )
    kept = []
    for frame in frames:
        rows = frame[frame["id"].isin(ids)].reset_index(drop=True)
        rows.attrs = frame.attrs
        kept.append(rows)
    if len(ids) < max(map(len, frames)):
        print(f"blend     tuned on the {len(ids)} out-of-fold rows that all runs share")
    return kept


def tuned(
    runs: Sequence[RunFolder],
    oof: "pd.DataFrame",
    labels: "pd.Series",
    competition: Competition,
    target_false_alarm: float,
) -> Threshold | None:
    """One run's own threshold; for a blend one tuned on its OOF rows. None where no labelled row was held out."""
    if len(runs) == 1:
        kept = read_record(runs[0].path / "metrics.json")["threshold"]
        return Threshold.from_dict(kept) if kept else None
    if not labels.reindex(oof["id"]).notna().any():
        return None
    return tune_on_oof(oof, labels, competition.metric, target_false_alarm=target_false_alarm)


def oof_value(
    runs: Sequence[RunFolder],
    oof: "pd.DataFrame",
    labels: "pd.Series",
    competition: Competition,
    threshold: Threshold | None,
) -> float | None:
    """The competition's metric on the OOF rows; None where it is undefined there."""
    if len(runs) == 1:
        return read_record(runs[0].path / "metrics.json")["metric"]["value"]
    truth = labels.reindex(oof["id"])
    known = truth.notna().to_numpy()
    scores = oof["score"].to_numpy()[known]
    answers = truth[known].astype("int64").to_numpy()
    return get_metric(competition.metric).value_at(scores, answers, threshold.value if threshold else None)


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
    target = in_repository(config["out"] or outputs / competition.task / "submissions" / f"{stamp}.csv")
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
    if result["threshold"]:
        print(f"threshold {result['threshold'].value:.6g}")
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
    warnings = check_submission(path, competition, read_manifest(competition))
    for warning in warnings:
        print(f"warning   {warning}")
    panel = grade(path, competition)
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


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
