"""CLIPScore (Hessel et al. 2021) from similarities that an image-text model gives; no network is run here."""

from collections.abc import Sequence

import numpy as np

from src.errors import ProjectError

WEIGHT = 2.5  # the paper's w, which stretches the usual range of cosines to about 0 to 1


def clip_score(similarities: Sequence[float] | np.ndarray) -> np.ndarray:
    """(N,) 2.5 · max(cos, 0) of (N,) cosines between pictures and captions (equation 1).

    Raises:
        ProjectError: a value is no cosine.
    """
    return WEIGHT * np.maximum(_cosines(similarities, "picture and caption"), 0.0)


def ref_clip_score(
    similarities: Sequence[float] | np.ndarray, references: Sequence[Sequence[float] | np.ndarray]
) -> np.ndarray:
    """(N,) harmonic mean of CLIPScore and of the highest cosine between the caption and its references (equation 2).

    references: of each image the cosines of its caption with each reference, at least one.

    Raises:
        ProjectError: a value is no cosine, or an image has no reference.
    """
    score = clip_score(similarities)
    if len(references) != len(score):
        raise ProjectError(f"{len(score)} similarities, {len(references)} lists of references. Give one list an image.")
    empty = [index for index, item in enumerate(references) if not len(item)]
    if empty:
        raise ProjectError(f"image number {empty[0] + 1} has no reference. Leave the image out, or take clip_score.")
    best = np.array([_cosines(item, "caption and reference").max() for item in references], dtype=np.float64)
    best = np.maximum(best, 0.0)
    below = score + best
    return np.divide(2 * score * best, below, out=np.zeros_like(below), where=below > 0)


def _cosines(values: Sequence[float] | np.ndarray, of: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.all(np.abs(array) <= 1 + 1e-3):
        raise ProjectError(f"similarities of {of} must be one-dimensional cosines from -1 to 1, found {array!r}.")
    return array
