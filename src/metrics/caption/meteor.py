"""METEOR for Korean (Banerjee and Lavie 2005): tokens matched exactly, then by stem, fewest chunks preferred.

Stages and formula are the paper's, its constants written as in Lavie and Agarwal 2007 (alpha 0.9, beta 3, gamma 0.5).
Its third stage, synonyms of WordNet, has no Korean counterpart here and is left out, and the constants are not tuned
to Korean judgements: values compare captions of one language with each other, not with METEOR's of English.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from src.metrics.caption.comparison import Comparison
from src.metrics.caption.ngrams import TokenTable

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5
BREADTH = 64  # partial alignments kept at each token; more exist only for texts that repeat several tokens often

Places = dict[int, list[int]]
Doubtful = dict[int, tuple[list[int], list[int]]]  # of a value that has several partners to choose from: its places


def meteor(comparison: Comparison, stems: Sequence[Sequence[str]] | None = None) -> np.ndarray:
    """(L,) METEOR, from 0 to 1, against the reference that gives most.

    stems: parallel to the comparison's texts; None matches exactly alone.
    """
    return comparison.best(pair_meteor(comparison, stems))


def pair_meteor(comparison: Comparison, stems: Sequence[Sequence[str]] | None = None) -> np.ndarray:
    """(P,) METEOR of each pair: F of precision and recall, recall weighted 9 to 1, less a penalty for many chunks."""
    lengths = comparison.table.lengths
    matches, chunks = _alignments(comparison, stems)
    precision = matches / np.maximum(lengths[comparison.left], 1)
    recall = matches / np.maximum(lengths[comparison.right], 1)
    below = ALPHA * precision + (1 - ALPHA) * recall
    mean = np.divide(precision * recall, below, out=np.zeros_like(below), where=matches > 0)
    return mean * (1 - GAMMA * (chunks / np.maximum(matches, 1)) ** BETA)


def align(
    one: Sequence[int],
    other: Sequence[int],
    one_stems: Sequence[int] | None = None,
    other_stems: Sequence[int] | None = None,
    *,
    fewest: float = 0,
) -> list[int]:
    """For each token of `one` its partner in `other`, or −1: as many exact matches as there can be, in fewest chunks;
    then as many matches of stems among the rest, again in fewest chunks.

    fewest: no alignment of exact matches has fewer chunks than this; saves looking for one.
    """
    links = _stage(one, _places(tuple(one)), _places(tuple(other)), [-1] * len(one), fewest)
    if one_stems is None or other_stems is None:
        return links
    taken = set(links)
    rest = _free(other_stems, (at for at in range(len(other)) if at not in taken))
    mine = _free(one_stems, (at for at, link in enumerate(links) if link < 0))
    return _stage(one_stems, mine, rest, links, 0) if not mine.keys().isdisjoint(rest) else links


def _alignments(comparison: Comparison, stems: Sequence[Sequence[str]] | None) -> tuple[np.ndarray, np.ndarray]:
    """(P,) matches and (P,) chunks of each pair."""
    matches = comparison.matches(1)
    # Each pair of neighbours that both texts hold joins two matches at best, and does so where no matched token is
    # repeated: there is one alignment then.
    fewest = matches - comparison.matches(2)
    shared = comparison.shared(1)
    repeated = (shared.left > 1) | (shared.right > 1)
    searched = comparison.sum_of_pairs(shared.pair, repeated) > 0
    if stems is not None:
        marked = [list(zip(text, item, strict=True)) for text, item in zip(comparison.texts, stems, strict=True)]
        # Where no more stems are in common than tokens with their stems, the second stage has nothing to match.
        searched |= comparison.like(stems).matches(1) > comparison.like(marked).matches(1)
    chunks = fewest.copy()
    at = np.flatnonzero(searched)
    tokens = _numbers(comparison.table)
    stem_ids = None if stems is None else _numbers(TokenTable.of(stems))
    # One order for both directions, whatever the vocabulary: a pair has the same alignment either way.
    rank = np.empty(len(tokens), np.int64)
    rank[sorted(range(len(tokens)), key=lambda text: (len(tokens[text]), comparison.texts[text]))] = range(len(tokens))
    left, right = comparison.left[at], comparison.right[at]
    forward = rank[left] <= rank[right]
    ordered = np.stack([np.where(forward, left, right), np.where(forward, right, left)], axis=1).tolist()
    known: dict[tuple[int, int], tuple[int, int]] = {}
    found = []
    for (one, other), bound in zip(ordered, fewest[at].tolist(), strict=True):
        if (one, other) not in known:
            of_stems = () if stem_ids is None else (stem_ids[one], stem_ids[other])
            known[one, other] = _counted(align(tokens[one], tokens[other], *of_stems, fewest=bound))
        found.append(known[one, other])
    matches[at], chunks[at] = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return matches, chunks


def _numbers(table: TokenTable) -> list[tuple[int, ...]]:
    """Each text's tokens as numbers."""
    ids, offsets = tuple(table.ids.tolist()), table.offsets.tolist()
    return [ids[start:end] for start, end in zip(offsets[:-1], offsets[1:], strict=True)]


def _counted(links: list[int]) -> tuple[int, int]:
    """Matches, and chunks: runs that are neighbours in the same order in both texts."""
    matches = chunks = 0
    before = -2
    for link in links:
        if link >= 0:
            matches += 1
            chunks += link != before + 1
        before = link if link >= 0 else -2
    return matches, chunks


@lru_cache(maxsize=4096)
def _places(values: tuple[int, ...]) -> Places:
    """Where each value stands; not to be changed."""
    return _free(values, range(len(values)))


def _free(values: Sequence[int], at: Iterable[int]) -> Places:
    """Where each value stands among the given places."""
    result: Places = {}
    for index in at:
        result.setdefault(values[index], []).append(index)
    return result


def _stage(values: Sequence[int], mine: Places, theirs: Places, links: list[int], fewest: float) -> list[int]:
    """`links` and as many more as values allow, in fewest chunks altogether.

    mine, theirs: the free places of each value in either text.
    """
    result, doubtful = list(links), {}
    for value, places in mine.items():
        partners = theirs.get(value)
        if partners:
            if len(places) == 1 == len(partners):
                result[places[0]] = partners[0]
            else:
                doubtful[value] = (places, partners)
    if not doubtful:
        return result
    quick = _beside(values, doubtful, result)
    return quick if _counted(quick)[1] <= fewest else _searched(values, doubtful, result)


def _beside(values: Sequence[int], doubtful: Doubtful, fixed: list[int]) -> list[int]:
    """A guess: the partner beside that of the token before, or of the token after, or the first that is free."""
    result = list(fixed)
    free = {partner: value for value, (_, partners) in doubtful.items() for partner in partners}
    places = sorted(at for at_value, _ in doubtful.values() for at in at_value)
    for order, step in ((places, 1), (places[::-1], -1)):
        for at in order:
            if result[at] < 0 and 0 <= at - step < len(result) and result[at - step] >= 0:
                partner = result[at - step] + step
                if free.get(partner) == values[at]:
                    result[at] = partner
                    del free[partner]
    for at in places:
        if result[at] < 0:
            partner = next((partner for partner in doubtful[values[at]][1] if partner in free), -1)
            result[at] = partner
            free.pop(partner, None)
    return result


def _searched(values: Sequence[int], doubtful: Doubtful, fixed: list[int]) -> list[int]:
    """The best by search from left to right: a state is which free places are taken, and the partner just before."""
    # Of each open place: how many of its value came before, the value's partners, their bits, how many stay without.
    open_at = {
        at: (seen, partners, sum(1 << partner for partner in partners), max(0, len(places) - len(partners)))
        for places, partners in doubtful.values()
        for seen, at in enumerate(places)
    }
    states: dict[tuple[int, int], tuple[int, tuple | None]] = {(0, -2): (0, None)}
    for at, link in enumerate(fixed):
        following: dict[tuple[int, int], tuple[int, tuple | None]] = {}
        for (taken, before), (chunks, trail) in states.items():
            if at not in open_at:
                cost = chunks + (link >= 0 and link != before + 1)
                options = [((taken, link if link >= 0 else -2), cost, trail)]
            else:
                seen, partners, mask, spare = open_at[at]
                options = [
                    ((taken | 1 << partner, partner), chunks + (partner != before + 1), ((at, partner), trail))
                    for partner in partners
                    if not taken >> partner & 1
                ]
                if seen - (taken & mask).bit_count() < spare:
                    options.append(((taken, -2), chunks, trail))
            for state, cost, path in options:
                if state not in following or cost < following[state][0]:
                    following[state] = (cost, path)
        if len(following) > BREADTH:
            best = sorted(following.items(), key=lambda item: (item[1][0], item[0]))[:BREADTH]
            following = dict(best)
        states = following
    _, trail = min(states.values(), key=lambda item: item[0])
    result = list(fixed)
    while trail is not None:
        (at, partner), trail = trail
        result[at] = partner
    return result
