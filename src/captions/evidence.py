"""What speaks for each candidate caption of many images, as padded arrays that weights combine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from src.captions.consensus import expected_utility, votes
from src.captions.soundness import Soundness

Array = npt.NDArray[np.float64]
TERMS = ("model", "consensus", "image")


@dataclass(frozen=True)
class Evidence:
    """N images, C = the most candidates of an image.

    sound: (N, C) bool; False for degenerate candidates and for padding. problems: of each candidate.
    model, image: (N, C) deviations from the image's mean over its sound candidates; 0 where no score is known.
    matrices: (n, n) an image over its sound candidates, the metric of each against each; [] when none were asked for.
    """

    sound: npt.NDArray[np.bool_]
    problems: list[list[list[str]]]
    model: Array
    image: Array
    matrices: list[Array]

    def consensus(self, temperature: float | None, scale: float) -> Array:
        """Expected utilities (N, C) as deviations from the image's mean; see src.captions.consensus.

        temperature: of the votes, in units of `scale`, the spread of model scores in an image; None: equal votes.
        """
        values = np.full(self.sound.shape, np.nan)
        for row, matrix in enumerate(self.matrices):
            places = np.flatnonzero(self.sound[row])
            values[row, places] = expected_utility(matrix, votes(self.model[row, places] / scale, temperature))
        return centred(values, self.sound)

    def first(self) -> npt.NDArray[np.int64]:
        """The first sound candidate (N,) of each image, -1 where there is none."""
        return np.where(self.sound.any(axis=1), self.sound.argmax(axis=1), -1)


def evidence_of(
    candidates: Sequence[Sequence[str]],
    scores: Sequence[Any] | None,
    image_scores: Sequence[Any] | None,
    *,
    soundness: Soundness,
    metric: Any = None,
    frequencies: Any = None,
) -> Evidence:
    """Judge and compare candidates; matrices are computed where a CaptionMetric is given.

    scores, image_scores: one sequence an image, parallel to its candidates, or None (for an image, or for all).
    """
    known: dict[str, list[str]] = {}
    problems = []
    for texts in candidates:
        for text in texts:
            if text not in known:
                known[text] = soundness.problems(text)
        problems.append([known[text] for text in texts])
    width = max([1, *(len(texts) for texts in candidates)])
    sound = np.zeros((len(candidates), width), dtype=bool)
    for row, found in enumerate(problems):
        sound[row, : len(found)] = [not kinds for kinds in found]
    matrices: list[Array] = []
    if metric is not None:
        groups = [
            [text for text, kinds in zip(texts, found, strict=True) if not kinds]
            for texts, found in zip(candidates, problems, strict=True)
        ]
        matrices = [np.asarray(matrix, dtype=float) for matrix in metric.pairwise(groups, frequencies)]
    return Evidence(
        sound=sound,
        problems=problems,
        model=centred(_padded(scores, sound.shape), sound),
        image=centred(_padded(image_scores, sound.shape), sound),
        matrices=matrices,
    )


def centred(values: Array, sound: npt.NDArray[np.bool_]) -> Array:
    """Deviations (N, C) from each row's mean over known values of sound candidates; 0 for all others."""
    known = sound & np.isfinite(values)
    filled = np.where(known, values, 0.0)
    mean = filled.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(known, filled - mean, 0.0)


def spread(deviations: Array, sound: npt.NDArray[np.bool_]) -> float:
    """Root mean square of the deviations of sound candidates, of images that have several; 1 where nothing differs.

    One scale for all images: scores that hardly differ within an image then hardly speak, as they should.
    """
    several = sound & (sound.sum(axis=1, keepdims=True) > 1)
    values = deviations[several]
    size = float(np.sqrt(np.mean(values**2))) if len(values) else 0.0
    return size if size > 1e-9 else 1.0


def chosen(terms: Mapping[str, Array], weights: Mapping[str, float], sound: npt.NDArray[np.bool_]) -> Any:
    """The place (N,) of each image's sound candidate of the largest weighted sum, the earlier of equals; -1: none.

    terms: (N, C) each, standardised.
    """
    total = np.zeros(sound.shape)
    for name, weight in weights.items():
        if weight:
            total = total + weight * terms[name]
    best = np.where(sound, np.round(total, 9), -np.inf).argmax(axis=1)
    return np.where(sound.any(axis=1), best, -1)


def _padded(rows: Sequence[Any] | None, shape: tuple[int, int]) -> Array:
    values = np.full(shape, np.nan)
    for at, row in enumerate(rows if rows is not None else ()):
        if row is not None:
            numbers = np.array([np.nan if value is None else value for value in row], dtype=float)
            values[at, : len(numbers)] = numbers
    return values
