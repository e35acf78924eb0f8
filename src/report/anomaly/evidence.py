"""What the page argues from: predictions joined with the truth, cut at the threshold."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.errors import ProjectError


@dataclass(frozen=True)
class ScoredSet:
    """Scored images of one split.

    `frame` has one row an image: id, fold, score (float64), label (0 normal, 1 defective, <NA> unknown),
    target (raw label or None), path, mask, map (absolute paths or None).
    """

    key: str  # "oof" | "test"
    title: str
    frame: pd.DataFrame

    @property
    def known(self) -> pd.DataFrame:
        """The rows whose true label is known."""
        return self.frame[self.frame["label"].notna()]

    @property
    def normal(self) -> np.ndarray:
        """Scores of the normal images."""
        return self.frame.loc[(self.frame["label"] == 0).fillna(False).astype(bool), "score"].to_numpy()

    @property
    def defective(self) -> np.ndarray:
        """Scores of the defective images."""
        return self.frame.loc[(self.frame["label"] == 1).fillna(False).astype(bool), "score"].to_numpy()

    @property
    def has_both(self) -> bool:
        """True when a curve can be drawn: normal and defective images are both there."""
        return bool(len(self.normal) and len(self.defective))

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores (N,) float64 and labels (N,) int64 of the known rows."""
        known = self.known
        return known["score"].to_numpy(np.float64), known["label"].to_numpy(np.int64)


def scored_sets(
    manifest: pd.DataFrame,
    oof: pd.DataFrame | None,
    test: pd.DataFrame | None,
    solution: pd.DataFrame | None,
    predictions: Path,
) -> list[ScoredSet]:
    """Out-of-fold first, then test; a split without predictions is left out.

    Raises:
        ProjectError: a predicted id is not in the manifest, or a score is not a finite number.
    """
    sets = []
    if oof is not None and len(oof):
        truth = manifest[manifest["split"] == "train"]
        sets.append(ScoredSet("oof", "Out of fold", _join(oof, truth, predictions, "oof.parquet")))
    if test is not None and len(test):
        truth = manifest[manifest["split"] == "test"]
        graded = solution is not None and len(solution) > 0
        if graded:
            answers = solution.set_index("id")
            answered = [name for name in ("label", "target", "mask") if name in answers]
            truth = truth.assign(**{name: truth["id"].map(answers[name]) for name in answered})
        title = "Test, graded afterwards" if graded else "Test, no labels"
        sets.append(ScoredSet("test", title, _join(test, truth, predictions, "test.parquet")))
    return sets


def _join(predicted: pd.DataFrame, truth: pd.DataFrame, folder: Path, name: str) -> pd.DataFrame:
    ids = predicted["id"].astype(str)
    known = truth.assign(id=truth["id"].astype(str)).drop_duplicates("id").set_index("id")
    missing = ~ids.isin(known.index)
    if missing.any():
        raise ProjectError(
            f"{folder / name}: {int(missing.sum())} predicted ids are not in the competition's table, the "
            f"first is {ids[missing].iloc[0]!r}. The run was made from another competition or table: "
            "pass the one it was trained on."
        )
    scores = pd.to_numeric(predicted["score"], errors="coerce").to_numpy(np.float64)
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ProjectError(
            f"{folder / name}: the score of {ids.iloc[row]!r} is not a finite number. Train the run again."
        )
    rows = known.loc[ids]
    maps = predicted["map"] if "map" in predicted else pd.Series([None] * len(predicted))
    return pd.DataFrame(
        {
            "id": ids.to_numpy(),
            "fold": predicted["fold"].to_numpy() if "fold" in predicted else -1,
            "score": scores,
            "label": pd.array(rows["label"].to_numpy(), dtype="Int64"),
            "target": texts(rows["target"]),
            "path": texts(rows["path"]),
            "mask": texts(rows["mask"]),
            "map": [str(folder / path) if path else None for path in texts(maps)],
        }
    )


def texts(values: Iterable[Any]) -> pd.Series:
    """An object column of str or None; every kind of missing value becomes None."""
    found = [None if pd.isna(value) or value == "" else str(value) for value in values]
    return pd.Series(found, dtype=object)


def confusion(scored: ScoredSet, threshold: float) -> dict[str, int]:
    """Counts of `hits`, `misses`, `false_alarms`, `passed`; a score at the threshold counts as defective."""
    normal, defective = scored.normal, scored.defective
    hits, alarms = int((defective >= threshold).sum()), int((normal >= threshold).sum())
    return {
        "hits": hits,
        "misses": len(defective) - hits,
        "false_alarms": alarms,
        "passed": len(normal) - alarms,
    }


def kinds(sets: list[ScoredSet], threshold: float) -> list[dict[str, Any]]:
    """Per target value of the defective images: how many are found, per set; hardest kind first."""
    rows: dict[str, dict[str, Any]] = {}
    for scored in sets:
        known = scored.known
        defective = known[known["label"] == 1]
        names = defective["target"].fillna("defective, kind unnamed")
        for name, group in defective.groupby(names, sort=True):
            cell = {
                "n": len(group),
                "found": int((group["score"] >= threshold).sum()),
                "median": float(group["score"].median()),
            }
            rows.setdefault(str(name), {"name": str(name)})[scored.key] = cell

    def rate(row: dict[str, Any]) -> tuple[float, str]:
        cell = row.get("oof") or row["test"]
        return cell["found"] / cell["n"], row["name"]

    return sorted(rows.values(), key=rate)
