"""Submission grammars: how predictions become the cells of a CSV, and how a cell is read back.

A format is a writer of a column, a reader of a cell, and a line in FORMATS; the file around them (header,
order, ids, quoting, encoding) is the same for all, as is the validator, which reads every cell with the
format's own reader.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.atomic import write_text
from src.competition import Competition, SubmissionSpec
from src.errors import ProjectError, nearest
from src.tables import read_table

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class BadCell(ValueError):
    """A cell that the grammar does not allow. `kind` groups such rows in messages, `remedy` says what to do."""

    def __init__(self, kind: str, remedy: str) -> None:
        super().__init__(kind)
        self.kind, self.remedy = kind, remedy


@dataclass(frozen=True)
class Format:
    """One grammar.

    write: (predictions in row order, spec, threshold) → the text of each value cell; ProjectError for a value
        that has no text, naming its position.
    read: (text, spec) → the value; BadCell when the grammar does not allow it.
    expected: (spec) → what a cell holds, in words that follow "expected".
    """

    name: str
    write: Callable[[Sequence[Any], SubmissionSpec, float | None], list[str]]
    read: Callable[[str, SubmissionSpec], Any]
    expected: Callable[[SubmissionSpec], str]


def write_submission(
    path: str | Path, ids: Sequence[str], values: Sequence[Any], spec: Competition, *, threshold: float | None = None
) -> Path:
    """Write a whole submission CSV: the spec's header, `ids` verbatim, one row an id; UTF-8, "\\n", minimal quoting.

    Rows come in the order of the sample submission, or without one in the order of `ids` (the test table's).

    Args:
        values: one prediction an id: raw scores, or for the format `label` scores with the `threshold` at and
            above which an image is anomalous, or the label texts themselves.

    Raises:
        ProjectError: an id that is no text, missing, unknown or repeated, a value that cannot be written, or
            a format `label` without a threshold. Nothing is written then.
    """
    ids = list(ids)
    values = values.tolist() if isinstance(values, np.ndarray) and values.dtype == object else list(values)
    if len(ids) != len(values):
        raise ProjectError(f"{len(ids)} ids but {len(values)} predictions: a submission needs one for each.")
    row_of: dict[str, int] = {}
    for row, sample_id in enumerate(ids):
        if not isinstance(sample_id, str):
            raise ProjectError(
                f"id {sample_id!r} (row {row}) is {type(sample_id).__name__}, not text: leading zeros may be lost. "
                "Read ids as text, as src.manifest does."
            )
        if sample_id in row_of:
            raise ProjectError(f"id '{sample_id}' has two predictions (rows {row_of[sample_id]} and {row}).")
        row_of[sample_id] = row
    order = ids if spec.submission.sample is None else sample_ids(spec)
    _check_same(ids, order, spec)

    grammar = FORMATS[spec.submission.format]
    cells = grammar.write([values[row_of[sample_id]] for sample_id in order], spec.submission, threshold)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    columns = spec.submission.columns
    writer.writerow(columns.values())
    for sample_id, cell in zip(order, cells, strict=True):
        row = {"id": sample_id, "value": cell}
        writer.writerow([row[role] for role in columns])
    write_text(path, buffer.getvalue())
    return Path(path)


def sample_ids(spec: Competition) -> list[str]:
    """The ids of the sample submission, in its order, as text.

    Raises:
        ProjectError: the table is unreadable, or lacks the id column.
    """
    table = read_table(spec.submission.sample)
    column = spec.submission.columns["id"]
    if column not in table:
        raise spec.error(
            "submission.columns",
            f"the sample submission {spec.submission.sample} has no column '{column}'."
            f"{nearest(column, table.columns)} Its columns: {', '.join(table.columns)}.",
        )
    return table[column].tolist()


def _check_same(ids: Sequence[str], order: Sequence[str], spec: Competition) -> None:
    known, wanted = set(ids), set(order)
    lacking = [sample_id for sample_id in order if sample_id not in known]
    extra = [sample_id for sample_id in ids if sample_id not in wanted]
    if lacking or extra or len(order) != len(wanted):
        parts = []
        if lacking:
            parts.append(f"{len(lacking)} ids of the sample have no prediction: {', '.join(map(repr, lacking[:5]))}")
        if extra:
            parts.append(f"{len(extra)} predicted ids are not in the sample: {', '.join(map(repr, extra[:5]))}")
        if len(order) != len(wanted):
            parts.append("the sample repeats an id")
        raise ProjectError(
            f"the predictions do not match the sample submission {spec.submission.sample}: {'; '.join(parts)}. "
            "Predict the competition's own test images (infer.py run=… without images=)."
        )


def _write_scores(values: Sequence[Any], spec: SubmissionSpec, threshold: float | None) -> list[str]:
    """Shortest decimals that keep every score distinct: float32's where all scores are float32, else float64's."""
    try:
        scores = np.array([float(value) for value in values], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ProjectError(f"the format 'score' needs a number for each image ({error}).") from error
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ProjectError(
            f"{len(bad)} scores are NaN or infinite, first in row {bad[0] + 1}: a grader refuses them. Predict again."
        )
    with np.errstate(over="ignore"):
        single = scores.astype(np.float32)
    if np.array_equal(single.astype(np.float64), scores):
        return [str(score) for score in single]
    return [repr(score) for score in scores.tolist()]


def _read_score(text: str, spec: SubmissionSpec) -> float:
    if not text.strip():
        raise BadCell("is empty", "Every row needs a score; predict those images, or give them the median score.")
    if text.strip().lower() in ("nan", "na", "n/a", "null", "none", "<na>"):
        raise BadCell("is missing (NaN)", "Every row needs a score; predict those images, or give them the median.")
    if text.strip().lower().lstrip("+-") in ("inf", "infinity"):
        raise BadCell("is infinite", "Clip the scores to finite values.")
    if not _NUMBER.fullmatch(text.strip()):
        remedy = "Write numbers with a decimal point, without units, percent signs or thousands separators."
        raise BadCell("is not a number", remedy)
    value = float(text)
    if not np.isfinite(value):
        raise BadCell("is too large for a float", "Clip the scores to finite values.")
    return value


def _write_labels(values: Sequence[Any], spec: SubmissionSpec, threshold: float | None) -> list[str]:
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) == len(values):
        unknown = sorted(set(texts) - set(spec.labels.values()))
        if unknown:
            raise ProjectError(f"label '{unknown[0]}' is not one of {', '.join(spec.labels.values())}.")
        return texts
    if threshold is None:
        raise ProjectError(
            "the format 'label' needs a threshold to turn scores into labels, and the run has none. Train it with "
            "held-out rows (data.holdout=0.2 or folds=5), or give one: threshold=<score>."
        )
    scores = [float(text) for text in _write_scores(values, spec, None)]
    return [spec.labels["anomalous" if score >= threshold else "normal"] for score in scores]


def _read_label(text: str, spec: SubmissionSpec) -> str:
    vocabulary = list(spec.labels.values())
    if text in vocabulary:
        return text
    if not text.strip():
        raise BadCell("is empty", "Every row needs a label.")
    if text.strip() in vocabulary:
        raise BadCell("has spaces around the label", "Strip them: df[column] = df[column].str.strip().")
    if re.fullmatch(r"-?\d+\.0+", text) and text.split(".")[0] in vocabulary:
        raise BadCell("is a decimal number", "Write whole numbers: df[column] = df[column].astype(int).")
    raise BadCell("is not a label of this competition", f"Write {_labels_in_words(spec)}, spelled just so.")


def _labels_in_words(spec: SubmissionSpec) -> str:
    return " or ".join(repr(label) for label in spec.labels.values())


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format("score", _write_scores, _read_score, lambda spec: "a finite number, higher = more anomalous"),
        Format("label", _write_labels, _read_label, _labels_in_words),
    )
}
