"""What the page argues from: the captions as they are submitted, joined with pictures, candidates and references."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.captions.decision import CaptionDecision, Chosen
from src.errors import ProjectError

FREQUENCIES = "frequencies.json.gz"  # of the training captions, in the run's folder


@dataclass(frozen=True)
class CaptionSet:
    """The captions of one split; all lists have one entry an image.

    candidates: as the model gave them, best first; scores, image_scores: parallel to them, None where unknown.
    chosen: the caption as it is submitted. references: known captions, [] where none is. values: (N,) the
    competition's metric of each image against its references, NaN where they are unknown; `whole` is that of all.
    """

    key: str  # "oof" | "test"
    title: str
    ids: list[str]
    paths: list[str | None]
    folds: list[int]
    candidates: list[list[str]]
    scores: list[list[float] | None]
    image_scores: list[list[float] | None]
    flags: list[list[str]]
    chosen: list[Chosen]
    references: list[list[str]]
    values: np.ndarray

    @cached_property
    def known(self) -> np.ndarray:
        """Indices of the images with references."""
        return np.flatnonzero([bool(texts) for texts in self.references])

    @cached_property
    def texts(self) -> list[str]:
        return [each.text for each in self.chosen]

    def pairs(self) -> tuple[list[str], list[list[str]]]:
        """Captions and references of the images that have references."""
        return [self.texts[i] for i in self.known], [self.references[i] for i in self.known]


def read_decision(metrics: dict[str, Any]) -> CaptionDecision | None:
    """What metrics.json says was decided; None where it says nothing."""
    found = metrics.get("decision")
    return CaptionDecision.from_dict(found) if found else None


def read_metric(metrics: dict[str, Any], competition_metric: str) -> Any:
    """The CaptionMetric of the page: the one that metrics.json names, or the competition's."""
    from src.metrics.caption.measure import parse_caption_metric

    return parse_caption_metric((metrics.get("metric") or {}).get("name") or competition_metric)


def read_frequencies(run: Path, training: Sequence[Sequence[str]], metric: Any) -> Any:
    """Document frequencies of the training captions: those the run keeps, else counted anew; None without captions."""
    from src.metrics.caption.measure import Frequencies

    path = run / FREQUENCIES
    if path.is_file():
        return Frequencies.from_file(path)
    return Frequencies.of(training, metric.tokenizer) if any(training) else None


def caption_sets(
    manifest: pd.DataFrame,
    oof: pd.DataFrame | None,
    test: pd.DataFrame | None,
    solution: pd.DataFrame | None,
    *,
    decision: CaptionDecision | None,
    metric: Any,
    frequencies: Any,
    predictions: Path,
) -> list[CaptionSet]:
    """Out-of-fold first, then test; a split without predictions is left out.

    Raises:
        ProjectError: a predicted id is not in the manifest.
    """
    sets = []
    for key, frame, split in (("oof", oof, "train"), ("test", test, "test")):
        if frame is None or not len(frame):
            continue
        rows = manifest[manifest["split"] == split]
        truth = rows if key == "oof" else solution
        known = {}
        if truth is not None and "captions" in truth:
            known = dict(zip(truth["id"].astype(str), truth["captions"], strict=True))
        title = "Out of fold" if key == "oof" else "Test, graded afterwards" if known else "Test, no references"
        ids = frame["id"].astype(str).tolist()
        paths = dict(zip(rows["id"].astype(str), rows["path"], strict=True))
        strange = [name for name in ids if name not in paths]
        if strange:
            raise ProjectError(
                f"{predictions / f'{key}.parquet'}: {len(strange)} predicted ids are not in the competition's table, "
                f"the first is {strange[0]!r}. The run was made from another competition or table: pass the one it "
                "was trained on."
            )
        candidates = [list(each) for each in frame["candidates"]]
        scores, image_scores = _lists(frame, "candidate_scores"), _lists(frame, "image_scores")
        chosen = _chosen(candidates, scores, image_scores, decision, frequencies)
        references = [_texts(known.get(name)) for name in ids]
        sets.append(
            CaptionSet(
                key=key,
                title=title,
                ids=ids,
                paths=[None if pd.isna(path := paths[name]) else str(path) for name in ids],
                folds=frame["fold"].astype(int).tolist() if "fold" in frame else [-1] * len(ids),
                candidates=candidates,
                scores=scores,
                image_scores=image_scores,
                flags=[each or [] for each in _lists(frame, "flags")],
                chosen=chosen,
                references=references,
                values=_values([each.text for each in chosen], references, metric),
            )
        )
    return sets


def values_of(texts: Sequence[str], references: Sequence[Sequence[str]], metric: Any, known: Any) -> np.ndarray:
    """(N,) the metric of single captions, n-grams weighed as in the whole set, whose references are `known`."""
    from src.metrics.caption.measure import Frequencies

    if not len(texts):
        return np.zeros(0)
    return np.asarray(metric.per_image(texts, references, frequencies=Frequencies.of(known, metric.tokenizer)), float)


def _values(texts: Sequence[str], references: Sequence[Sequence[str]], metric: Any) -> np.ndarray:
    rows = np.flatnonzero([bool(each) for each in references])
    values = np.full(len(texts), np.nan)
    if len(rows):
        known = [references[i] for i in rows]
        values[rows] = values_of([texts[i] for i in rows], known, metric, known)
    return values


def _chosen(
    candidates: Sequence[Sequence[str]],
    scores: Sequence[Any],
    image_scores: Sequence[Any],
    decision: CaptionDecision | None,
    frequencies: Any,
) -> list[Chosen]:
    if decision is None:
        return [Chosen(texts[0] if texts else "", 0 if texts else -1, "kept", []) for texts in candidates]
    images = None if any(each is None for each in image_scores) else image_scores
    return decision.choose_all(candidates, scores, images, frequencies=frequencies)


def _texts(value: Any) -> list[str]:
    return [] if value is None or isinstance(value, float) else list(map(str, value))


def _lists(frame: pd.DataFrame, column: str) -> list[list[Any] | None]:
    if column not in frame:
        return [None] * len(frame)
    return [None if value is None or isinstance(value, float) else list(value) for value in frame[column]]
