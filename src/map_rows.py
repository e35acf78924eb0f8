"""Map rules on prediction tables: tuned on out-of-fold rows, then applied to rows and the maps that they name."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.calibration.map_rule import MapRule, tune_map_rule
from src.errors import ProjectError
from src.predictions import read_map, write_map

if TYPE_CHECKING:
    import pandas as pd


def tune_on_oof_maps(
    oof: "pd.DataFrame",
    labels: "pd.Series",
    folder: str | Path,
    metric: str,
    *,
    candidates: Sequence[MapRule] | None = None,
    seed: int = 0,
) -> MapRule | None:
    """`tune_map_rule` for out-of-fold predictions (`id`, `fold`, `score`, `map`) and 0/1 labels indexed by id.

    Maps are read from `folder` one by one. None where the models' own scores stand.

    Raises:
        ProjectError: the table holds test rows (fold -1), or a map cannot be read; else as `tune_map_rule`.
    """
    test_rows = oof.loc[oof["fold"] < 0, "id"]
    if len(test_rows):
        raise ProjectError(
            f"{len(test_rows)} of {len(oof)} rows are of the test (fold -1), first '{test_rows.iloc[0]}'. "
            "A map rule is tuned on out-of-fold rows only: pass predictions/oof.parquet."
        )
    if oof.empty:
        return None
    cells = oof["map"].tolist()

    def plane(row: int) -> np.ndarray | None:
        return read_map(folder, cells[row]) if isinstance(cells[row], str) else None

    truth = labels.reindex(oof["id"])
    return tune_map_rule(plane, oof["score"].to_numpy(), truth, metric, candidates=candidates, seed=seed)


def apply_map_rule(frame: "pd.DataFrame", folder: str | Path, rule: MapRule, prefix: str) -> "pd.DataFrame":
    """The table with the rule's scores and maps; `frame` and its map files are kept.

    Smoothed maps are written as maps/<prefix>_<row>.npy below `folder`, and the `map` column names them; with sigma 0
    it stays. Rows without a map keep their score: fill in unreadable images after the rule, for its scores may lie on
    another scale.

    Raises:
        ProjectError: a map cannot be read, or `prefix` is that of the table's own maps.
    """
    import pandas as pd

    changed = frame.copy()
    changed.attrs = dict(frame.attrs)
    if rule.sigma == 0 and rule.score == "model":
        return changed
    cells = frame["map"].tolist()
    names = [f"{prefix}_{row:06d}" for row in range(len(frame))]
    own = {cell for cell in cells if isinstance(cell, str)}
    if rule.sigma > 0 and not own.isdisjoint(f"maps/{name}.npy" for name in names):
        raise ProjectError(f"the maps of prefix '{prefix}' would be written over; name another for smoothed ones.")

    def one(score: float, cell: str | None, name: str) -> tuple[float, str | None]:
        if not isinstance(cell, str):
            return score, None
        plane, value = rule.apply(read_map(folder, cell), score)
        return value, write_map(folder, name, plane) if rule.sigma > 0 else cell

    with ThreadPoolExecutor() as pool:  # a file waits for the disk, another is computed meanwhile
        done = list(pool.map(one, frame["score"].tolist(), cells, names))
    changed["score"] = np.array([score for score, _ in done], dtype=np.float64)
    changed["map"] = pd.Series([cell for _, cell in done], index=changed.index, dtype=object)
    return changed
