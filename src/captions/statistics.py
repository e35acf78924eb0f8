"""Corpus metrics of captions chosen among candidates, from statistics of each candidate that are counted once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from src.captions.tokenizers import get_tokenizer

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Sums = Mapping[str, Array]


@dataclass(frozen=True)
class Statistics:
    """What a CaptionMetric adds up over images, of P texts for each of N images.

    sums: part of the metric to (N, P, K). Their sum over images makes the corpus metric, BLEU's and chrF's too, so
    the value of any choice of texts on any images needs no text any more. n-grams that CIDEr weighs have their
    frequency in the references of all N images.
    """

    metric: Any
    sums: Sums

    @classmethod
    def of(cls, metric: Any, columns: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> "Statistics":
        """columns: P lists of N texts; references: of each image, at least one."""
        from src.metrics.caption.parts import PARTS, Evidence

        found: dict[str, list[Array]] = {name: [] for name in metric.parts}
        for texts in columns:
            evidence = Evidence(list(texts), references, partial(get_tokenizer, metric.tokenizer))
            for name, parts in found.items():
                parts.append(PARTS[name].sums(evidence))
        return cls(metric, {name: np.stack(parts, axis=1) for name, parts in found.items()})

    def chosen(self, places: Places) -> Sums:
        """(N, K) of one text an image."""
        return {name: values[np.arange(len(places)), places] for name, values in self.sums.items()}

    def value(self, places: Places) -> float:
        """The corpus metric of one text an image."""
        return float(self.of_sums({name: values.sum(axis=0) for name, values in self.chosen(places).items()}))

    def of_sums(self, sums: Sums) -> Any:
        """The corpus metric (...) of summed statistics (..., K)."""
        from src.metrics.caption.parts import PARTS

        return sum(weight * PARTS[name].of_sums(sums[name]) for name, weight in self.metric.parts.items())

    def elsewhere(self, places: Places, folds: Sequence[Places]) -> Array:
        """(F,) the corpus metric of one text an image, on the images outside each fold."""
        kept = self.chosen(places)
        outside = {
            name: np.stack([values.sum(axis=0) - values[rows].sum(axis=0) for rows in folds])
            for name, values in kept.items()
        }
        return np.asarray(self.of_sums(outside))

    def alone(self) -> Array:
        """(N, P) the metric of each text as if its image were all there is."""
        return np.asarray(self.of_sums(self.sums))


def parted(count: int, *, folds: int, seed: int) -> list[Places]:
    """The images 0 to count-1 in `folds` parts of about equal size, drawn by `seed`."""
    return np.array_split(np.random.default_rng(seed).permutation(count), min(folds, count))
