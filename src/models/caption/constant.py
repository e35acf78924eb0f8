"""The same sentence for every picture: what a caption scores that never looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from src.captions.decoding import Candidate, Decoding
from src.errors import ProjectError, nearest
from src.models.anomaly.maps import SizedByCheckpoint
from src.models.caption.agreement import Agreement
from src.models.caption.text_memory import TextMemory

CHOICES = ("medoid", "frequent")
KEPT = 20  # sentences that the memory holds, best first


class ConstantCaption(SizedByCheckpoint):
    """The most typical training caption, whatever the picture: the floor that a captioner has to leave behind.

    Args:
        image_size: (height, width); not looked at.
        choice: "medoid" takes the caption with the highest mean similarity to all the others (`agreement`: from 0 to
            1, and that is its score); "frequent" the one that occurs most often, its score being its share.
        most: captions compared with one another at most; of more, a sample drawn by `seed` is.
        seed: of that sample.

    Candidates after the first are the next in that order, none twice.
    Raises ProjectError for options out of range, for a training set without captions, and when asked before `finish`.
    """

    kind: ClassVar[str] = "memory"
    zero_shot: ClassVar[bool] = False
    fitted = ("scores",)
    report = None

    def __init__(self, *, image_size: Sequence[int], choice: str = "medoid", most: int = 5000, seed: int = 0) -> None:
        super().__init__()
        if choice not in CHOICES:
            raise ProjectError(f"model.choice={choice!r} is not one of {', '.join(CHOICES)}.{nearest(choice, CHOICES)}")
        if most < 1:
            raise ProjectError(f"model.most={most}: give at least 1 caption.")
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.choice, self.most, self.seed = choice, most, seed
        self.sentences = TextMemory()
        self.register_buffer("scores", torch.zeros(0))
        self._collected: list[str] = []

    @staticmethod
    def normalization(options: Mapping[str, Any]) -> dict[str, Sequence[float]]:
        """`mean` and `std` of pictures that nobody looks at."""
        return {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}

    def collect(self, images: Tensor, captions: Sequence[Sequence[str]], ids: Sequence[str]) -> None:
        """Remember the captions of a training batch."""
        self._collected += [text for texts in captions for text in texts if text.strip()]

    def finish(self) -> None:
        """Choose the sentences from the captions that were collected."""
        texts, self._collected = self._collected, []
        if not texts:
            raise ProjectError("the training images have no captions: there is no sentence to choose.")
        if self.choice == "frequent":
            counts = Counter(texts).most_common(KEPT)
            ranked = [(text, count / len(texts)) for text, count in counts]
        else:
            ranked = _medoids(sample(texts, self.most, seed=self.seed))
        self.sentences.set([text for text, _ in ranked])
        self.scores = torch.tensor([score for _, score in ranked], device=self.scores.device)

    def generate(
        self, images: Tensor, decoding: Decoding, *, seeds: Sequence[int] | None = None
    ) -> list[list[Candidate]]:
        """The same sentences for each of the images (B×3×H×W); of the decoding only `candidates` is heeded."""
        if not len(self.sentences):
            raise ProjectError("the template baseline has no sentence yet: train it, or load a checkpoint.")
        kept = [Candidate(*row) for row in zip(self.sentences.texts(), self.scores.tolist(), strict=True)]
        return [kept[: decoding.candidates] for _ in range(len(images))]


def sample(texts: Sequence[str], most: int, *, seed: int) -> list[str]:
    """At most so many of the texts, drawn without replacement, in their order."""
    if len(texts) <= most:
        return list(texts)
    drawn = np.random.default_rng(seed).choice(len(texts), most, replace=False)
    return [texts[index] for index in np.sort(drawn)]


def _medoids(texts: Sequence[str]) -> list[tuple[str, float]]:
    means = Agreement(texts).means()
    order = np.argsort(-means, kind="stable")
    best = list(dict.fromkeys(texts[index] for index in order))[:KEPT]
    return [(text, float(means[texts.index(text)])) for text in best]
