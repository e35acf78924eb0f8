"""The detection task's flow: boxes and counts, a count rule from OOF, boxes fused between folds and runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.boxes.types import Detections
from src.competition import Competition
from src.errors import ProjectError
from src.flows.base import Flow, Prepared
from src.flows.detection_fusion import calibration_of, fused, fusion_method
from src.flows.detection_panel import (
    Decision,
    decide,
    detections_of,
    pair,
    panel,
    rule_text,
    sizes_of,
    with_honest_counts,
)
from src.flows.missing_weights import refuse_missing_weights
from src.flows.shared_rows import common_rows
from src.job import Job
from src.metrics.registry import Metric, get_metric
from src.predictions import read_predictions
from src.runs import RunFolder, read_config, read_record, shown_path

FOLDS_IOU = 0.6  # boxes of one model's folds are alike: only those that overlap well are one object
COUNT_FORMATS = ("counts", "count", "count_long")
RUNS_IOU = 0.55  # the usual one of weighted boxes fusion (Solovyev et al. 2021)


class DetectionFlow(Flow):
    """Boxes per image; suppression, count rule and fusion are decided on OOF rows."""

    task = "detection"

    # -- before and during training ---------------------------------------------------------------------------------
    def refuse_early(self, config: dict[str, Any], *, bundled: bool, weights_dir: Path) -> None:
        if not bundled:
            refuse_missing_weights(config["model"], weights_dir)

    def check_inputs(self, config: dict[str, Any], manifest: pd.DataFrame, solution: pd.DataFrame | None) -> None:
        from src.tasks.create import check_model
        from src.tasks.networks import network_class

        check_model(config["model"])
        reports = manifest.attrs["box_reports"]
        if reports:
            first = reports[0]
            print(
                f"boxes     {len(reports)} mended or set aside, all in the report; the first: {first['source']}: "
                f"{first['problem']} ({first['action']})"
            )
        trained = config["trainer"]["max_epochs"] or config["model"]["max_epochs"]
        if network_class(config["model"]["_target_"]).zero_shot and not trained:
            return
        train = manifest[manifest["split"] == "train"]
        if not any(boxes is not None and len(boxes) for boxes in train["boxes"]):
            what = "counts only" if train["counts"].notna().any() else "no boxes"
            raise ProjectError(
                f"the competition's training images have {what}, and model={config['model']['name']} learns from "
                "boxes. Name a table of boxes (data.boxes), or choose a detector that needs no training: "
                "model=grounding_dino."
            )

    def create(
        self, config: dict[str, Any], competition: Competition, manifest: pd.DataFrame, *, weights_dir: Path
    ) -> tuple[Any, Any]:
        from src.tasks.create_detection import create_detection_task

        tta = config["tta"]
        if tta["rot90"]:
            raise ProjectError("tta.rot90 is for anomaly maps; boxes are looked for in mirrored and rescaled views.")
        return create_detection_task(
            config["model"],
            classes=manifest.attrs["classes"],
            monitor=competition.metric,
            weights_dir=weights_dir,
            bundled=competition.bundled,
            tta=tta if tta["flip"] or any(scale != 1 for scale in tta["scales"]) else None,
            tiles=_tiles(config),
        )

    def data_arguments(self, config: dict[str, Any], task: Any, *, epochs: int) -> dict[str, Any]:
        # The last fifth of the training sees whole pictures, as the test does (after YOLOX, Ge et al. 2021).
        close = epochs - max(1, round(0.2 * epochs)) if epochs > 2 else None
        return {**task.samples, "close_mosaic_epoch": close}

    def monitor_mode(self, metric: Metric, val_rows: pd.DataFrame) -> str | None:
        found = any(boxes is not None and len(boxes) for boxes in val_rows["boxes"])
        return "max" if found else None  # all metrics of boxes; counts are watched as map50

    def metadata(self, config: dict[str, Any], manifest: pd.DataFrame) -> dict[str, Any]:
        return {"class_names": list(manifest.attrs["classes"])}

    # -- after the last fold ----------------------------------------------------------------------------------------
    def merge_test(self, parts: Sequence[pd.DataFrame], folder: Path) -> pd.DataFrame:
        """Boxes of the folds fused (weighted boxes fusion), one row an image."""
        return fused(parts, iou=FOLDS_IOU)

    def fill_unread(
        self, frame: pd.DataFrame, unread: Sequence[str], oof: pd.DataFrame, sizes: pd.DataFrame | None
    ) -> pd.DataFrame:
        """No boxes: what cannot be read shows nothing."""
        if not len(unread):
            return frame
        known = {} if sizes is None else sizes.drop_duplicates("id", keep="last").set_index("id")
        rows = []
        for name in unread:
            row = known.loc[name] if len(known) and name in known.index else {"width": pd.NA, "height": pd.NA}
            side = [1 if pd.isna(row[key]) else int(row[key]) for key in ("width", "height")]
            empty = {"boxes": [], "scores": [], "labels": [], "masks": None}
            rows.append({"id": name, "fold": -1, "width": side[0], "height": side[1], **empty})
        print(f"WARNING   {len(unread)} image(s) could not be read and got no boxes: {', '.join(map(str, unread[:5]))}")
        return pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)

    def measure(self, job: Job, oof: pd.DataFrame, test: pd.DataFrame, spec: Any) -> dict[str, Any]:
        metric, classes = get_metric(job.competition.metric), job.manifest.attrs["classes"]
        whole = pair(oof, job.train_rows)
        decision = decide(whole, classes=classes, metric=metric)

        def figures(frame: pd.DataFrame, truth: pd.DataFrame) -> dict[str, Any]:
            return panel(pair(frame, truth), decision, classes=classes, metric=metric)

        overall = panel(whole, decision, classes=classes, metric=metric)
        overall = with_honest_counts(overall, decision.rule, metric)
        folds = [{"fold": k, **figures(oof[oof["fold"] == k], job.train_rows)} for k in job.folds]
        return {
            "metric": {"name": metric.name, "value": overall.get("metric"), "mode": metric.mode},
            "oof": overall,
            "folds": folds if len(folds) > 1 else [{"fold": job.folds[0], **overall}],
            "threshold": None,
            **decision.to_dict(),
            "graded": figures(test, job.solution) if job.solution is not None else None,
        }

    def closing(self, metrics: dict[str, Any]) -> list[tuple[str, str]]:
        name, value = metrics["metric"]["name"], metrics["metric"]["value"]
        if value is None:
            lines = [("OOF", f"{name} undefined: no held-out image with known boxes or counts")]
        else:
            lines = [("OOF", f"{name} {value:.4f}{_beside(metrics['oof'], name)}")]
        decision = Decision.from_dict(metrics)
        lines += [("boxes", str(decision.postprocess)), ("counts", rule_text(decision.rule))]
        if metrics["graded"] and metrics["graded"].get("metric") is not None:
            graded = metrics["graded"]
            lines.append(("graded", f"{name} {graded['metric']:.4f}{_beside(graded, name)} (on the solution)"))
        return lines

    # -- submission and inference -----------------------------------------------------------------------------------
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
        """One run keeps its own boxes, suppression and count rule.

        Of several, each run's scores become probabilities of being right (calibrated on its own OOF rows), boxes are
        fused, and suppression and count rule are tuned on the fused OOF rows; no test statistic takes part.
        """
        metric, classes = get_metric(competition.metric), manifest.attrs["classes"]
        train = manifest[manifest["split"] == "train"]
        oof = [read_predictions(run.predictions / "oof.parquet", self.task) for run in runs]
        test = [read_predictions(run.predictions / "test.parquet", self.task) for run in runs]
        _check_classes(runs, oof, classes)
        if len(runs) == 1:
            kept = read_record(runs[0].path / "metrics.json")
            decision, value, frame = Decision.from_dict(kept), kept["metric"]["value"], test[0]
        else:
            how = fusion_method(method)
            calibrations = [calibration_of(rows, train, len(classes)) for rows in oof]
            common = common_rows(runs, oof)
            blended = fused(common, iou=RUNS_IOU, method=how, weights=weights, calibrations=calibrations)
            frame = fused(test, iou=RUNS_IOU, method=how, weights=weights, calibrations=calibrations)
            paired = pair(blended, train)
            decision = decide(paired, classes=classes, metric=metric)
            figures = panel(paired, decision, classes=classes, metric=metric)
            value = with_honest_counts(figures, decision.rule, metric).get("metric")
        found = detections_of(frame)
        if competition.submission.format in COUNT_FORMATS:
            values: Sequence[Any] = list(decision.rule.count_all(found, sizes_of(frame)))
        else:
            values = [decision.postprocess.apply(each) for each in found]
        notes = [("boxes", str(decision.postprocess)), ("counts", rule_text(decision.rule))]
        return Prepared(frame["id"].tolist(), values, None, value, decision.to_dict(), notes)

    def answer(
        self, frame: pd.DataFrame, rows: pd.DataFrame, *, run: RunFolder, config: dict[str, Any], out: Path
    ) -> tuple[pd.DataFrame, str]:
        """predictions.csv has a count a class, boxes.csv a row a box that was counted, boxes/ the pictures."""
        from src.inference import write_table

        decision = Decision.from_dict(read_record(run.path / "metrics.json"))
        classes = decision.rule.classes
        found, sizes = detections_of(frame), sizes_of(frame)
        if config["threshold"] is not None:
            kept = [each.select(each.scores >= config["threshold"]) for each in found]
            counts = np.stack([np.bincount(each.labels, minlength=len(classes)) for each in kept])
        else:
            kept = decision.rule.keep_all(found, sizes)
            counts = decision.rule.count_all(found, sizes)
        table = rows.merge(frame[["id"]].assign(objects=counts.sum(axis=1)), on="id")
        for index, name in enumerate(classes):
            table[name] = counts[:, index]
        write_table(out / "boxes.csv", _box_table(frame["id"].tolist(), kept, classes))
        if config["heatmaps"]:
            from src.report.drawing import write_pictures

            order = np.argsort(-counts.sum(axis=1), kind="stable")[: config["heatmaps"]]
            paths = dict(zip(rows["id"], rows["path"], strict=True))
            ids = frame["id"].tolist()
            shown = [(ids[i], paths[ids[i]], kept[i]) for i in order]
            write_pictures(shown, target=out / "boxes", classes=classes)
        return table, f", {int(counts.sum())} objects"


def _tiles(config: dict[str, Any]) -> dict[str, Any] | None:
    tiles = config["data"]["tiles"]
    return tiles if tiles["size"] else None


def _beside(figures: dict[str, Any], name: str) -> str:
    """The box and the count figure that the metric itself is not."""
    others = [key for key in ("map50", "count_exact") if key != name and figures.get(key) is not None]
    return "".join(f", {key} {figures[key]:.4f}" for key in others)


def _check_classes(runs: Sequence[RunFolder], frames: Sequence[pd.DataFrame], classes: Sequence[str]) -> None:
    for run, frame in zip(runs, frames, strict=True):
        own = frame.attrs["metadata"].get("class_names")
        if own != list(classes):
            name = read_config(run)["competition"]["name"]
            raise ProjectError(
                f"{shown_path(run.path)} was trained for the classes {', '.join(own or [])}, and the competition "
                f"{name} now has {', '.join(classes)}. Train it again, or restore data.classes."
            )


def _box_table(ids: Sequence[str], found: Sequence[Detections], classes: Sequence[str]) -> pd.DataFrame:
    rows = [
        {"id": name, "label": classes[label], "score": round(float(score), 5), **_corners(box)}
        for name, each in zip(ids, found, strict=True)
        for box, score, label in zip(each.boxes, each.scores, each.labels, strict=True)
    ]
    return pd.DataFrame(rows, columns=["id", "label", "score", "x1", "y1", "x2", "y2"])


def _corners(box: np.ndarray) -> dict[str, float]:
    return {key: round(float(value), 2) for key, value in zip(("x1", "y1", "x2", "y2"), box, strict=True)}
