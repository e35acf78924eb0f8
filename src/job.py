"""What the parts of a training run share: its folder, configuration, data, loggers and clock."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.competition import Competition
from src.runs import RunFolder


class Clock:
    """Seconds by phase, for run.json."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 2)


@dataclass(frozen=True)
class Job:
    """One run under way.

    manifest: all rows (`src.manifest`); solution: the test rows' truth for grading alone, None where there is none.
    folds: the folds that this command runs, out of config["folds"].
    """

    run: RunFolder
    config: dict[str, Any]
    competition: Competition
    manifest: pd.DataFrame
    solution: pd.DataFrame | None
    folds: list[int]
    loggers: Any
    clock: Clock

    @property
    def train_rows(self) -> pd.DataFrame:
        return self.manifest[self.manifest["split"] == "train"]
