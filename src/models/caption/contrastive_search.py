"""Contrastive search: probable next tokens that do not repeat what the caption already means."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from src.captions.decoding import Decoding
from src.models.caption.stepping import Found, Rules, Stepper, rows_of


@torch.no_grad()
def contrastive_search(stepper: Stepper, decoding: Decoding) -> list[list[Found]]:
    """One caption an image (Su et al. 2022, equation 5).

    Of the `contrastive_k` likeliest tokens, the one with the highest (1 - alpha) · p - alpha · (largest cosine
    similarity of its hidden state with those of the tokens before it). All k are tried in one step of the network. An
    end of the caption competes by the same rule. The stepper must answer hidden states.
    """
    if not stepper.images:
        return []
    rules, alpha = Rules(decoding, stepper), decoding.contrastive_alpha
    step = stepper.begin()
    if step.hidden is None:
        raise ValueError("contrastive search needs the stepper's hidden states")
    device, ends = step.logits.device, set(stepper.ends)
    hidden = step.hidden[:, None] if step.hidden.ndim == 2 else step.hidden
    past = F.normalize(hidden.float(), dim=-1)  # (I, T, D)
    logits, rows = step.logits, torch.arange(stepper.images, device=device)  # one row an image
    active = rows
    tokens = torch.empty(stepper.images, 0, dtype=torch.long, device=device)
    sums = torch.zeros(stepper.images, device=device)
    found: list[list[Found]] = [[] for _ in range(stepper.images)]
    while True:
        plain, worth = rules(logits, tokens)
        chance, words = worth.softmax(dim=-1).topk(min(decoding.contrastive_k, worth.shape[1]), dim=-1)  # (I, k)
        count = words.shape[1]
        step = stepper.advance(words.flatten(), rows.repeat_interleave(count))
        tried = F.normalize(step.hidden.float(), dim=-1).view(len(words), count, -1)
        resemblance = (tried @ past.transpose(1, 2)).amax(dim=-1)
        value = (1 - alpha) * chance - alpha * resemblance
        value = value.masked_fill(worth.gather(1, words).isinf(), -torch.inf)
        pick = value.argmax(dim=-1, keepdim=True)
        word = words.gather(1, pick).squeeze(1)
        sums = sums + plain.gather(1, word[:, None]).squeeze(1)
        going = [token not in ends for token in word.tolist()]
        for place in [place for place, goes in enumerate(going) if not goes]:
            score = float(sums[place]) / (tokens.shape[1] + 1)
            found[int(active[place])].append(Found(tuple(tokens[place].tolist()), score))
        left = torch.tensor(going, device=device).nonzero().flatten()
        if not len(left):
            return found
        # the step that tried k rows an image is the step that the chosen row goes on from
        rows = rows_of(left, count).view(len(left), count).gather(1, pick[left]).squeeze(1)
        logits = step.logits[rows]
        past = torch.cat([past[left], tried[left].gather(1, pick[left][..., None].expand(-1, -1, tried.shape[-1]))], 1)
        tokens = torch.cat([tokens[left], word[left, None]], dim=1)
        sums, active = sums[left], active[left]
