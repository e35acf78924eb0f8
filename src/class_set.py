"""The classes that a supervised anomaly model learns: normal and anomalous, or every target of the competition."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from src.errors import ProjectError, nearest
from src.listing import natural_key
from src.manifest import require_classes

if TYPE_CHECKING:
    import pandas as pd

NORMAL, ANOMALOUS = "normal", "anomalous"
WAYS = ("auto", "binary", "targets")


@dataclass(frozen=True)
class ClassSet:
    """Class names in the order of a model's probabilities, and those of them that mean "nothing wrong".

    by_target: a class is a target of the training table; else the two classes are the labels 0 and 1.
    """

    names: tuple[str, ...]
    normal: tuple[str, ...]
    by_target: bool

    def codes(self, rows: "pd.DataFrame") -> np.ndarray:
        """(N,) int64 class of each manifest row, -1 where it is unknown."""
        if not self.by_target:
            return rows["label"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)
        return self.target_codes(rows["target"])

    def target_codes(self, targets: Iterable[Any]) -> np.ndarray:
        """(N,) int64 class of each target text, -1 where it is none of them."""
        index = {name: code for code, name in enumerate(self.names)}
        return np.array([index.get(target, -1) for target in targets], dtype=np.int64)

    @property
    def normal_mask(self) -> np.ndarray:
        """(C,) bool, which classes are normal."""
        return np.isin(self.names, self.normal)


def class_set(manifest: "pd.DataFrame", way: str) -> ClassSet:
    """The classes of a manifest's labelled training rows.

    Args:
        way: "binary": normal and anomalous. "targets": each distinct target, in natural order. "auto": targets where
            the competition asks for them (`attrs["classes"]`), else binary.

    Raises:
        ProjectError: another way, or training rows of one class alone.
    """
    if way not in WAYS:
        raise ProjectError(f"model.classes={way!r} is not known.{nearest(str(way), WAYS)} Known: {', '.join(WAYS)}.")
    rows = manifest[(manifest["split"] == "train") & manifest["label"].notna()]
    if way == "auto":
        way = "targets" if manifest.attrs.get("classes") else "binary"
    if way == "binary":
        require_classes(manifest)
        return ClassSet((NORMAL, ANOMALOUS), (NORMAL,), by_target=False)
    targets = rows.dropna(subset=["target"])
    names = tuple(sorted(set(targets["target"]), key=natural_key))
    if len(names) < 2:
        raise ProjectError(
            f"model.classes=targets needs two classes or more; the training targets: {', '.join(names) or 'none'}. "
            "Label some of another class, or choose a model that learns from normal images alone (model=patchcore)."
        )
    normal = set(targets.loc[targets["label"] == 0, "target"])
    return ClassSet(names, tuple(name for name in names if name in normal), by_target=True)


def counts_of(classes: ClassSet, rows: "pd.DataFrame") -> list[int]:
    """How many of the rows each class has."""
    codes = classes.codes(rows)
    return np.bincount(codes[codes >= 0], minlength=len(classes.names)).tolist()
