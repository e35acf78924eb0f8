"""Which labelled rows a training sees, and how often: few shots a class, and classes drawn evenly."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from src.class_set import ClassSet
from src.data.sampler import first_shots, hash_ids
from src.errors import ProjectError

ALL = "all"


@dataclass(frozen=True)
class TrainingChoice:
    """The rows of a training set that take part.

    classes: what a supervised model learns; rows of unknown class are left out then. balanced: an epoch holds equally
    many samples of each of them. shots: labelled images a class (a target, or a label where rows have no target),
    drawn by f(seed, id), so that more shots of one seed keep the fewer; None: all. shots_normal: the same for normal
    classes, where it differs: a number, or "all".
    """

    classes: ClassSet | None = None
    balanced: bool = False
    shots: int | None = None
    shots_normal: int | str | None = None

    def __post_init__(self) -> None:
        for key, value in (("data.shots", self.shots), ("data.shots_normal", self.shots_normal)):
            words = (None, ALL) if key == "data.shots_normal" else (None,)
            if value not in words and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ProjectError(
                    f"{key}={value!r}: expected a number of images a class, from 1"
                    f"{', all' if ALL in words else ''} or null (no limit of its own)."
                )

    def keep(self, rows: pd.DataFrame, seed: int) -> np.ndarray:
        """(N,) bool: which training rows take part.

        Raises:
            ProjectError: a class of the model has no row.
        """
        keep = np.ones(len(rows), dtype=bool)
        if self.classes is not None:
            codes = self.classes.codes(rows)
            keep = codes >= 0
            lacking = [name for code, name in enumerate(self.classes.names) if not (codes == code).any()]
            if lacking:
                raise ProjectError(
                    f"{len(lacking)} of {len(self.classes.names)} classes have no training image in this fold: "
                    f"{', '.join(lacking[:5])}. All their images are held out or unreadable: label more of them, hold "
                    "out fewer (data.holdout), or say which are (data.folds_file; fold -1 is always trained on)."
                )
        limits = self._limits(rows)
        if limits:
            keep &= first_shots(hash_ids(rows["id"].tolist()), self._kinds(rows), limits=limits, seed=seed)
        return keep

    def codes(self, rows: pd.DataFrame) -> np.ndarray | None:
        """(N,) int64 class of each row, -1 unknown; None where no classes are learnt."""
        return None if self.classes is None else self.classes.codes(rows)

    def _kinds(self, rows: pd.DataFrame) -> list[str]:
        """What counts as a class for `shots`: the target, else the label; rows without either are "unknown"."""
        labels = rows["label"].astype("Int64").fillna(-1)
        named = {0: "normal", 1: "anomalous", -1: "unknown"}
        targets = rows["target"] if "target" in rows else [None] * len(rows)
        return [f"{named[label]} {target or ''}" for label, target in zip(labels.tolist(), targets, strict=True)]

    def _limits(self, rows: pd.DataFrame) -> dict[str, int]:
        normal = self.shots if self.shots_normal is None else self.shots_normal
        limits: dict[str, int] = {}
        if self.shots is None and not isinstance(normal, int):
            return limits
        for kind in set(self._kinds(rows)):
            label = kind.partition(" ")[0]
            limit = {"normal": normal, "anomalous": self.shots}.get(label)
            if isinstance(limit, int):
                limits[kind] = limit
        return limits
