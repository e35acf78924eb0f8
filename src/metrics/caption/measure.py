"""The caption metric of a competition, and the whole panel: what the rest of the project asks metrics of captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal

import numpy as np

from src.captions.tokenizers import get_tokenizer
from src.errors import ProjectError
from src.metrics.caption.frequencies import Frequencies
from src.metrics.caption.names import (
    DEFAULT_TOKENIZER,
    NAMES,
    WITHOUT_TOKENS,
    read_expression,
    write_expression,
)
from src.metrics.caption.parts import PARTS, Evidence
from src.metrics.ranking import UndefinedMetric

__all__ = ["CaptionMetric", "Frequencies", "evaluate_captions", "intervals", "parse_caption_metric"]


@dataclass(frozen=True)
class CaptionMetric:
    """One metric, or a weighted sum of several on one tokenizer. Higher is better.

    parts: base name to weight. The sum is of values on their own scales: BLEU, ROUGE, METEOR and exact match go to 1,
    CIDEr and CIDEr-D to 10, chrF to 100.
    """

    parts: Mapping[str, float]
    tokenizer: str = DEFAULT_TOKENIZER
    mode: Literal["max"] = "max"

    @property
    def name(self) -> str:
        """The canonical text, which `parse_caption_metric` reads back."""
        return write_expression(self.parts, self.tokenizer)

    @property
    def signature(self) -> str:
        """What a score depends on; scores of different signatures cannot be compared."""
        return _signature(self.name, self.parts, self.tokenizer)

    def corpus(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        """The value of one caption an image against each image's references (one or more), as a grader prints it.

        Raises:
            UndefinedMetric: there are no images.
            ProjectError: an image without references, lists of different lengths, or a caption that is no text.
        """
        evidence = self._evidence(candidates, _checked(candidates, references), None)
        return float(sum(w * _corpus(name, evidence) for name, w in self.parts.items()))

    def per_image(
        self,
        candidates: Sequence[str],
        references: Sequence[Sequence[str]],
        *,
        frequencies: Frequencies | None = None,
    ) -> np.ndarray:
        """(N,) score of each image's caption alone.

        BLEU is smoothed here: one is added to the correct and to all n-grams of order 2 and higher (Lin and Och 2004).
        CIDEr weighs n-grams by `frequencies`, or by the given references where it is None. The mean over images is the
        corpus value for every metric but BLEU and chrF, which add up counts first. Raises as `corpus` does.
        """
        evidence = self._evidence(candidates, _checked(candidates, references), frequencies)
        return sum(w * PARTS[name].sentence(evidence) for name, w in self.parts.items())

    def pairwise(self, groups: Sequence[Sequence[str]], frequencies: Frequencies | None = None) -> list[np.ndarray]:
        """For each group of n captions (n, n): [i, j] is the score of caption i with caption j as its only reference.

        Scores are those of `per_image`. Without `frequencies` CIDEr takes each group for one image's references.

        Raises:
            ProjectError: a caption that is no text.
        """
        groups = [list(group) for group in groups]
        _check_texts(list(chain.from_iterable(groups)), "caption")
        sizes = [len(group) for group in groups]
        if not sum(sizes):
            return [np.zeros((0, 0)) for _ in sizes]
        evidence = self._evidence(groups, None, frequencies)
        values = sum(w * PARTS[name].pairs(evidence) for name, w in self.parts.items())
        cuts = np.cumsum(np.square(sizes))[:-1]
        return [part.reshape(n, n) for part, n in zip(np.split(values, cuts), sizes, strict=True)]

    def _evidence(self, texts: Any, references: Any, frequencies: Frequencies | None) -> Evidence:
        if frequencies is not None and any(name.startswith("cider") for name in self.parts):
            frequencies.check(self.tokenizer)
        return Evidence(texts, references, partial(get_tokenizer, self.tokenizer), frequencies)


def parse_caption_metric(text: str) -> CaptionMetric:
    """A metric by its text: `cider_d`, `bleu4@char`, `0.5*cider_d + 0.3*meteor + 0.2*bleu4 @ word`.

    Raises:
        ProjectError: not of that grammar, an unknown metric or tokenizer, or the tokenizer is not installed.
    """
    parts, tokenizer = read_expression(text)
    if set(parts) - set(WITHOUT_TOKENS):
        get_tokenizer(tokenizer)
    return CaptionMetric(parts, tokenizer)


def evaluate_captions(
    candidates: Sequence[str], references: Sequence[Sequence[str]], *, tokenizer: str = DEFAULT_TOKENIZER
) -> dict[str, Any]:
    """Every metric of `names.NAMES` by name, then "signature" and "length".

    length: of the candidates `mean`, `min`, `max` tokens, `characters` (mean, with spaces), `distinct` (different
    texts / images) and `vocabulary` (different tokens); `references`, mean tokens of all references; `ratio`, tokens
    of the candidates to those of the closest references, as BLEU has it. Raises as `CaptionMetric.corpus` does.
    """
    references = _checked(candidates, references)
    evidence = Evidence(candidates, references, partial(get_tokenizer, tokenizer))
    result: dict[str, Any] = {name: _corpus(name, evidence) for name in NAMES}
    table, images = evidence.tokens.table, len(candidates)
    mine, all_references = table.lengths[:images], table.lengths[images:]
    sums = PARTS["bleu1"].sums(evidence).sum(axis=0)
    return result | {
        "signature": _signature("captions", NAMES, tokenizer),
        "length": {
            "mean": float(mine.mean()),
            "min": int(mine.min()),
            "max": int(mine.max()),
            "characters": float(np.mean([len(text) for text in evidence.flat[:images]])),
            "distinct": len(set(evidence.flat[:images])) / images,
            "vocabulary": len(np.unique(table.ids[: mine.sum()])),
            "references": float(all_references.mean()),
            "ratio": float(sums[0] / sums[1]) if sums[1] else 0.0,
        },
    }


def intervals(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    names: Sequence[str],
    tokenizer: str = DEFAULT_TOKENIZER,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """(low, high) percentile bootstrap interval of each metric over images (Efron 1979).

    names: of metrics or weighted sums; one without `@tokenizer` is of `tokenizer`. The weights of CIDEr's n-grams are
    held at those of the whole set: a resample that repeats images would make their n-grams look common.

    Raises:
        As `CaptionMetric.corpus` and `parse_caption_metric` do; ProjectError: resamples or level out of range.
    """
    if resamples < 1 or not 0 < level < 1:
        raise ProjectError(f"resamples={resamples}, level={level}: expected at least 1, and a level between 0 and 1.")
    references = _checked(candidates, references)
    metrics = {name: parse_caption_metric(name if "@" in name else f"{name}@{tokenizer}") for name in names}
    evidence = {
        metric.tokenizer: Evidence(candidates, references, partial(get_tokenizer, metric.tokenizer))
        for metric in metrics.values()
    }
    used = dict.fromkeys((base, metric.tokenizer) for metric in metrics.values() for base in metric.parts)
    sums = {(base, tokens): PARTS[base].sums(evidence[tokens]) for base, tokens in used}
    random, images = np.random.default_rng(seed), len(candidates)
    values: dict[tuple[str, str], list[np.ndarray]] = {key: [] for key in used}
    step = max(1, 4_000_000 // images)  # draws at once: bounds memory
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draws = random.multinomial(images, np.full(images, 1 / images), size=rows).astype(np.float64)
        for base, tokens in used:
            values[base, tokens].append(PARTS[base].of_sums(draws @ sums[base, tokens]))
    result = {}
    for name, metric in metrics.items():
        drawn = sum(w * np.concatenate(values[base, metric.tokenizer]) for base, w in metric.parts.items())
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        result[name] = (float(low), float(high))
    return result


def _corpus(name: str, evidence: Evidence) -> float:
    return float(PARTS[name].of_sums(PARTS[name].sums(evidence).sum(axis=0)))


def _signature(name: str, parts: Mapping[str, Any], tokenizer: str) -> str:
    notes = list(dict.fromkeys(PARTS[base].note for base in parts))
    if set(parts) - set(WITHOUT_TOKENS):
        tokens = get_tokenizer(tokenizer)
        stem = "" if tokens.stem == "none" else f"+{tokens.stem}"
        notes = [tokens.signature, *(note.replace("{stem}", stem) for note in notes)]
    return "|".join([name, *notes])


def _checked(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[str]]:
    """References as lists, once the two fit together."""
    if len(candidates) != len(references):
        raise ProjectError(
            f"{len(candidates)} captions and {len(references)} lists of references. Give one caption and one list an "
            "image, in the same order."
        )
    if not len(candidates):
        raise UndefinedMetric("metrics of captions need images, and there are none.")
    for index, item in enumerate(references):
        if isinstance(item, str) or item is None:
            raise ProjectError(f"references of image number {index + 1} are {item!r}. Expected a list of texts.")
    without = [index + 1 for index, item in enumerate(references) if not len(item)]
    if without:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        raise ProjectError(
            f"image number {without[0]} of {len(references)}{more} has no reference. Score images with references only."
        )
    _check_texts(candidates, "caption")
    result = [list(item) for item in references]
    _check_texts(list(chain.from_iterable(result)), "reference")
    return result


def _check_texts(texts: Sequence[Any], what: str) -> None:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ProjectError(f"{what} number {index + 1} is {text!r}, no text. An absent caption is ''.")
