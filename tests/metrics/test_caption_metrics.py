"""BLEU, ROUGE, CIDEr, chrF and METEOR on token lists, against pycocoevalcap, sacrebleu and slow, direct ones."""

import math
import random
from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.errors import ProjectError
from src.metrics.caption import bleu, chrf, cider, meteor, rouge
from src.metrics.caption.clip_score import clip_score, ref_clip_score
from src.metrics.caption.comparison import Comparison
from src.metrics.caption.ngrams import NgramTable, TokenTable, sorting

WORDS = list("abcde")
tokens = st.lists(st.sampled_from(WORDS), max_size=9)
some_tokens = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9)
images = st.lists(st.tuples(tokens, st.lists(some_tokens, min_size=1, max_size=4)), min_size=1, max_size=6)
Images = list[tuple[list[str], list[list[str]]]]

SAMPLES: dict[str, Images] = {
    "identical": [(list("abcd"), [list("abcd")]), (list("bcde"), [list("bcde"), list("edcb")])],
    "empty candidate": [([], [["a", "b"]]), (["a"], [["a"]])],
    "all empty": [([], [["a"]]), ([], [["b", "c"]])],
    "one word": [(["a"], [["a"]]), (["b"], [["a"], ["c"]])],
    "repeated": [(["a"] * 7, [["a", "b"], ["a", "a"]]), (list("ababab"), [list("ababcab")])],
    "one image": [(list("abc"), [list("abd"), list("abc")])],
    "close lengths": [(list("abcd"), [list("abc"), list("abcde")]), (["a"], [["b"]])],
    "nothing shared": [(["a", "b"], [["c", "d"]]), (["c"], [["e"]])],
}


def comparison(data: Images) -> Comparison:
    return Comparison.of_images([candidate for candidate, _ in data], [references for _, references in data])


def as_coco(data: Images) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    references = {index: [" ".join(item) for item in group] for index, (_, group) in enumerate(data)}
    return references, {index: [" ".join(candidate)] for index, (candidate, _) in enumerate(data)}


def check_against_coco(data: Images) -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    references, candidates = as_coco(data)
    ours = comparison(data)
    corpus, _ = Bleu(4).compute_score(references, candidates, verbose=0)
    np.testing.assert_allclose(bleu.corpus_bleu(ours), corpus, atol=1e-9)
    _, per_image = Rouge().compute_score(references, candidates)
    np.testing.assert_allclose(rouge.rouge_l(ours), per_image, atol=1e-9)
    mean, per_image = Cider().compute_score(references, candidates)
    np.testing.assert_allclose(cider.cider_d(ours), per_image, atol=1e-9)
    assert cider.cider_d(ours).mean() == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize("name", SAMPLES)
def test_equal_to_pycocoevalcap_at_the_edges(name: str) -> None:
    check_against_coco(SAMPLES[name])


@settings(max_examples=150, deadline=None)
@given(images)
def test_equal_to_pycocoevalcap(data: Images) -> None:
    check_against_coco(data)


def test_equal_to_pycocoevalcap_on_longer_captions() -> None:
    draw = random.Random(0)
    words = [f"w{index}" for index in range(300)]
    weights = [1 / (index + 2) for index in range(300)]

    def caption(near: list[str]) -> list[str]:
        return [
            word if draw.random() < 0.6 else draw.choices(words, weights)[0] for word in near if draw.random() < 0.9
        ]

    data = []
    for _ in range(150):
        scene = draw.choices(words, weights, k=draw.randint(5, 80))
        data.append((caption(scene), [caption(scene) or ["w1"] for _ in range(draw.randint(1, 6))]))
    check_against_coco(data)


def slow_cider(data: Images) -> list[float]:
    """Equations 1 to 3 of the paper, term by term."""
    grams = {n: lambda text, n=n: [tuple(text[i : i + n]) for i in range(len(text) - n + 1)] for n in range(1, 5)}
    result = []
    for candidate, references in data:
        value = 0.0
        for of in grams.values():

            def vector(text: list[str], of=of) -> dict[tuple, float]:
                counts = Counter(of(text))
                return {
                    gram: count / sum(counts.values()) * math.log(len(data) / max(1, documents(gram, of)))
                    for gram, count in counts.items()
                }

            def documents(gram: tuple, of=of) -> int:
                return sum(any(gram in of(reference) for reference in group) for _, group in data)

            mine = vector(candidate)
            for reference in references:
                theirs = vector(reference)
                dot = sum(weight * theirs.get(gram, 0.0) for gram, weight in mine.items())
                norm = math.sqrt(sum(w * w for w in mine.values()) * sum(w * w for w in theirs.values()))
                value += dot / norm / len(references) if norm else 0.0
        result.append(10 * value / 4)
    return result


@settings(max_examples=80, deadline=None)
@given(images)
def test_cider_is_the_papers_cosine(data: Images) -> None:
    np.testing.assert_allclose(cider.cider(comparison(data)), slow_cider(data), atol=1e-9)


def test_cider_d_clips_and_cider_does_not() -> None:
    data = [(["a"] * 6, [["a", "b"]]), (["c"], [["c"]]), (["d"], [["d"]])]
    assert cider.cider(comparison(data))[0] > cider.cider_d(comparison(data))[0] > 0
    assert not cider.cider_d(comparison(data[:1])).any()  # one image: every weight is log(1)


@settings(max_examples=100, deadline=None)
@given(some_tokens, st.lists(tokens, min_size=1, max_size=3), st.integers(1, 2))
def test_rouge_n_is_f1_of_the_best_reference(candidate: list[str], references: list[list[str]], n: int) -> None:
    def grams(text: list[str]) -> Counter:
        return Counter(zip(*(text[shift:] for shift in range(n)), strict=False))

    def f1(reference: list[str]) -> float:
        mine, theirs = grams(candidate), grams(reference)
        common = (mine & theirs).total()
        return 2 * common / (mine.total() + theirs.total()) if common else 0.0

    expected = max(map(f1, references))
    assert rouge.rouge_n(comparison([(candidate, references)]), n)[0] == pytest.approx(expected, abs=1e-12)


def test_two_captions_without_tokens_have_nothing_in_common() -> None:
    ours = Comparison.within([[[], []]])
    assert not rouge.pair_rouge_l(ours).any() and not meteor.pair_meteor(ours).any() and not bleu.pair_bleu(ours).any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(tokens, min_size=1, max_size=4), min_size=1, max_size=4))
def test_pairs_are_sentence_scores_with_one_reference(groups: list[list[list[str]]]) -> None:
    ours = Comparison.within(groups)
    flat = [text for group in groups for text in group]
    alone = Comparison.of_images([flat[i] for i in ours.left], [[flat[j]] for j in ours.right])

    def even(comparison: Comparison, n: int) -> np.ndarray:
        return np.ones(comparison.ngrams.order(n).size)

    for pairs, sentence in (
        (bleu.pair_bleu, bleu.sentence_bleu),
        (rouge.pair_rouge_l, rouge.rouge_l),
        (meteor.pair_meteor, meteor.meteor),
        (lambda item: rouge.pair_rouge_n(item, 2), lambda item: rouge.rouge_n(item, 2)),
        (lambda item: cider.pair_cider_d(item, even), lambda item: cider.cider_d(item, even)),
        (lambda item: cider.pair_cider(item, even), lambda item: cider.cider(item, even)),
        (chrf.pair_chrf, lambda item: item.best(chrf.pair_chrf(item))),
    ):
        np.testing.assert_allclose(pairs(ours), sentence(alone), atol=1e-12)


def test_sentence_bleu_is_smoothed_as_said() -> None:
    # 4 of 5 tokens, 2 of 4 pairs, 0 of 3 triples, 0 of 2 fours; one is added from pairs on.
    value = bleu.sentence_bleu(comparison([(list("abxcd"), [list("abycd")])]))[0]
    precision = [4 / 5, 3 / 5, 1 / 4, 1 / 3]
    np.testing.assert_allclose(value, [math.prod(precision[:n]) ** (1 / n) for n in range(1, 5)], atol=1e-8)


letters = st.text(alphabet="가나다라 .a", max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(letters, st.lists(letters, min_size=1, max_size=3)), min_size=1, max_size=5))
def test_chrf_equals_sacrebleu(data: list[tuple[str, list[str]]]) -> None:
    from sacrebleu.metrics import CHRF

    peer = CHRF()
    most = max(len(references) for _, references in data)
    columns = [[item[index] if index < len(item) else None for _, item in data] for index in range(most)]
    candidates = [candidate for candidate, _ in data]
    ours = Comparison.of_images(chrf.characters(candidates), [chrf.characters(references) for _, references in data])
    assert chrf.corpus_chrf(ours) == pytest.approx(peer.corpus_score(candidates, columns).score, abs=1e-9)
    single = [peer.sentence_score(candidate, references).score for candidate, references in data]
    np.testing.assert_allclose(ours.best(chrf.pair_chrf(ours)), single, atol=1e-9)


def alignments(one: list[int], other: list[int], free_one: list[int], free_other: list[int]) -> list[dict[int, int]]:
    """All one-to-one matchings of equal values with as many links as there can be."""
    most = (Counter(one[i] for i in free_one) & Counter(other[j] for j in free_other)).total()
    return [
        dict(zip(chosen, partners, strict=True))
        for chosen in combinations(free_one, most)
        for partners in permutations(free_other, most)
        if all(one[i] == other[j] for i, j in zip(chosen, partners, strict=True))
    ]


def chunks(links: dict[int, int]) -> int:
    return sum(links.get(at - 1, -9) + 1 != partner for at, partner in links.items())


short = st.lists(st.integers(0, 2), max_size=6)


@settings(max_examples=120, deadline=None)
@given(short, short)
def test_alignment_has_most_matches_in_fewest_chunks(one: list[int], other: list[int]) -> None:
    found = {at: link for at, link in enumerate(meteor.align(one, other)) if link >= 0}
    all_of_them = alignments(one, other, list(range(len(one))), list(range(len(other))))
    assert found in all_of_them
    assert chunks(found) == min(map(chunks, all_of_them))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=5),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=5),
)
def test_stems_match_what_exact_matches_leave(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    words, stems = (
        ([item[0] for item in one], [item[0] for item in other]),
        ([i[1] for i in one], [i[1] for i in other]),
    )
    first = alignments(*words, list(range(len(one))), list(range(len(other))))
    fewest = min(map(chunks, first))
    allowed = set()
    for links in (item for item in first if chunks(item) == fewest):
        rest = [at for at in range(len(one)) if at not in links]
        more = alignments(*stems, rest, [at for at in range(len(other)) if at not in links.values()])
        both = [links | item for item in more]
        allowed.add((len(both[0]), min(map(chunks, both))))
    found = {at: link for at, link in enumerate(meteor.align(*words, *stems)) if link >= 0}
    assert (len(found), chunks(found)) in allowed


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["가J", "가V", "이J", "이V", "는J", "개N"]), max_size=7), min_size=2, max_size=4)
)
def test_shortcuts_change_no_alignment(texts: list[list[str]]) -> None:
    stem_of = {"가J": "x", "이J": "x", "가V": "가", "이V": "이", "는J": "y", "개N": "개"}
    forms = [[token[0] for token in text] for text in texts]
    stems = [[stem_of[token] for token in text] for text in texts]
    ours = Comparison.within([forms])
    number = {word: index for index, word in enumerate({*"가이는개xy"})}
    values = meteor.pair_meteor(ours, stems)
    for value, one, other in zip(values, ours.left, ours.right, strict=True):
        one, other = sorted((one, other), key=lambda text: (len(forms[text]), forms[text], text))
        ids = [[number[word] for word in item] for item in (forms[one], forms[other], stems[one], stems[other])]
        links = {at: link for at, link in enumerate(meteor.align(*ids)) if link >= 0}
        if not links:
            assert value == 0
            continue
        penalty = 1 - 0.5 * (chunks(links) / len(links)) ** 3
        reached = len(links) / len(forms[one]), len(links) / len(forms[other])
        values_either_way = [penalty * p * r / (0.9 * p + 0.1 * r) for p, r in (reached, reached[::-1])]
        assert min(abs(value - expected) for expected in values_either_way) < 1e-12


def test_meteor_by_hand() -> None:
    # Four of five match in two chunks, as the paper's formula has it: 10PR / (R + 9P) · (1 − 0.5 · (2/4)³).
    value = meteor.meteor(comparison([(list("abxcd"), [list("abcd")])]))[0]
    assert value == pytest.approx(10 * 0.8 * 1 / (1 + 9 * 0.8) * (1 - 0.5 / 8))
    stems = [["s"], ["s"]]
    assert meteor.meteor(comparison([(["가"], [["이"]])]), stems)[0] == pytest.approx(0.5)
    assert meteor.meteor(comparison([(["가"], [["이"]])]))[0] == 0


def test_meteor_takes_many_repeated_tokens() -> None:
    one, other = list("abcab" * 9), list("bacba" * 9)
    value = meteor.meteor(comparison([(one, [other])]))[0]
    assert 0.5 < value < 1 and value == meteor.meteor(comparison([(one, [other])]))[0]


def test_ngrams_are_counted_right() -> None:
    texts = [list("abab"), [], list("b"), list("bab")]
    table = NgramTable(TokenTable.of(texts))
    for n in (1, 2, 3, 4):
        found = table.order(n)
        places = table.tokens.ids
        named = [tuple(table.tokens.words[i] for i in places[start : start + n]) for start in found.first]
        ours = Counter(
            {(int(t), named[g]): int(c) for t, g, c in zip(found.text, found.gram, found.count, strict=True)}
        )
        theirs = Counter(
            (index, tuple(text[i : i + n])) for index, text in enumerate(texts) for i in range(len(text) - n + 1)
        )
        assert ours == theirs and len(set(named)) == found.size
        assert found.totals.tolist() == [max(len(text) - n + 1, 0) for text in texts]


@given(st.lists(st.integers(0, 2**62), max_size=30))
def test_sorting_is_stable_for_keys_of_any_size(keys: list[int]) -> None:
    assert sorting(np.array(keys, np.int64)).tolist() == sorted(range(len(keys)), key=keys.__getitem__)


def test_clip_scores() -> None:
    np.testing.assert_allclose(clip_score([0.3, -0.2]), [0.75, 0.0])
    np.testing.assert_allclose(ref_clip_score([0.3, -0.2], [[0.5, 0.75], [0.9]]), [0.75, 0.0])
    np.testing.assert_allclose(ref_clip_score([0.2], [[0.25]]), [2 * 0.5 * 0.25 / 0.75])
    with pytest.raises(ProjectError, match="one-dimensional cosines"):
        clip_score([26.0])
    with pytest.raises(ProjectError, match="image number 2 has no reference"):
        ref_clip_score([0.1, 0.2], [[0.1], []])
