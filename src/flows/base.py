"""The interface that training, inference and submission ask of each task."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning.pytorch as pl
    import pandas as pd

    from src.competition import Competition
    from src.data.transforms import PreprocessSpec
    from src.job import Job
    from src.metrics.registry import Metric
    from src.runs import RunFolder
    from src.weights import ResolvedWeights


@dataclass(frozen=True)
class Prepared:
    """What a submission is written from.

    values: one an id, as the format takes them (`src.submission.formats.write_submission`). threshold: what turns
    scores into labels, or None. oof: the competition's metric out of fold, or None where it is undefined. decision:
    what was tuned, for the record. notes: lines to print, as (label, text).
    """

    ids: list[str]
    values: Sequence[Any]
    threshold: float | None
    oof: float | None
    decision: dict[str, Any] | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)


class Flow(ABC):
    """One task's part of a run. Without state: everything comes in as arguments."""

    task: str

    # -- before and during training ---------------------------------------------------------------------------------
    @abstractmethod
    def refuse_early(self, config: dict[str, Any], *, bundled: bool, weights_dir: Path) -> None:
        """Refuse what a look at the configuration shows to be impossible, before the long imports."""

    @abstractmethod
    def check_inputs(self, config: dict[str, Any], manifest: "pd.DataFrame", solution: "pd.DataFrame | None") -> None:
        """Refuse wrong model options and data that the task cannot use, before anything is trained."""

    @abstractmethod
    def create(
        self, config: dict[str, Any], competition: "Competition", manifest: "pd.DataFrame", *, weights_dir: Path
    ) -> "tuple[pl.LightningModule, ResolvedWeights]":
        """The task ready to train, and where its weights came from."""

    @abstractmethod
    def data_arguments(self, config: dict[str, Any], task: "pl.LightningModule", *, epochs: int) -> dict[str, Any]:
        """What the data module is to be told beyond what all tasks tell it."""

    def augment(self, config: dict[str, Any], task: "pl.LightningModule") -> Any:
        """The augmentation's configuration, or None for pictures as they are."""
        return config["augment"]

    @abstractmethod
    def monitor_mode(self, metric: "Metric", val_rows: "pd.DataFrame") -> str | None:
        """"max" or "min" of `val/monitor`; None where the held-out rows cannot compare epochs: the last is kept."""

    def metadata(self, config: dict[str, Any], manifest: "pd.DataFrame") -> dict[str, Any]:
        """What a prediction store keeps beside task and run."""
        return {}

    # -- after the last fold ----------------------------------------------------------------------------------------
    @abstractmethod
    def merge_test(self, parts: "Sequence[pd.DataFrame]", folder: Path) -> "pd.DataFrame":
        """One table from those that the folds of one run predicted for the same images."""

    @abstractmethod
    def fill_unread(
        self, frame: "pd.DataFrame", unread: Sequence[str], oof: "pd.DataFrame", sizes: "pd.DataFrame | None"
    ) -> "pd.DataFrame":
        """The table with a row for each image that could not be read: a submission needs every row, said aloud."""

    def settle(
        self, job: "Job", oof: "pd.DataFrame", test: "Sequence[pd.DataFrame]"
    ) -> "tuple[pd.DataFrame, list[pd.DataFrame], dict[str, Any]]":
        """The OOF table and the folds' test tables with what out-of-fold rows say of their scores applied.

        Third, what metrics.json is to keep of it. Most tasks store predictions as they are.
        """
        return oof, list(test), {}

    def resettle(
        self,
        frames: "Sequence[pd.DataFrame]",
        rows: "pd.DataFrame",
        run: "RunFolder",
        folder: Path,
        *,
        folds: Sequence[int],
    ) -> "list[pd.DataFrame]":
        """An inference's tables, one for each of `folds`, under what `settle` decided; maps lie below `folder`."""
        return list(frames)

    @abstractmethod
    def measure(
        self, job: "Job", oof: "pd.DataFrame", test: "pd.DataFrame", spec: "PreprocessSpec"
    ) -> dict[str, Any]:
        """The content of metrics.json: `metric`, `oof`, `folds`, `graded` and what was tuned."""

    @abstractmethod
    def closing(self, metrics: dict[str, Any]) -> list[tuple[str, str]]:
        """The lines about quality that a run ends with, as (label, text)."""

    # -- submission and inference -----------------------------------------------------------------------------------
    @abstractmethod
    def prepare(
        self,
        runs: "Sequence[RunFolder]",
        competition: "Competition",
        manifest: "pd.DataFrame",
        *,
        method: str | None,
        weights: Sequence[float] | None,
        target_false_alarm: float,
    ) -> Prepared:
        """Blend the runs, tune on their OOF rows, and answer what the submission's rows hold."""

    @abstractmethod
    def answer(
        self,
        frame: "pd.DataFrame",
        rows: "pd.DataFrame",
        *,
        run: "RunFolder",
        config: dict[str, Any],
        out: Path,
    ) -> "tuple[pd.DataFrame, str]":
        """Tables and pictures of an inference, written to `out`; the main table, and what to say of it in a line."""
