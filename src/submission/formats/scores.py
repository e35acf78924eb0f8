"""Formats of one score or one label an image: `score` and `label`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from src.competition import SubmissionSpec
from src.errors import ProjectError
from src.submission.formats.base import NUMBER, BadCell, Context, Format, Row, shortest


class Score(Format):
    """A finite number, higher = more anomalous."""

    name = "score"

    def write(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> list[Row]:
        texts = _score_texts(values)
        return [Row((name,), (text,)) for name, text in zip(ids, texts, strict=True)]

    def read(self, text: str, context: Context, image_id: str | None = None) -> float:
        if not text.strip():
            raise BadCell("is empty", "Every row needs a score; predict those images, or give them the median score.")
        if text.strip().lower() in ("nan", "na", "n/a", "null", "none", "<na>"):
            raise BadCell("is missing (NaN)", "Every row needs a score; predict those images, or give them the median.")
        if text.strip().lower().lstrip("+-") in ("inf", "infinity"):
            raise BadCell("is infinite", "Clip the scores to finite values.")
        if not NUMBER.fullmatch(text.strip()):
            remedy = "Write numbers with a decimal point, without units, percent signs or thousands separators."
            raise BadCell("is not a number", remedy)
        value = float(text)
        if not np.isfinite(value):
            raise BadCell("is too large for a float", "Clip the scores to finite values.")
        return value

    def expected(self, context: Context) -> str:
        return "a finite number, higher = more anomalous"

    def doubts(self, values: Mapping[str, Any], context: Context) -> list[str]:
        if len(values) > 10 and len(set(values.values())) == 2:
            return ["the scores take two values only: a ranking metric loses by that. Submit raw scores."]
        return []


class Label(Format):
    """One of the two texts of `submission.labels`; written from scores and a threshold, or from the texts."""

    name = "label"

    def write(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> list[Row]:
        texts = _label_texts(values, context)
        return [Row((name,), (text,)) for name, text in zip(ids, texts, strict=True)]

    def read(self, text: str, context: Context, image_id: str | None = None) -> str:
        vocabulary = list(context.spec.labels.values())
        if text in vocabulary:
            return text
        if not text.strip():
            raise BadCell("is empty", "Every row needs a label.")
        if text.strip() in vocabulary:
            raise BadCell("has spaces around the label", "Strip them: df[column] = df[column].str.strip().")
        if re.fullmatch(r"-?\d+\.0+", text) and text.split(".")[0] in vocabulary:
            raise BadCell("is a decimal number", "Write whole numbers: df[column] = df[column].astype(int).")
        raise BadCell("is not a label of this competition", f"Write {_in_words(context.spec)}, spelled just so.")

    def expected(self, context: Context) -> str:
        return _in_words(context.spec)


def _score_texts(values: Sequence[Any]) -> list[str]:
    try:
        scores = np.array([float(value) for value in values], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ProjectError(f"the format 'score' needs a number for each image ({error}).") from error
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ProjectError(
            f"{len(bad)} scores are NaN or infinite, first in row {bad[0] + 1}: a grader refuses them. Predict again."
        )
    return shortest(scores)


def _label_texts(values: Sequence[Any], context: Context) -> list[str]:
    labels = context.spec.labels
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) == len(values):
        unknown = sorted(set(texts) - set(labels.values()))
        if unknown:
            raise ProjectError(f"label '{unknown[0]}' is not one of {', '.join(labels.values())}.")
        return texts
    if context.threshold is None:
        raise ProjectError(
            "the format 'label' needs a threshold to turn scores into labels, and the run has none. Train it with "
            "held-out rows (data.holdout=0.2 or folds=5), or give one: threshold=<score>."
        )
    scores = [float(text) for text in _score_texts(values)]
    return [labels["anomalous" if score >= context.threshold else "normal"] for score in scores]


def _in_words(spec: SubmissionSpec) -> str:
    return " or ".join(repr(label) for label in spec.labels.values())
