"""METEOR for Korean (Banerjee and Lavie 2005): tokens matched exactly, then by stem, fewest chunks preferred.

Stages and formula are the paper's, its constants written as in Lavie and Agarwal 2007 (alpha 0.9, beta 3, gamma 0.5).
Its third stage, synonyms of WordNet, has no Korean counterpart here and is left out, and the constants are not tuned
to Korean judgements: values compare captions of one language with each other, not with METEOR's of English.
"""

from collections.abc import Sequence

import numpy as np

from src.metrics.caption.comparison import Comparison
from src.metrics.caption.ngrams import TokenTable

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5
BREADTH = 64  # partial alignments kept at each token; more exist only for texts that repeat several tokens often

Places = dict[int, list[int]]


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
    one: Sequence[int], other: Sequence[int], one_stems: Sequence[int] | None, other_stems: Sequence[int] | None
) -> list[int]:
    """For each token of `one` its partner in `other`, or −1: as many exact matches as there can be, in fewest chunks;
    then as many matches of stems among the rest, again in fewest chunks."""
    links = _stage(one, _places(one), _places(other), [-1] * len(one))
    if one_stems is None or other_stems is None:
        return links
    taken = set(links)
    rest = _places(other_stems, [at for at in range(len(other)) if at not in taken])
    mine = _places(one_stems, [at for at, link in enumerate(links) if link < 0])
    return _stage(one_stems, mine, rest, links) if not mine.keys().isdisjoint(rest) else links


def _alignments(comparison: Comparison, stems: Sequence[Sequence[str]] | None) -> tuple[np.ndarray, np.ndarray]:
    """(P,) matches and (P,) chunks of each pair."""
    tokens = _split(comparison.table)
    stem_ids = None if stems is None else _split(TokenTable.of(stems))
    matches, chunks = np.zeros(len(comparison.left)), np.zeros(len(comparison.left))
    known: dict[tuple[int, int], tuple[int, int]] = {}
    for index, pair in enumerate(zip(comparison.left.tolist(), comparison.right.tolist(), strict=True)):
        # One order for both directions, whatever the vocabulary: a pair has the same alignment either way.
        one, other = sorted(pair, key=lambda text: (len(tokens[text]), comparison.texts[text]))
        if (one, other) not in known:
            of_stems = (None, None) if stem_ids is None else (stem_ids[one], stem_ids[other])
            known[one, other] = _counted(align(tokens[one], tokens[other], *of_stems))
        matches[index], chunks[index] = known[one, other]
    return matches, chunks


def _split(table: TokenTable) -> list[list[int]]:
    ids, offsets = table.ids.tolist(), table.offsets.tolist()
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


def _places(values: Sequence[int], at: Sequence[int] | None = None) -> Places:
    """Where each value stands, of all places or of those given."""
    result: Places = {}
    for index in range(len(values)) if at is None else at:
        result.setdefault(values[index], []).append(index)
    return result


def _stage(values: Sequence[int], mine: Places, theirs: Places, links: list[int]) -> list[int]:
    """`links` and as many more as values allow, in fewest chunks altogether.

    mine, theirs: the free places of each value in either text.
    """
    result, doubtful = list(links), False
    for value, places in mine.items():
        partners = theirs.get(value)
        if partners:
            if len(places) == 1 == len(partners):
                result[places[0]] = partners[0]
            else:
                doubtful = True
    return _searched(values, mine, theirs, result) if doubtful else result


def _searched(values: Sequence[int], mine: Places, theirs: Places, fixed: list[int]) -> list[int]:
    """The same by search from left to right: a state is which free places are taken and the partner just before."""
    open_at = {
        at: (places.index(at), theirs[value], max(0, len(places) - len(theirs[value])))
        for value, places in mine.items()
        if value in theirs
        for at in places
        if fixed[at] < 0
    }
    masks = {value: sum(1 << at for at in places) for value, places in theirs.items()}
    states: dict[tuple[int, int], tuple[int, tuple | None]] = {(0, -2): (0, None)}
    for at, link in enumerate(fixed):
        following: dict[tuple[int, int], tuple[int, tuple | None]] = {}

        def offer(state: tuple[int, int], chunks: int, trail: tuple | None, into: dict = following) -> None:
            if state not in into or chunks < into[state][0]:
                into[state] = (chunks, trail)

        for (taken, before), (chunks, trail) in states.items():
            if at not in open_at:
                offer((taken, link if link >= 0 else -2), chunks + (link >= 0 and link != before + 1), trail)
                continue
            seen, partners, spare = open_at[at]
            for partner in partners:
                if not taken >> partner & 1:
                    offer((taken | 1 << partner, partner), chunks + (partner != before + 1), ((at, partner), trail))
            if seen - (taken & masks[values[at]]).bit_count() < spare:
                offer((taken, -2), chunks, trail)
        if len(following) > BREADTH:
            kept = sorted(following.items(), key=lambda item: (item[1][0], item[0]))[:BREADTH]
            following = dict(kept)
        states = following
    _, trail = min(states.values(), key=lambda item: item[0])
    result = list(fixed)
    while trail is not None:
        (at, partner), trail = trail
        result[at] = partner
    return result
