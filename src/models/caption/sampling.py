"""One token after another without looking ahead: the likeliest (greedy), or drawn from the nucleus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from src.captions.decoding import Decoding
from src.models.caption.stepping import Found, Rules, Stepper, rows_of


def greedy_search(stepper: Stepper, decoding: Decoding) -> list[list[Found]]:
    """The caption of each image made of the likeliest next tokens."""
    return _write(stepper, decoding, samples=1, choose=lambda worth, rows, step: worth.argmax(dim=-1))


def nucleus_sampling(stepper: Stepper, decoding: Decoding, *, seeds: Sequence[int] | None = None) -> list[list[Found]]:
    """Captions drawn from the smallest sets of tokens that hold `top_p` of the probability (Holtzman et al. 2020).

    Twice `candidates` are drawn, so that as many may differ; in the order in which they were drawn. An image's draws
    follow from `decoding.seed` and its own seed (its place in the batch where there are none), not from its batch.
    """
    samples, images = 2 * decoding.candidates, stepper.images
    seeds = range(images) if seeds is None else seeds
    if len(seeds) != images:
        raise ValueError(f"{len(seeds)} seeds for {images} images")
    draws = np.stack(
        [
            np.random.default_rng([decoding.seed, int(seed) % 2**64]).random((decoding.max_tokens + 1, samples))
            for seed in seeds
        ]
        or [np.empty((0, 0, 0))]
    )  # (I, steps, samples)

    def choose(worth: Tensor, rows: Tensor, step: int) -> Tensor:
        chance, order = (worth / decoding.temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        before = chance.cumsum(dim=-1) - chance
        chance = chance.masked_fill(before >= decoding.top_p, 0.0)
        heights = chance.cumsum(dim=-1)
        image, sample = (part.cpu().numpy() for part in (rows // samples, rows % samples))
        drawn = torch.as_tensor(draws[image, step, sample], dtype=heights.dtype, device=heights.device)
        place = torch.searchsorted(heights, (drawn * heights[:, -1])[:, None], right=True)
        last = (chance > 0).sum(dim=-1, keepdim=True) - 1  # rounding must not step outside the nucleus
        return order.gather(1, place.minimum(last)).squeeze(1)

    return _write(stepper, decoding, samples=samples, choose=choose)


@torch.no_grad()
def _write(
    stepper: Stepper, decoding: Decoding, *, samples: int, choose: Callable[[Tensor, Tensor, int], Tensor]
) -> list[list[Found]]:
    """`samples` captions an image, each token by `choose(log-probabilities (R, V), original rows (R,), step)`."""
    if not stepper.images:
        return []
    rules, step = Rules(decoding, stepper), stepper.begin()
    device = step.logits.device
    ends = torch.tensor(list(stepper.ends), device=device)
    rows = torch.arange(stepper.images * samples, device=device)  # of the whole batch, those still in the network
    origin = rows // samples  # the network's rows that they continue: at first one an image
    tokens = torch.empty(len(rows), 0, dtype=torch.long, device=device)
    sums, open_ = torch.zeros(len(rows), device=device), torch.ones(len(rows), dtype=torch.bool, device=device)
    found: list[Found | None] = [None] * len(rows)
    length = 0
    while True:
        plain, worth = rules(step.logits[origin], tokens)
        word = choose(worth, rows, length)
        sums = sums + plain.gather(1, word[:, None]).squeeze(1)
        length += 1
        for place in (open_ & torch.isin(word, ends)).nonzero().flatten().tolist():
            found[int(rows[place])] = Found(tuple(tokens[place].tolist()), float(sums[place]) / length)
        open_ = open_ & ~torch.isin(word, ends)
        # rows of an image stay until its last is finished: the network wants equally many an image
        left = rows_of(open_.view(-1, samples).any(dim=1).nonzero().flatten(), samples)
        if not len(left):
            return [found[start : start + samples] for start in range(0, len(found), samples)]  # type: ignore[misc]
        step = stepper.advance(word[left], origin[left])
        tokens = torch.cat([tokens[left], word[left, None]], dim=1)
        rows, sums, open_, origin = rows[left], sums[left], open_[left], torch.arange(len(left), device=device)
