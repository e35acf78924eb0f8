"""The out-of-fold rows that several runs have in common: on them alone a blend can be measured."""

from collections.abc import Sequence

import pandas as pd

from src.errors import ProjectError
from src.runs import RunFolder, shown_path


def common_rows(runs: Sequence[RunFolder], frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The rows of several runs' OOF tables that all of them have.

    Raises:
        ProjectError: a run has no OOF row, or they share none.
    """
    for run, frame in zip(runs, frames, strict=True):
        if frame.empty:
            raise ProjectError(
                f"{shown_path(run.path)} has no out-of-fold rows (data.holdout=0), and blending needs them to put the "
                "runs on one scale. Train it with data.holdout=0.2 or folds=5, or leave it out."
            )
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
