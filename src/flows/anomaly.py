"""The anomaly task's flow: raw scores and maps, a threshold from OOF, ranks blended between runs."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.calibration.threshold import Threshold, tune_on_oof
from src.competition import Competition
from src.ensemble import average_folds, blend_anomaly
from src.flows.base import Flow, Prepared
from src.flows.shared_rows import common_rows
from src.job import Job
from src.metrics.registry import Metric, get_metric
from src.predictions import read_predictions, with_median_rows
from src.runs import RunFolder, read_record


class AnomalyFlow(Flow):
    """Scores per image, higher is more anomalous; decisions by one threshold."""

    task = "anomaly"

    def refuse_early(self, config: dict[str, Any], *, bundled: bool, weights_dir: Path) -> None:
        model = config["model"]
        if not bundled and "backbone" in model:
            from src.weights import refuse_early

            refuse_early(model["backbone"], model["weights"], weights_dir=weights_dir)

    def check_inputs(self, config: dict[str, Any], manifest: pd.DataFrame, solution: pd.DataFrame | None) -> None:
        from src.flows.anomaly_panel import check_masks
        from src.tasks.create import check_model

        check_model(config["model"])
        check_masks(manifest)
        if solution is not None:
            check_masks(solution.merge(manifest.loc[manifest["split"] == "test", ["id", "path"]], on="id"))

    def create(
        self, config: dict[str, Any], competition: Competition, manifest: pd.DataFrame, *, weights_dir: Path
    ) -> tuple[Any, Any]:
        from src.manifest import require_classes
        from src.tasks.create import create_task

        task, weights = create_task(
            config["model"], monitor=competition.metric, weights_dir=weights_dir, bundled=competition.bundled
        )
        if not task.one_class:
            require_classes(manifest)
        return task, weights

    def data_arguments(self, config: dict[str, Any], task: Any, *, epochs: int) -> dict[str, Any]:
        return {"one_class": task.one_class, "with_masks": not task.one_class}

    def monitor_mode(self, metric: Metric, val_rows: pd.DataFrame) -> str | None:
        if val_rows["label"].dropna().nunique() < 2:
            return None
        return metric.mode if metric.needs == "score" else "max"  # see AnomalyTask.on_validation_epoch_end

    def merge_test(self, parts: Sequence[pd.DataFrame], folder: Path) -> pd.DataFrame:
        return average_folds(parts, folder)

    def fill_unread(
        self, frame: pd.DataFrame, unread: Sequence[str], oof: pd.DataFrame, sizes: pd.DataFrame | None
    ) -> pd.DataFrame:
        """The median out-of-fold score; where no row was held out, the median of the other rows."""
        if not len(unread):
            return frame
        filled = with_median_rows(frame, unread, oof)
        print(
            f"WARNING   {len(unread)} test image(s) could not be read and got the "
            f"{'training' if len(oof) else 'test'} median score {filled['score'].iloc[-1]:.4g}: {', '.join(unread[:5])}"
        )
        return filled

    def measure(self, job: Job, oof: pd.DataFrame, test: pd.DataFrame, spec: Any) -> dict[str, Any]:
        from src.flows.anomaly_panel import choose_threshold, evaluate

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

    def closing(self, metrics: dict[str, Any]) -> list[tuple[str, str]]:
        name, value, threshold = metrics["metric"]["name"], metrics["metric"]["value"], metrics["threshold"]
        lines = [("OOF", f"{name} {value:.4f}" if value is not None else f"{name} undefined: no labelled defect "
                  "among the held-out rows")]  # fmt: skip
        if threshold:
            how = "tuned on OOF" if threshold["source"] == "oof" else "from held-out normal scores"
            lines.append(("threshold", f"{threshold['value']:.6g} ({how})"))
        if metrics["graded"] and metrics["graded"].get("metric") is not None:
            lines.append(("graded", f"{name} {metrics['graded']['metric']:.4f} (on the solution)"))
        return lines

    def prepare(
        self,
        runs: Sequence[RunFolder],
        competition: Competition,
        manifest: pd.DataFrame,
        *,
        method: str | None,
        weights: Sequence[float] | None,
        target_false_alarm: float,
    ) -> Prepared:
        """One run keeps its own scores and threshold.

        Several are put on one scale by their own OOF distributions, blended, and the threshold is tuned on the blended
        OOF rows; no test statistic takes part.
        """
        oof, test = _blended(runs, method=method or "rank", weights=weights)
        labels = manifest[manifest["split"] == "train"].set_index("id")["label"]
        threshold = _tuned(runs, oof, labels, competition, target_false_alarm)
        return Prepared(
            ids=test["id"].tolist(),
            values=test["score"].to_numpy(),
            threshold=threshold.value if threshold else None,
            oof=_oof_value(runs, oof, labels, competition, threshold),
            decision=threshold.to_dict() if threshold else None,
            notes=[("threshold", f"{threshold.value:.6g}")] if threshold else [],
        )

    def answer(
        self, frame: pd.DataFrame, rows: pd.DataFrame, *, run: RunFolder, config: dict[str, Any], out: Path
    ) -> tuple[pd.DataFrame, str]:
        threshold = config["threshold"]
        kept = read_record(run.path / "metrics.json")["threshold"]
        if threshold is None and kept:
            threshold = kept["value"]
        table = rows.merge(frame[["id", "score"]], on="id")
        if threshold is not None:
            table["verdict"] = ["anomalous" if s >= threshold else "normal" for s in table["score"]]
        if config["heatmaps"] and frame["map"].notna().any():
            from src.report.anomaly.gallery import write_heatmaps

            top = table.sort_values("score", ascending=False).head(config["heatmaps"])
            write_heatmaps(
                top.merge(frame[["id", "map"]], on="id"),
                folder=out,
                target=out / "heatmaps",
                preprocess=read_record(run.path / "run.json")["preprocess"],
            )
        flagged = "" if threshold is None else f", {int((table['verdict'] == 'anomalous').sum())} anomalous"
        return table, flagged


def _blended(
    runs: Sequence[RunFolder], *, method: str, weights: Sequence[float] | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(OOF rows, test rows) of the runs as one table each."""
    oof = [read_predictions(run.predictions / "oof.parquet", "anomaly") for run in runs]
    test = [read_predictions(run.predictions / "test.parquet", "anomaly") for run in runs]
    if len(runs) == 1:
        return oof[0], test[0]
    common = common_rows(runs, oof)  # runs of other splits still share rows; those alone can be blended out-of-fold
    return (
        blend_anomaly(common, method=method, weights=weights, reference=oof),
        blend_anomaly(test, method=method, weights=weights, reference=oof),
    )


def _tuned(
    runs: Sequence[RunFolder], oof: pd.DataFrame, labels: pd.Series, competition: Competition, target_false_alarm: float
) -> Threshold | None:
    """One run's own threshold; for a blend one tuned on its OOF rows. None where no labelled row was held out."""
    if len(runs) == 1:
        kept = read_record(runs[0].path / "metrics.json")["threshold"]
        return Threshold.from_dict(kept) if kept else None
    if not labels.reindex(oof["id"]).notna().any():
        return None
    return tune_on_oof(oof, labels, competition.metric, target_false_alarm=target_false_alarm)


def _oof_value(
    runs: Sequence[RunFolder],
    oof: pd.DataFrame,
    labels: pd.Series,
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
