"""Beam search over a batch of images, several captions an image."""

from __future__ import annotations

import torch
from torch import Tensor

from src.captions.decoding import Decoding
from src.models.caption.stepping import Found, Rules, Stepper, rows_of


class _Image:
    """The finished captions of one image: the best `limit` by worth."""

    def __init__(self, limit: int) -> None:
        self.limit, self.kept = limit, list[tuple[float, Found]]()

    def add(self, worth: float, found: Found) -> None:
        self.kept.append((worth, found))
        self.kept.sort(key=lambda pair: -pair[0])  # stable: of two alike, the earlier
        del self.kept[self.limit :]

    def beats(self, worth: float) -> bool:
        """No caption worth this much would be kept."""
        return len(self.kept) == self.limit and self.kept[-1][0] >= worth


@torch.no_grad()
def beam_search(stepper: Stepper, decoding: Decoding) -> list[list[Found]]:
    """The captions that a beam of `max(beams, candidates)` finds, as many at most, best first.

    Captions rank by sum of log-probabilities (penalties included) / tokens ** length_penalty, the end counted as a
    token. As in transformers' search, an end counts if it is among the best `beams` continuations, and an image is
    done when its best unfinished caption, at its present length, is worth less than every caption kept.
    """
    rules, width = Rules(decoding, stepper), max(decoding.beams, decoding.candidates)
    results = [_Image(width) for _ in range(stepper.images)]
    if not results:
        return []
    step = stepper.begin()
    device, ends = step.logits.device, torch.tensor(list(stepper.ends), device=step.logits.device)
    active = torch.arange(stepper.images, device=device)
    worth = torch.zeros(stepper.images, 1, device=device)  # (I, K), sums
    plain = torch.zeros_like(worth)
    tokens = torch.empty(stepper.images, 1, 0, dtype=torch.long, device=device)  # (I, K, T)
    while True:
        images, beams, length = tokens.shape
        log_plain, log_worth = rules(step.logits, tokens.flatten(0, 1))
        total = (worth.unsqueeze(-1) + log_worth.view(images, beams, -1)).flatten(1)
        size = log_worth.shape[-1]
        top, index = total.topk(min((1 + len(ends)) * width, total.shape[1]), dim=1)
        origin, word = index // size, index % size
        sums = plain.gather(1, origin) + log_plain.view(images, -1).gather(1, index)
        ended = torch.isin(word, ends)
        _collect(results, active, tokens, origin, sums, top, ended & top.isfinite(), width, decoding.length_penalty)

        top = top.masked_fill(ended, -torch.inf)
        worth, order = top.topk(min(width, top.shape[1]), dim=1)
        origin, word, plain = origin.gather(1, order), word.gather(1, order), sums.gather(1, order)
        best = (worth[:, 0] / (length + 1) ** decoding.length_penalty).tolist()
        going = [not results[image].beats(value) for image, value in zip(active.tolist(), best, strict=True)]
        alive = worth[:, 0].isfinite() & torch.tensor(going, device=device)
        if not alive.any():
            return [[found for _, found in image.kept] for image in results]
        left = alive.nonzero().flatten()
        rows = rows_of(left, beams).view(len(left), beams).gather(1, origin[left])
        tokens = tokens[left].gather(1, origin[left][..., None].expand(-1, -1, length))
        tokens = torch.cat([tokens, word[left][..., None]], dim=-1)
        worth, plain, active = worth[left], plain[left], active[left]
        step = stepper.advance(word[left].flatten(), rows.flatten())


def _collect(
    results: list[_Image],
    active: Tensor,
    tokens: Tensor,
    origin: Tensor,
    sums: Tensor,
    worth: Tensor,
    ended: Tensor,
    width: int,
    penalty: float,
) -> None:
    """Keep the captions that end among the first `width` continuations."""
    length = tokens.shape[-1] + 1
    for image, place in ended[:, :width].nonzero().tolist():
        words = tuple(tokens[image, origin[image, place]].tolist())
        found = Found(words, float(sums[image, place]) / length)
        results[int(active[image])].add(float(worth[image, place]) / length**penalty, found)
