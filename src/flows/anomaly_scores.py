"""The final scores of a run: how its maps are read and how its categories compare, decided on out-of-fold rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.calibration.category_scales import CategoryScale, tune_category_scale
from src.calibration.map_rule import MapRule
from src.errors import ProjectError, nearest
from src.map_rows import apply_map_rule, tune_on_oof_maps

RULE_KEYS = ("sigma", "score", "share")


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse values of the section `calibration` that mean nothing.

    Raises:
        ProjectError: names the key.
    """
    for key in ("by_category", "by_fold"):
        if settings[key] not in ("auto", None):
            raise ProjectError(f"calibration.{key}={settings[key]!r}: expected auto or null.")
    area = settings["min_area"]
    if area not in ("auto", None) and (not isinstance(area, int) or isinstance(area, bool) or area < 0):
        raise ProjectError(f"calibration.min_area={area!r}: expected auto, null or a number of pixels.")
    share = settings["pixel_false_alarm"]
    if not isinstance(share, float) or not 0 < share < 1:
        raise ProjectError(f"calibration.pixel_false_alarm={share!r}: expected a share between 0 and 1, such as 0.001.")
    given_rule(settings["map_rule"])


def given_rule(value: Any) -> MapRule | None:
    """The map rule that a configuration fixes; None for auto and null.

    Raises:
        ProjectError: another value, or keys that are no rule's.
    """
    if value in ("auto", None):
        return None
    if not isinstance(value, Mapping):
        raise ProjectError(f"calibration.map_rule={value!r}: expected auto, null, or as in {{sigma: 4, score: max}}.")
    for key in value:
        if key not in RULE_KEYS:
            raise ProjectError(f"calibration.map_rule.{key} is not known.{nearest(key, RULE_KEYS)}")
    try:
        return MapRule(**value)
    except ProjectError as error:
        raise ProjectError(f"calibration.map_rule: {str(error).removeprefix('map rule: ')}") from error


def choose_map_rule(
    oof: pd.DataFrame, labels: pd.Series, metric: str, folder: Path, *, setting: Any, seed: int
) -> MapRule | None:
    """The rule that is given, or with "auto" what labelled OOF maps favour; None: the model's own score."""
    rule = given_rule(setting)
    if len(oof) and not oof["map"].notna().any():
        if rule is not None:
            print("WARNING   calibration.map_rule has no effect: this model makes no maps")
        return None
    return tune_on_oof_maps(oof, labels, folder, metric, seed=seed) if setting == "auto" else rule


def settle(
    oof: pd.DataFrame,
    test: Sequence[pd.DataFrame],
    manifest: pd.DataFrame,
    metric: str,
    folder: Path,
    *,
    folds: Sequence[int],
    settings: Mapping[str, Any],
    seed: int,
) -> tuple[pd.DataFrame, list[pd.DataFrame], dict[str, Any]]:
    """All tables with their final scores (and maps), and the decisions: map_rule, fold_scale, category_scale.

    Everything is decided on out-of-fold rows; the test rows, a table for each of `folds`, are only transformed. Fold by
    fold, for two reasons. The highest pixel of the folds' mean map is lower than the mean of their highest pixels,
    which is what out-of-fold scores compare with. And each fold's model has a scale of its own (another memory, other
    weights): pooled out-of-fold scores mix scales, and a mean over folds follows the model with the widest one.
    """
    train, tested = (manifest[manifest["split"] == split].set_index("id") for split in ("train", "test"))
    labels, scales = train["label"], {}
    rule = choose_map_rule(oof, labels, metric, folder, setting=settings["map_rule"], seed=seed)
    if rule is not None:
        oof, test = apply_map_rule(oof, folder, rule, "oof_ruled"), _ruled(test, folder, rule)
    if settings["by_fold"] == "auto" and oof["fold"].nunique() > 1:
        models = pd.Series([_model(fold) for fold in oof["fold"]], index=oof["id"], dtype=object)
        scales["fold_scale"] = scale = tune_category_scale(oof, labels, models, metric, seed=seed)
        if scale is not None:
            oof, test = _on(oof, scale, models.tolist()), _by_fold(test, scale, folds)
    if settings["by_category"] == "auto" and tested["category"].notna().all() and len(oof):
        scales["category_scale"] = scale = tune_category_scale(oof, labels, train["category"], metric, seed=seed)
        if scale is not None:
            oof, test = scaled(oof, scale, train), [scaled(frame, scale, tested) for frame in test]
    found = {"map_rule": rule, "fold_scale": scales.get("fold_scale"), "category_scale": scales.get("category_scale")}
    return oof, list(test), {name: None if part is None else part.to_dict() for name, part in found.items()}


def resettle(
    frames: Sequence[pd.DataFrame],
    rows: pd.DataFrame,
    metrics: Mapping[str, Any],
    folder: Path,
    *,
    folds: Sequence[int],
) -> list[pd.DataFrame]:
    """New predictions, a table for each of `folds`, under the decisions that a run's metrics.json records."""
    if metrics.get("map_rule"):
        frames = _ruled(frames, folder, MapRule.from_dict(metrics["map_rule"]))
    if metrics.get("fold_scale"):
        frames = _by_fold(frames, CategoryScale.from_dict(metrics["fold_scale"]), folds)
    if metrics.get("category_scale"):
        scale, known = CategoryScale.from_dict(metrics["category_scale"]), rows.set_index("id")
        frames = [scaled(frame, scale, known) for frame in frames]
    return list(frames)


def _model(fold: int) -> str:
    """What a fold's model is called among the "categories" of a scale."""
    return f"fold {fold}"


def _by_fold(frames: Sequence[pd.DataFrame], scale: CategoryScale, folds: Sequence[int]) -> list[pd.DataFrame]:
    pairs = zip(frames, folds, strict=True)
    return [_on(frame, scale, [_model(fold)] * len(frame)) for frame, fold in pairs]


def _on(frame: pd.DataFrame, scale: CategoryScale, categories: Sequence[str | None]) -> pd.DataFrame:
    """The table with its scores on a common scale."""
    result = frame.assign(score=scale.apply(frame["score"].to_numpy(), categories))
    result.attrs = frame.attrs
    return result


def _ruled(frames: Sequence[pd.DataFrame], folder: Path, rule: MapRule) -> list[pd.DataFrame]:
    return [apply_map_rule(frame, folder, rule, f"ruled_{part}") for part, frame in enumerate(frames)]


def scaled(frame: pd.DataFrame, scale: CategoryScale, rows: pd.DataFrame) -> pd.DataFrame:
    """The table with each score on the common scale; `rows`, by id, may have a `category`."""
    return _on(frame, scale, categories_of(frame["id"], rows))


def categories_of(ids: Sequence[str], rows: pd.DataFrame) -> list[str | None]:
    """The category of each id, None where it is not known; `rows` by id."""
    if "category" not in rows:
        return [None] * len(ids)
    return [name if isinstance(name, str) and name else None for name in rows["category"].reindex(ids)]
