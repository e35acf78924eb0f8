"""How a run answers each image, read from metrics.json: the score where "defective" begins, and the class it says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from src.calibration.class_rule import ClassRule
from src.report import wording


@dataclass(frozen=True)
class Rules:
    """What decides. Records of older runs lack most of it, and each part may be missing.

    threshold: as `src.calibration.threshold` writes it. own: thresholds of categories that have one of their own.
    held_out: the metric with them on rows that they were not tuned on. class_rule: where the submission names classes.
    """

    threshold: dict[str, Any] | None = None
    own: dict[str, float] = field(default_factory=dict)
    held_out: float | None = None
    class_rule: ClassRule | None = None

    @property
    def line(self) -> float | None:
        """The score from which images count as defective, where one serves all images; None: no score decides."""
        if self.class_rule is not None:
            return self.class_rule.threshold
        return self.threshold["value"] if self.threshold else None

    @property
    def decides(self) -> bool:
        """Whether images are called anything at all."""
        return self.line is not None or self.class_rule is not None

    def lines(self, categories: Sequence[str | None]) -> np.ndarray:
        """(N,) the score from which each image counts as defective; NaN where no score decides."""
        line = np.nan if self.line is None else self.line
        own = {} if self.class_rule is not None else self.own
        return np.array([own.get(category, line) for category in categories], dtype=np.float64)


def read_rules(metrics: dict[str, Any]) -> Rules:
    """What metrics.json records."""
    threshold = metrics.get("threshold") or {}
    by_category = metrics.get("category_thresholds") or {}
    rule = metrics.get("class_rule")
    return Rules(
        threshold if wording.is_number(threshold.get("value")) else None,
        {name: each["value"] for name, each in (by_category.get("own") or {}).items()},
        by_category.get("cross_validated"),
        ClassRule.from_dict(rule) if rule else None,
    )


def answer(predicted: pd.DataFrame, categories: Sequence[str | None], manifest: pd.DataFrame, rules: Rules) -> dict:
    """Columns for the rows of a prediction table.

    line: (N,) float64, as of `Rules.lines`. said: the class that a classifier says or None, sure: its probability or
    NaN. called: 1 defective, 0 normal, <NA> where nothing decides.
    """
    lines, scores = rules.lines(categories), predicted["score"].to_numpy(np.float64)
    tested = manifest.loc[manifest["split"] == "test", "category"] if "category" in manifest else pd.Series([None])
    limits = categories if tested.notna().all() else None  # as the submission does: see `src.flows.anomaly_measure`
    said, sure, sound = _classes(predicted, limits, rules)
    if rules.class_rule is not None and sound is not None:
        called = pd.array([pd.NA if each is None else int(not each) for each in sound], dtype="Int64")
    else:
        called = pd.array(
            [pd.NA if np.isnan(line) else int(score >= line) for score, line in zip(scores, lines, strict=True)],
            dtype="Int64",
        )
    return {
        "line": lines,
        "said": pd.Series(said, dtype=object),
        "sure": np.array(sure, dtype=np.float64),
        "called": called,
    }


def _classes(
    predicted: pd.DataFrame, categories: Sequence[str | None] | None, rules: Rules
) -> tuple[list, list, list | None]:
    """What is said of each row (None), how sure (NaN), and whether that class means "nothing wrong" (None).

    `categories` are those that limit the classes; None where they do not.
    """
    from src.flows.anomaly_decision import Classes, Decision
    from src.flows.anomaly_tables import chosen_classes

    n = len(predicted)
    classes = Classes.of(predicted)
    rows = [] if classes is None or "probs" not in predicted else np.flatnonzero(predicted["probs"].notna())
    if not len(rows):
        return [None] * n, [np.nan] * n, None
    known = predicted.iloc[rows].reset_index(drop=True)
    limits = None if categories is None else pd.DataFrame({"id": predicted["id"], "category": list(categories)})
    chosen = chosen_classes(known, Decision(class_rule=rules.class_rule), classes, limits)
    said: list[str | None] = [None] * n
    sure = [np.nan] * n
    sound: list[bool | None] = [None] * n
    for row, code, probs in zip(rows, chosen, known["probs"], strict=True):
        said[row], sure[row] = classes.names[code], float(probs[code])
        sound[row] = classes.names[code] in classes.normal
    return said, sure, sound
