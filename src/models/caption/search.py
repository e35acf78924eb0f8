"""Captions of a batch by the method that the decoding options name, for every network with a stepper."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from src.captions.decoding import Candidate, Decoding
from src.models.caption.beam_search import beam_search
from src.models.caption.contrastive_search import contrastive_search
from src.models.caption.sampling import greedy_search, nucleus_sampling
from src.models.caption.stepping import Stepper, different


def search(
    stepper: Stepper,
    decoding: Decoding,
    *,
    decode: Callable[[Sequence[int]], str],
    seeds: Sequence[int] | None = None,
) -> list[list[Candidate]]:
    """1 to `decoding.candidates` different captions an image, best first; scores are mean log-probabilities a token.

    Beam search ranks by its own measure (length penalty, repetition penalty), nucleus sampling by the score.

    Args:
        decode: ids without marks of beginning and end → the text.
        seeds: one an image, for nucleus sampling.
    """
    if decoding.method == "nucleus":
        found = nucleus_sampling(stepper, decoding, seeds=seeds)
    else:
        method = {"greedy": greedy_search, "beam": beam_search, "contrastive": contrastive_search}[decoding.method]
        found = method(stepper, decoding)
    texts = [different([(decode(one.tokens), one.score) for one in group], decoding.candidates) for group in found]
    if decoding.method == "nucleus":
        return [sorted(group, key=lambda candidate: -candidate.score) for group in texts]
    return texts
