"""What the page argues from: predictions joined with the truth and with what they are taken for."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.errors import ProjectError
from src.report.anomaly.answers import Rules, answer


@dataclass(frozen=True)
class ScoredSet:
    """Scored images of one split.

    `frame` has one row an image: id, fold, score (float64), label (0 normal, 1 defective, <NA> unknown),
    target (raw label or None), category, path, mask, map (absolute paths or None), and what
    `src.report.anomaly.answers.answer` says: line, called, said, sure.
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
    def called(self) -> np.ndarray:
        """(N,) bool: the rows that are called defective; nothing is where nothing decides."""
        return (self.frame["called"] == 1).fillna(False).to_numpy(bool)

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
    rules: Rules,
) -> list[ScoredSet]:
    """Out-of-fold first, then test; a split without predictions is left out.

    `rules` say what the images are taken for.

    Raises:
        ProjectError: a predicted id is not in the manifest, or a score is not a finite number.
    """
    sets = []
    if oof is not None and len(oof):
        truth = manifest[manifest["split"] == "train"]
        sets.append(ScoredSet("oof", "Out of fold", _join(oof, truth, predictions / "oof.parquet", manifest, rules)))
    if test is not None and len(test):
        truth = manifest[manifest["split"] == "test"]
        graded = solution is not None and len(solution) > 0
        if graded:
            answers = solution.set_index("id")
            answered = [name for name in ("label", "target", "mask") if name in answers]
            truth = truth.assign(**{name: truth["id"].map(answers[name]) for name in answered})
            if "category" in answers:  # beside what the manifest says: only that decides
                truth = truth.assign(true_category=truth["id"].map(answers["category"]))
        title = "Test, graded afterwards" if graded else "Test, no labels"
        sets.append(ScoredSet("test", title, _join(test, truth, predictions / "test.parquet", manifest, rules)))
    return sets


def _join(
    predicted: pd.DataFrame, truth: pd.DataFrame, file: Path, manifest: pd.DataFrame, rules: Rules
) -> pd.DataFrame:
    ids = predicted["id"].astype(str)
    known = truth.assign(id=truth["id"].astype(str)).drop_duplicates("id").set_index("id")
    missing = ~ids.isin(known.index)
    if missing.any():
        raise ProjectError(
            f"{file}: {int(missing.sum())} predicted ids are not in the competition's table, the "
            f"first is {ids[missing].iloc[0]!r}. The run was made from another competition or table: "
            "pass the one it was trained on."
        )
    scores = pd.to_numeric(predicted["score"], errors="coerce").to_numpy(np.float64)
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ProjectError(f"{file}: the score of {ids.iloc[row]!r} is not a finite number. Train the run again.")
    rows = known.loc[ids]
    maps = predicted["map"] if "map" in predicted else pd.Series([None] * len(predicted))
    categories = texts(rows["category"]) if "category" in rows else [None] * len(rows)
    return pd.DataFrame(
        {
            "id": ids.to_numpy(),
            "fold": predicted["fold"].to_numpy() if "fold" in predicted else -1,
            "score": scores,
            "label": pd.array(rows["label"].to_numpy(), dtype="Int64"),
            "target": texts(rows["target"]),
            "path": texts(rows["path"]),
            "mask": texts(rows["mask"]),
            "map": [str(file.parent / path) if path else None for path in texts(maps)],
            "category": texts(rows["true_category"]) if "true_category" in rows else categories,
            **answer(predicted, categories, manifest, rules),
        }
    )


def texts(values: Iterable[Any]) -> pd.Series:
    """An object column of str or None; every kind of missing value becomes None."""
    found = [None if pd.isna(value) or value == "" else str(value) for value in values]
    return pd.Series(found, dtype=object)


def confusion(scored: ScoredSet) -> dict[str, int]:
    """Counts of `hits`, `misses`, `false_alarms`, `passed`; an image on its line counts as defective."""
    label = scored.frame["label"].fillna(-1).to_numpy(int)
    hits, alarms = int(scored.called[label == 1].sum()), int(scored.called[label == 0].sum())
    return {
        "hits": hits,
        "misses": int((label == 1).sum()) - hits,
        "false_alarms": alarms,
        "passed": int((label == 0).sum()) - alarms,
    }


def kinds(sets: list[ScoredSet]) -> list[dict[str, Any]]:
    """Per target value of the defective images: how many are found, per set; hardest kind first."""
    rows: dict[str, dict[str, Any]] = {}
    for scored in sets:
        known = scored.frame.assign(found=scored.called)
        defective = known[(known["label"] == 1).fillna(False)]
        names = defective["target"].fillna("defective, kind unnamed")
        for name, group in defective.groupby(names, sort=True):
            cell = {"n": len(group), "found": int(group["found"].sum())}
            rows.setdefault(str(name), {"name": str(name)})[scored.key] = cell

    def rate(row: dict[str, Any]) -> tuple[float, str]:
        cell = row.get("oof") or row["test"]
        return cell["found"] / cell["n"], row["name"]

    return sorted(rows.values(), key=rate)
