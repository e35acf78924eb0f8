"""Captions of the training pictures that look most alike: no training, one pass to remember them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from src.captions.decoding import Candidate, Decoding
from src.errors import ProjectError
from src.models.anomaly.maps import SizedByCheckpoint
from src.models.anomaly.neighbors import full_precision
from src.models.caption.agreement import Agreement
from src.models.caption.pooled import PooledFeatures
from src.models.caption.text_memory import TextMemory


class NearestCaption(SizedByCheckpoint):
    """k-nearest-neighbour captioning (Devlin et al. 2015, arXiv:1505.04467).

    A picture is a backbone's pooled vector, minus the mean of the training pictures' vectors, scaled to length 1; its
    neighbours are the training pictures of the highest cosine similarity. Of their captions those come first that
    agree most with the captions of the other neighbours (section 3.2 there, with the n-grams of `agreement` in place
    of BLEU or CIDEr). A caption's score is that mean agreement, from 0 to 1. With one neighbour its captions come as
    they are written, and the score is the pictures' cosine similarity, from -1 to 1.

    Nothing keeps a picture from finding itself: captions of a picture are honest only where it was not collected, as
    out-of-fold rows are not.

    Args:
        image_size: (height, width) of the canvas in pixels.
        backbone, backbone_args: any timm model, or filter_bank; its frozen features tell what is alike.
        neighbors: training pictures whose captions are candidates; 1 = the nearest alone.
        closest: captions that a candidate's agreement is averaged over, those it agrees with most (m in equation 2
            of the paper: strangers among the neighbours do not count); null = all of the other neighbours'.
        weights: path of the backbone's state dict; None leaves random values, to be filled by a checkpoint.

    Attributes: report, the LoadReport of the backbone or None.
    Raises ProjectError for options out of range, a training set without captions, and when asked before `finish`.
    """

    kind: ClassVar[str] = "memory"
    zero_shot: ClassVar[bool] = False
    takes_builtin: ClassVar[bool] = True
    fitted = ("center", "memory", "owners")

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        backbone: str = "mobilenetv2_100",
        backbone_args: Mapping[str, Any] | None = None,
        neighbors: int = 30,
        closest: int | None = 30,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if neighbors < 1:
            raise ProjectError(f"model.neighbors={neighbors}: give at least 1 training picture.")
        if closest is not None and closest < 1:
            raise ProjectError(f"model.closest={closest}: give at least 1 caption, or null for all.")
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.neighbors, self.closest = neighbors, closest
        self.features = PooledFeatures(backbone=backbone, backbone_args=backbone_args, weights=weights)
        self.report = self.features.report
        self.texts = TextMemory()
        self.register_buffer("center", torch.zeros(0))
        self.register_buffer("memory", torch.zeros(0, 0))
        self.register_buffer("owners", torch.zeros(0, dtype=torch.int64))  # of each caption: the row of its picture
        self._vectors: list[Tensor] = []
        self._captions: list[list[str]] = []
        self._found: tuple[Tensor, Agreement, list[np.ndarray]] | None = None  # of which owners

    @torch.no_grad()
    def collect(self, images: Tensor, captions: Sequence[Sequence[str]], ids: Sequence[str]) -> None:
        """Remember a training batch: normalised images B×3×H×W, their captions; those without any are left out."""
        kept = [[text for text in texts if text.strip()] for texts in captions]
        known = [index for index, texts in enumerate(kept) if texts]
        if known:
            self._vectors.append(self.features(images[known]).cpu())
            self._captions += [kept[index] for index in known]

    @torch.no_grad()
    def finish(self) -> None:
        """Turn what was collected into the memory."""
        if not self._captions:
            raise ProjectError("the training images have no captions: there is no neighbour to take one from.")
        vectors, captions = torch.cat(self._vectors), self._captions
        self._vectors, self._captions = [], []
        device = self.center.device
        self.center = vectors.mean(0).to(device)
        self.memory = self._directions(vectors.to(device))
        self.owners = torch.tensor([row for row, texts in enumerate(captions) for _ in texts], device=device)
        self.texts.set([text for texts in captions for text in texts])

    def _directions(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors - self.center, dim=1)

    @torch.no_grad()
    def generate(
        self, images: Tensor, decoding: Decoding, *, seeds: Sequence[int] | None = None
    ) -> list[list[Candidate]]:
        """Candidates of normalised images B×3×H×W, best first; of the decoding only `candidates` is heeded."""
        if not len(self.texts):
            raise ProjectError("the nearest-neighbour memory is empty: train it, or load a checkpoint.")
        queries = self._directions(self.features(images))
        with full_precision(queries.device):
            similarity = queries @ self.memory.T
        count = min(self.neighbors, len(self.memory))
        nearest = similarity.topk(count, dim=1)
        answers = []
        for values, rows in zip(nearest.values.tolist(), nearest.indices.tolist(), strict=True):
            ranked = self._consensus(rows) if count > 1 else self._as_written(rows[0], values[0])
            answers.append(_first_of_each(ranked)[: decoding.candidates])
        return answers

    def _as_written(self, row: int, similarity: float) -> list[Candidate]:
        texts = self.texts.texts()
        return [Candidate(texts[index], similarity) for index in self._memory_index()[1][row]]

    def _consensus(self, rows: Sequence[int]) -> list[Candidate]:
        agreement, captions_of = self._memory_index()
        chosen = np.concatenate([captions_of[row] for row in rows])  # the nearest picture's first: ties go to them
        owners = np.repeat(np.arange(len(rows)), [len(captions_of[row]) for row in rows])
        alike = agreement.among(chosen)
        alike[owners[:, None] == owners[None, :]] = -1.0  # a picture's own captions do not vouch for one another
        others = len(chosen) - np.bincount(owners)[owners]
        kept = np.minimum(others, self.closest or len(chosen))
        best = -np.sort(-alike, axis=1)
        best[np.arange(best.shape[1])[None, :] >= kept[:, None]] = 0.0
        scores = best.sum(axis=1, dtype=np.float64) / np.maximum(kept, 1)
        texts = self.texts.texts()
        order = np.argsort(-scores, kind="stable")
        return [Candidate(texts[chosen[index]], float(scores[index])) for index in order]

    def _memory_index(self) -> tuple[Agreement, list[np.ndarray]]:
        """N-grams of all captions, and of each picture the rows of its captions; made once for a memory."""
        if self._found is None or self._found[0] is not self.owners:
            owners = self.owners.cpu().numpy()
            starts = np.searchsorted(owners, np.arange(1, len(self.memory)))
            rows = np.split(np.arange(len(owners)), starts)
            self._found = (self.owners, Agreement(self.texts.texts()), rows)
        return self._found[1], self._found[2]


def _first_of_each(ranked: Sequence[Candidate]) -> list[Candidate]:
    best: dict[str, Candidate] = {}
    for candidate in ranked:
        best.setdefault(candidate.text, candidate)
    return list(best.values())
