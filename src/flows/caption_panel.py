"""What a caption run measures: predictions beside references, the decision, figures, degenerate captions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.captions.decision import CaptionDecision, Chosen, decide
from src.metrics.caption.clip_score import clip_score
from src.metrics.caption.measure import CaptionMetric, Frequencies, evaluate_captions, intervals, parse_caption_metric

FREQUENCIES_FILE = "frequencies.json.gz"
RESAMPLES = 1000


@dataclass(frozen=True)
class Judged:
    """The rows of a prediction table, and each one's references; [] where none is known."""

    frame: pd.DataFrame
    references: list[list[str]]

    def known(self) -> "Judged":
        """The rows that have references."""
        kept = np.array([bool(each) for each in self.references], bool)  # an empty list would select columns
        return Judged(self.frame[kept].reset_index(drop=True), [each for each in self.references if each])


def judged(frame: pd.DataFrame, truth: pd.DataFrame) -> Judged:
    """A prediction table beside the `captions` of a manifest or a solution."""
    captions = dict(zip(truth["id"], truth["captions"], strict=True))
    return Judged(frame.reset_index(drop=True), [list(captions.get(name) or []) for name in frame["id"]])


def columns_of(frame: pd.DataFrame) -> tuple[list[list[str]], list[list[float]], list[list[float]] | None]:
    """Candidates, their scores and image scores (None where any row lacks them)."""
    images = [None if value is None or isinstance(value, float) else list(value) for value in frame["image_scores"]]
    return (
        [list(each) for each in frame["candidates"]],
        [list(each) for each in frame["candidate_scores"]],
        None if any(each is None for each in images) or not images else images,
    )


def choose(frame: pd.DataFrame, decision: CaptionDecision, frequencies: Frequencies | None) -> list[Chosen]:
    """The caption of each row of a prediction table."""
    return decision.choose_all(*columns_of(frame), frequencies=frequencies)


def tuned(
    rows: Judged, *, metric: CaptionMetric, training: Sequence[Sequence[str]], frequencies: Frequencies, how: str,
    seed: int = 0, runs: int = 1,
) -> CaptionDecision:  # fmt: skip
    """The decision by `how`: "auto" is tuned on the rows, "first" and "consensus" are what they say.

    `runs`: how many models the candidates come from.
    """
    known = rows.known()
    return decide(
        *columns_of(known.frame),
        known.references,
        metric=metric,
        training=training,
        frequencies=frequencies,
        seed=seed,
        how=how,
        runs=runs,
    )


def panel(
    rows: Judged, decision: CaptionDecision, *, metric: CaptionMetric, frequencies: Frequencies
) -> dict[str, Any]:
    """All metrics of the chosen captions with bootstrap intervals; `metric` is the competition's, `n` images counted.

    `first` is the competition's metric of the model's own first candidates, `constant` that of one sentence for all,
    the decision's fallback: what a model must beat.
    """
    known = rows.known()
    if not known.references:
        return {"metric": None, "n": 0}
    chosen = choose(known.frame, decision, frequencies)
    texts = [each.text for each in chosen]
    figures = evaluate_captions(texts, known.references, tokenizer=metric.tokenizer)
    names = [name for name in figures if isinstance(figures[name], float)]
    bounds = intervals(texts, known.references, names=names, tokenizer=metric.tokenizer, resamples=RESAMPLES)
    return {
        **figures,
        **_clip_score(known.frame, chosen),
        "metric": metric.corpus(texts, known.references),
        "n": len(texts),
        "intervals": {name: [float(low), float(high)] for name, (low, high) in bounds.items()},
        "first": metric.corpus([each[0] for each in known.frame["candidates"]], known.references),
        "constant": metric.corpus([decision.fallback] * len(texts), known.references),
    }


def honest_value(
    rows: Judged, decision: CaptionDecision, *, metric: CaptionMetric, frequencies: Frequencies
) -> float | None:
    """The competition's metric of the chosen captions: cross-validated where the decision was tuned on these rows.

    None without any references.
    """
    known = rows.known()
    if decision.summary.get("cross_validated") is not None or not known.references:
        return decision.summary.get("cross_validated")
    return metric.corpus([each.text for each in choose(known.frame, decision, frequencies)], known.references)


def _clip_score(frame: pd.DataFrame, chosen: Sequence[Chosen]) -> dict[str, float]:
    """`clip_score`, the mean CLIPScore of the chosen candidates as the scorer saw them; {} without a scorer."""
    images = columns_of(frame)[2]
    kept = (
        [] if images is None else [row[each.index] for row, each in zip(images, chosen, strict=True) if each.index >= 0]
    )
    return {"clip_score": float(clip_score(kept).mean())} if kept else {}


def troubles(frame: pd.DataFrame, decision: CaptionDecision, frequencies: Frequencies) -> dict[str, Any]:
    """How many captions were decoded again, and how many were replaced by another candidate or the fallback."""
    chosen = choose(frame, decision, frequencies)
    kinds = Counter(problem for each in chosen for problem in each.problems)
    return {
        "images": len(frame),
        "retried": sum("retried" in (flags or ()) for flags in _flags(frame)),
        "replaced": sum(each.state == "candidate" for each in chosen),
        "fallback": sum(each.state == "fallback" for each in chosen),
        "kinds": dict(kinds.most_common()),
    }


def _flags(frame: pd.DataFrame) -> list[list[str]]:
    return [[] if value is None or isinstance(value, float) else list(value) for value in frame["flags"]]


def read_frequencies(run: Path) -> Frequencies | None:
    """The document frequencies that a run was judged by."""
    path = run / FREQUENCIES_FILE
    return Frequencies.from_file(path) if path.is_file() else None


def caption_metric(name: str) -> CaptionMetric:
    """The competition's metric as captions are scored by it."""
    return parse_caption_metric(name)
