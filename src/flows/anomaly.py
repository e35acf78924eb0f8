"""The anomaly task's flow: raw scores and maps, decisions from OOF, runs of different kinds blended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.competition import Competition
from src.ensemble import average_folds
from src.errors import ProjectError
from src.flows.anomaly_scores import categories_of
from src.flows.base import Flow, Prepared
from src.job import Job
from src.metrics.registry import Metric
from src.predictions import with_median_rows
from src.runs import RunFolder, read_record

CLASS_MODELS = "classifier, efficientnet, convnext, resnet, metric, arcface or supcon"


class AnomalyFlow(Flow):
    """Scores per image, higher is more anomalous; decisions by thresholds, or by class probabilities."""

    task = "anomaly"

    def refuse_early(self, config: dict[str, Any], *, bundled: bool, weights_dir: Path) -> None:
        model = config["model"]
        of_classes = config["submission"] and config["competition"]["submission"]["format"] == "class"
        if of_classes and ("classes" not in model or model["classes"] == "binary"):
            raise ProjectError(
                f"the submission is of classes, and model={model.get('name')} tells normal from anomalous alone. "
                f"Choose model={CLASS_MODELS} (model.classes=targets); or submission=false, for a blend with one of "
                "those."
            )
        if not bundled and "backbone" in model and "weights" in model:
            from src.weights import refuse_early

            refuse_early(model["backbone"], model["weights"], weights_dir=weights_dir)

    def check_inputs(self, config: dict[str, Any], manifest: pd.DataFrame, solution: pd.DataFrame | None) -> None:
        from src.flows.anomaly_inputs import check_inputs

        check_inputs(config, manifest, solution)

    def create(
        self, config: dict[str, Any], competition: Competition, manifest: pd.DataFrame, *, weights_dir: Path
    ) -> tuple[Any, Any]:
        from src.class_set import counts_of
        from src.flows.anomaly_inputs import categories_to_train, classes_to_learn
        from src.manifest import require_classes
        from src.tasks.create import create_task

        classes, counts = classes_to_learn(config, manifest), []
        if classes is not None:
            rows = manifest[manifest["split"] == "train"]
            counts = counts_of(classes, rows[_choice(config, classes).keep(rows, config["seed"])])
        task, weights = create_task(
            config["model"],
            monitor=competition.metric,
            weights_dir=weights_dir,
            bundled=competition.bundled,
            classes=classes,
            class_counts=counts,
            categories=categories_to_train(manifest) if config["per_category"] else None,
            tta=config["tta"],
        )
        if not task.one_class and classes is None:
            require_classes(manifest)  # anomalib's classes that learn from defects
        return task, weights

    def data_arguments(self, config: dict[str, Any], task: Any, *, epochs: int) -> dict[str, Any]:
        classes = getattr(task, "classes", None)
        choice = _choice(config, classes)
        adapted_supervised = not task.one_class and classes is None
        return {"one_class": task.one_class, "with_masks": adapted_supervised, "choice": choice}

    def monitor_mode(self, metric: Metric, val_rows: pd.DataFrame) -> str | None:
        if val_rows["label"].dropna().nunique() < 2:
            return None
        return metric.mode if metric.needs == "score" else "max"  # see `src.tasks.anomaly_validation`

    def metadata(self, config: dict[str, Any], manifest: pd.DataFrame) -> dict[str, Any]:
        from src.flows.anomaly_decision import class_categories
        from src.flows.anomaly_inputs import classes_to_learn

        classes = classes_to_learn(config, manifest)
        if classes is None:
            return {}
        train = manifest[manifest["split"] == "train"]
        return {
            "class_names": list(classes.names),
            "normal_classes": list(classes.normal),
            "by_target": classes.by_target,
            "class_categories": class_categories(train, classes.names) if classes.by_target else [],
        }

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

    def settle(
        self, job: Job, oof: pd.DataFrame, test: Sequence[pd.DataFrame]
    ) -> tuple[pd.DataFrame, list[pd.DataFrame], dict[str, Any]]:
        """Final scores: the map rule and the common scales of folds and categories that out-of-fold rows favour."""
        from src.flows.anomaly_scores import settle

        return settle(
            oof,
            test,
            job.manifest,
            job.competition.metric,
            job.run.predictions,
            folds=job.folds,
            settings=job.config["calibration"],
            seed=job.config["seed"],
        )

    def resettle(
        self,
        frames: Sequence[pd.DataFrame],
        rows: pd.DataFrame,
        run: RunFolder,
        folder: Path,
        *,
        folds: Sequence[int],
    ) -> list[pd.DataFrame]:
        from src.flows.anomaly_scores import resettle

        return resettle(frames, rows, read_record(run.path / "metrics.json"), folder, folds=folds)

    def measure(self, job: Job, oof: pd.DataFrame, test: pd.DataFrame, spec: Any) -> dict[str, Any]:
        from src.flows.anomaly_measure import measure

        return measure(job, oof, test, spec, metadata=self.metadata(job.config, job.manifest))

    def closing(self, metrics: dict[str, Any]) -> list[tuple[str, str]]:
        from src.flows.anomaly_words import closing_lines

        return closing_lines(metrics)

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
        """One run keeps its own scores and decisions.

        Several are put on one scale by their own OOF distributions, blended, and everything is decided anew on the
        blended OOF rows; no test statistic takes part.
        """
        from src.flows.anomaly_submission import prepare

        return prepare(
            runs, competition, manifest, method=method, weights=weights, target_false_alarm=target_false_alarm
        )

    def answer(
        self, frame: pd.DataFrame, rows: pd.DataFrame, *, run: RunFolder, config: dict[str, Any], out: Path
    ) -> tuple[pd.DataFrame, str]:
        from src.flows.anomaly_decision import Decision
        from src.flows.anomaly_tables import chosen_classes, stored_classes

        decision = Decision.from_metrics(read_record(run.path / "metrics.json"))
        table = rows.merge(frame[["id", "score"]], on="id")
        if config["threshold"] is not None:
            called = table["score"].to_numpy() >= config["threshold"]
        else:
            called = decision.anomalous(table["score"].to_numpy(), categories_of(table["id"], rows.set_index("id")))
        if called is not None:
            table["verdict"] = ["anomalous" if yes else "normal" for yes in called]
        classes = stored_classes(run)
        if classes is not None and classes.by_target and frame["probs"].notna().all():
            limits = rows if "category" in rows and rows["category"].notna().all() else None
            chosen = chosen_classes(frame, decision, classes, limits)
            table = table.merge(pd.DataFrame({"id": frame["id"], "class": [classes.names[c] for c in chosen]}), on="id")
        if config["heatmaps"] and frame["map"].notna().any():
            from src.report.anomaly.gallery import write_heatmaps

            top = table.sort_values("score", ascending=False).head(config["heatmaps"])
            write_heatmaps(
                top.merge(frame[["id", "map"]], on="id"),
                folder=out,
                target=out / "heatmaps",
                preprocess=read_record(run.path / "run.json")["preprocess"],
            )
        return table, "" if called is None else f", {int(called.sum())} anomalous"


def _choice(config: dict[str, Any], classes: Any) -> Any:
    """Which labelled rows train, as the configuration says (`src.data.training_choice.TrainingChoice`)."""
    from src.data.training_choice import TrainingChoice

    return TrainingChoice(
        classes=classes,
        balanced=classes is not None and config["model"].get("sampling") == "balanced",
        shots=config["data"]["shots"],
        shots_normal=config["data"]["shots_normal"],
    )
