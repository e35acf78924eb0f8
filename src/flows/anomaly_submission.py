"""The values of a submission: of one run as it decided itself, or of a blend that is decided anew."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from src.competition import Competition
from src.ensemble import blend_anomaly
from src.ensemble_table import best_method, leave_one_out
from src.errors import ProjectError
from src.flows.anomaly_decision import Classes, Decision, allowed_classes, decide
from src.flows.anomaly_masks import kind_of, mask_values
from src.flows.anomaly_scores import categories_of
from src.flows.anomaly_tables import chosen_classes, class_figures
from src.flows.base import Prepared
from src.flows.shared_rows import common_rows
from src.metrics.registry import get_metric
from src.predictions import read_predictions
from src.runs import RunFolder, read_config, read_record, shown_path

SETTINGS = {"by_category": None}  # of runs from before there were any


def prepare(
    runs: Sequence[RunFolder],
    competition: Competition,
    manifest: pd.DataFrame,
    *,
    method: str | None,
    weights: Sequence[float] | None,
    target_false_alarm: float,
) -> Prepared:
    """What a submission of these runs holds (`src.flows.base.Flow.prepare`).

    Raises:
        ProjectError: runs that share no held-out row, classes asked of runs without any, masks of several runs.
    """
    train, tested = manifest[manifest["split"] == "train"], manifest[manifest["split"] == "test"]
    known_categories = bool(tested["category"].notna().all())
    if len(runs) == 1:
        folder = runs[0].predictions
        oof = read_predictions(folder / "oof.parquet", "anomaly")
        test = read_predictions(folder / "test.parquet", "anomaly")
        metrics = read_record(runs[0].path / "metrics.json")
        decision, value, notes = Decision.from_metrics(metrics), metrics["metric"]["value"], []
    else:
        if kind_of(competition) is not None:
            raise ProjectError("a submission of masks takes one run: maps of different models are not blended.")
        settings = read_config(runs[0]).get("calibration") or SETTINGS
        seed = int(read_config(runs[0])["seed"])
        oof, test, notes = _blended(
            runs, train, competition, method=method, weights=weights, seed=seed,
            by_category=known_categories,
        )  # fmt: skip
        decision = decide(
            oof, train, competition, classes=Classes.of(oof), settings=settings, target_false_alarm=target_false_alarm,
            test_categories=known_categories, n_test=len(test), seed=seed,
        )  # fmt: skip
        value = blend_value(oof, train, competition, decision)
    values, threshold = _values(runs, test, competition, manifest, decision, known_categories=known_categories)
    shown = [("threshold", f"{decision.threshold.value:.6g}")] if decision.threshold else []
    return Prepared(
        ids=test["id"].tolist(),
        values=values,
        threshold=threshold,
        oof=value,
        decision=decision.to_dict(),
        notes=[*notes, *shown],
    )


def _values(
    runs: Sequence[RunFolder],
    test: pd.DataFrame,
    competition: Competition,
    manifest: pd.DataFrame,
    decision: Decision,
    *,
    known_categories: bool,
) -> tuple[Sequence[Any], float | None]:
    """(values in the order of the test rows, the threshold that turns scores into labels or None)."""
    scores, form = test["score"].to_numpy(), competition.submission.format
    threshold = decision.threshold.value if decision.threshold else None
    if form == "class":
        classes = Classes.of(test)
        if classes is None or not classes.by_target:
            raise ProjectError(
                f"{', '.join(shown_path(run.path) for run in runs)}: the submission is of classes, and no run tells "
                "them. Train model=classifier, metric, arcface or supcon (model.classes=targets), or blend with one."
            )
        tested = manifest[manifest["split"] == "test"]
        chosen = chosen_classes(test, decision, classes, tested if known_categories else None)
        return [classes.names[code] for code in chosen], None
    if kind_of(competition) is not None:
        spec = read_record(runs[0].path / "run.json")["preprocess"]
        rows = manifest[manifest["split"] == "test"]
        return mask_values(test, runs[0].predictions, rows, spec, decision.pixel_threshold, competition), None
    if form == "label" and decision.category_thresholds is not None:
        known = manifest[manifest["split"] == "test"].set_index("id")
        called = decision.anomalous(scores, categories_of(test["id"], known))
        labels = competition.submission.labels
        return [labels["anomalous" if yes else "normal"] for yes in called], None
    return scores, threshold


def _blended(
    runs: Sequence[RunFolder],
    train: pd.DataFrame,
    competition: Competition,
    *,
    method: str | None,
    weights: Sequence[float] | None,
    seed: int,
    by_category: bool,
) -> tuple[pd.DataFrame, pd.DataFrame, list[tuple[str, str]]]:
    """(OOF rows, test rows) of the runs as one table each, and lines about what each run is worth in the blend.

    Args:
        by_category: whether an image's category limits its classes.
    """
    oof = [read_predictions(run.predictions / "oof.parquet", "anomaly") for run in runs]
    test = [read_predictions(run.predictions / "test.parquet", "anomaly") for run in runs]
    common = common_rows(runs, oof)  # runs of other splits still share rows; those alone can be blended out-of-fold
    labels = train.set_index("id")["label"]
    normal = [(labels.reindex(frame["id"]) == 0).fillna(False).to_numpy(dtype=bool) for frame in oof]
    normal = None if not all(rows.any() for rows in normal) else normal
    notes: list[tuple[str, str]] = []
    if competition.submission.format != "class":  # scores alone are blended: classifiers may know different classes
        oof, test, common = ([_without_probs(frame) for frame in frames] for frames in (oof, test, common))
    if method == "auto":
        table = best_method(common, labels, competition.metric, seed=seed)
        best = next(row for row in table if row["chosen"])
        method = best["name"]
        tried = ", ".join(f"{row['name']} {_figure(row['value'])}" for row in table if row["kind"] == "method")
        notes.append(("blend", f"by {method} (out of fold: {tried})"))
        if best["gain"] is not None and best["gain"] < 0:
            notes.append(("warning", f"the best run alone is better out of fold, by {-best['gain']:.4f}"))
    method = method or "rank"
    options = {"method": method, "weights": weights, "reference": oof, "normal": normal}
    blended, answers = blend_anomaly(common, **options), blend_anomaly(test, **options)
    first = next((frame for frame in common if Classes.of(frame) is not None), None)
    if first is not None:
        for frame in (blended, answers):
            kept = ("normal_classes", "by_target", "class_categories")  # in the order of the first's class names
            frame.attrs["metadata"] |= {key: first.attrs["metadata"].get(key) for key in kept}
    if labels.reindex(common[0]["id"]).dropna().nunique() == 2:
        notes += _worth(common, train, competition, options=options, by_category=by_category, seed=seed)
    return blended, answers, notes


def _without_probs(frame: pd.DataFrame) -> pd.DataFrame:
    plain = frame.assign(probs=None)
    plain.attrs = {**frame.attrs, "metadata": {**frame.attrs["metadata"], "class_names": None}}
    return plain


def _worth(
    frames: Sequence[pd.DataFrame],
    train: pd.DataFrame,
    competition: Competition,
    *,
    options: dict[str, Any],
    by_category: bool,
    seed: int,
) -> list[tuple[str, str]]:
    """The leave-one-out table as lines."""
    classes, of_classes = next(filter(None, map(Classes.of, frames)), None), {}
    if competition.submission.format == "class" and classes is not None and classes.by_target:
        allowed = allowed_classes(frames[0]["id"], train, classes) if by_category else None
        truth = train.set_index("id")["target"]
        of_classes = {"truth": truth, "normal_classes": classes.normal, "allowed": allowed}
    labels = train.set_index("id")["label"]
    table = leave_one_out(frames, labels, competition.metric, **options, **of_classes, seed=seed)
    width = max(len(row["name"]) for row in table)
    lines = []
    for row in table:
        if row["kind"] == "run":
            alike = "" if row["correlation"] is None else f", like the others {row['correlation']:.2f}"
            text = f"alone {_figure(row['alone'])}, blend without it {_figure(row['without'])} ({_gain(row)}{alike})"
        else:
            between = "" if row["gain_low"] is None else f", between {row['gain_low']:+.4f} and {row['gain_high']:+.4f}"
            over = f" over {row['best']}" if row["best"] else ""
            text = f"{row['metric']} {_figure(row['alone'])}, {_gain(row)}{over}{between}"
        lines.append(("worth", f"{row['name']:<{width}}  {text}"))
    return lines


def blend_value(
    oof: pd.DataFrame, train: pd.DataFrame, competition: Competition, decision: Decision
) -> float | None:
    """The competition's metric on the OOF rows; None where it is undefined there."""
    metric = get_metric(competition.metric)
    known = train.set_index("id")
    classes = Classes.of(oof)
    if decision.class_rule is not None and classes is not None:
        if decision.class_rule.value is not None:
            return decision.class_rule.value
        targets = known["target"].reindex(oof["id"]).tolist()
        figures = class_figures(chosen_classes(oof, decision, classes, None), targets, classes, metric.name)
        return None if figures is None else figures["metric"]
    truth = known["label"].reindex(oof["id"])
    rows = truth.notna().to_numpy()
    if not rows.any() or metric.needs not in ("score", "label"):
        return None
    scores, answers = oof["score"].to_numpy()[rows], truth[rows].astype("int64").to_numpy()
    if metric.needs == "score":
        return metric.value(scores, answers)
    called = decision.anomalous(scores, np.array(categories_of(oof["id"], known), dtype=object)[rows].tolist())
    return None if called is None else metric.value(called, answers)


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _gain(row: dict[str, Any]) -> str:
    return "gain undefined" if row["gain"] is None else f"gain {row['gain']:+.4f}"
