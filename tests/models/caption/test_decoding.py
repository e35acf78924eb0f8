"""Decoding over toy networks whose every caption can be listed, and over transformers' own search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.captions.decoding import Decoding
from src.models.caption.beam_search import beam_search
from src.models.caption.contrastive_search import contrastive_search
from src.models.caption.sampling import greedy_search, nucleus_sampling
from src.models.caption.search import search
from src.models.caption.stepping import Rules, Step, Stepper, different

END, PAD, BEGIN = 0, 1, 2
METHODS = ("greedy", "beam", "nucleus", "contrastive")


class Toy(Stepper):
    """Logits that depend on everything written, by random tables: no shortcut is right by chance."""

    def __init__(self, images: int, *, size: int = 6, seed: int = 0, sharp: float = 1.5, first: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.start = torch.randn(16, 8, generator=draw)[first : first + images]
        self.images, self.ends, self.banned = images, (END,), (PAD,)
        self.size = size
        self.mix, self.word = torch.randn(8, 8, generator=draw), torch.randn(size, 8, generator=draw)
        self.out = sharp * torch.randn(8, size, generator=draw)
        self.written: list[list[int]] = []
        self.state = self.start

    def begin(self) -> Step:
        self.written = [[] for _ in range(self.images)]
        return self._step()

    def advance(self, tokens: Tensor, rows: Tensor) -> Step:
        self.written = [self.written[row] + [token] for row, token in zip(rows.tolist(), tokens.tolist(), strict=True)]
        self.state = self.then(self.state[rows], tokens)
        return self._step()

    def then(self, state: Tensor, tokens: Tensor) -> Tensor:
        return torch.tanh(state @ self.mix + self.word[tokens])

    def _step(self) -> Step:
        return Step(self.state @ self.out, self.state)

    def log_probs(self, image: int, tokens: tuple[int, ...]) -> list[float]:
        """Log-probabilities of these tokens and of the end behind them."""
        state, result = self.start[image : image + 1], []
        for token in (*tokens, END):
            result.append(float((state @ self.out).log_softmax(-1)[0, token]))
            state = self.then(state, torch.tensor([token]))
        return result


def every(toy: Toy, image: int, options: Decoding) -> list[tuple[float, tuple[int, ...], float]]:
    """All captions that the rules allow as (worth, tokens, score), best first."""
    words = [word for word in range(toy.size) if word not in (END, PAD)]
    result = []
    for length in range(options.min_tokens, options.max_tokens + 1):
        for tokens in itertools.product(words, repeat=length):
            n = options.no_repeat_ngram
            grams = [tokens[i : i + n] for i in range(length - n + 1)] if n else []
            if len(set(grams)) < len(grams):
                continue
            plain = toy.log_probs(image, tokens)
            penalty = options.repetition_penalty
            worth = sum(
                value * (penalty if place < length and tokens[place] in tokens[:place] else 1.0)
                for place, value in enumerate(plain)
            )
            size = length + 1
            result.append((worth / size**options.length_penalty, tokens, sum(plain) / size))
    return sorted(result, reverse=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"length_penalty": 0.0},
        {"length_penalty": 2.0},
        {"min_tokens": 3},
        {"no_repeat_ngram": 2},
        {"no_repeat_ngram": 1, "min_tokens": 0},
        {"repetition_penalty": 1.7},
    ],
    ids=str,
)
def test_a_beam_wide_enough_finds_the_best_of_all_captions(options: dict) -> None:
    decoding = Decoding(max_tokens=4, beams=400, candidates=5, **options)
    toy = Toy(3, size=5, seed=1)
    found = beam_search(toy, decoding)
    for image in range(3):
        wanted = every(toy, image, decoding)
        assert [one.tokens for one in found[image][:20]] == [tokens for _, tokens, _ in wanted[:20]]
        np.testing.assert_allclose([one.score for one in found[image][:20]], [s for *_, s in wanted[:20]], rtol=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("ngram", [0, 2])
def test_beam_search_equals_that_of_transformers(length_penalty: float, ngram: int) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, LogitsProcessor, NoRepeatNGramLogitsProcessor

    torch.manual_seed(0)
    size, limit, beams = 30, 12, 4
    shape = {"vocab_size": size, "n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=BEGIN, eos_token_id=END, tie_word_embeddings=False)).eval()
    torch.nn.init.normal_(model.lm_head.weight, std=0.3)  # chances as uneven as a trained network's
    model.transformer.ln_f.bias.data = 1.2 * F.normalize(model.lm_head.weight.data[END], dim=0)  # captions end early

    class Last(LogitsProcessor):
        """A caption as long as may be must end, at its real price; padding and beginning are never written."""

        def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
            scores = scores.clone()
            if ngram:
                scores = NoRepeatNGramLogitsProcessor(ngram)(ids[:, prompt.shape[1] :], scores)
            scores[:, [PAD, BEGIN]] = -torch.inf
            if ids.shape[1] - prompt.shape[1] >= limit:
                scores[:, END + 1 :] = -torch.inf
            return scores

    class Gpt2(Stepper):
        images, ends, banned = 5, (END,), (PAD, BEGIN)

        def begin(self) -> Step:
            self.ids = prompt
            return self.run()

        def advance(self, tokens: Tensor, rows: Tensor) -> Step:
            self.ids = torch.cat([self.ids[rows], tokens[:, None]], dim=1)
            return self.run()

        def run(self) -> Step:
            return Step(model(self.ids).logits[:, -1])

    prompt = torch.cat([torch.full((5, 1), BEGIN), torch.arange(5, 10)[:, None]], dim=1)
    theirs = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=limit + 1,
        length_penalty=length_penalty,
        logits_processor=[Last()],
        pad_token_id=PAD,
        output_scores=True,
        return_dict_in_generate=True,
        do_sample=False,
    )
    ours = beam_search(
        Gpt2(),
        Decoding(
            beams=beams,
            candidates=beams,
            max_tokens=limit,
            min_tokens=0,
            length_penalty=length_penalty,
            no_repeat_ngram=ngram,
        ),
    )
    texts = [row[2:].tolist() for row in theirs.sequences]
    texts = [row[: row.index(END)] for row in texts]
    assert [list(one.tokens) for group in ours for one in group] == texts
    assert len({len(text) for text in texts}) > 1
    if length_penalty == 1.0:
        scores = [one.score for group in ours for one in group]
        np.testing.assert_allclose(scores, theirs.sequences_scores.numpy(), rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_an_image_does_not_depend_on_its_batch_mates(method: str) -> None:
    decoding = Decoding(method=method, max_tokens=12, beams=3, candidates=3)
    seeds = [7, 8, 9, 10]
    together = search(Toy(4), decoding, decode=str, seeds=seeds)
    for image in range(4):
        alone = search(Toy(1, first=image), decoding, decode=str, seeds=seeds[image : image + 1])[0]
        assert [one.text for one in alone] == [one.text for one in together[image]]
        np.testing.assert_allclose([one.score for one in alone], [one.score for one in together[image]], rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("ngram", "low", "high"), [(2, 4, 9), (1, 2, 3), (3, 0, 14), (0, 14, 14)])
def test_rules_hold(method: str, ngram: int, low: int, high: int) -> None:
    decoding = Decoding(method=method, no_repeat_ngram=ngram, min_tokens=low, max_tokens=high, temperature=3.0)
    results = search(Toy(8, seed=3), decoding, decode=lambda ids: ",".join(map(str, ids)))
    for group in results:
        assert 1 <= len(group) <= decoding.candidates
        texts = [one.text for one in group]
        assert len(set(texts)) == len(texts)
        if method in ("beam", "nucleus"):
            assert [one.score for one in group] == sorted([one.score for one in group], reverse=True)
        for text in texts:
            tokens = text.split(",") if text else []
            assert low <= len(tokens) <= high
            assert not {str(END), str(PAD)} & set(tokens)
            grams = [tuple(tokens[i : i + ngram]) for i in range(len(tokens) - ngram + 1)] if ngram else []
            assert len(set(grams)) == len(grams)


def test_a_caption_ends_where_the_rules_leave_no_word() -> None:
    # three words, none twice, at least nine: after three there is nothing to say
    decoding = Decoding(no_repeat_ngram=1, min_tokens=9, max_tokens=12, candidates=2, beams=2)
    for method in (greedy_search, beam_search, contrastive_search):
        assert all(len(one.tokens) == 3 for group in method(Toy(2, size=5), decoding) for one in group)


def test_greedy_takes_the_likeliest_token_each_time() -> None:
    toy = Toy(3, seed=5)
    for image, (found,) in enumerate(greedy_search(toy, Decoding(method="greedy", max_tokens=6, min_tokens=0))):
        state, tokens = toy.start[image : image + 1], []
        for _ in range(6):
            logits = (state @ toy.out)[0].clone()
            logits[PAD] = -torch.inf
            if int(logits.argmax()) == END:
                break
            tokens.append(int(logits.argmax()))
            state = toy.then(state, logits.argmax()[None])
        assert found.tokens == tuple(tokens)
        assert found.score == pytest.approx(np.mean(toy.log_probs(image, found.tokens)), rel=1e-5)


def test_nucleus_draws_by_probability_and_from_the_nucleus_alone() -> None:
    class Flat(Toy):
        def _step(self) -> Step:
            chances = torch.tensor([1e-9, 1e-9, 0.5, 0.3, 0.15, 0.05]).log()
            return Step(chances.expand(len(self.state), -1), self.state)

    decoding = Decoding(method="nucleus", max_tokens=1, min_tokens=1, top_p=0.9, candidates=2000)
    groups = nucleus_sampling(Flat(2), decoding, seeds=[1, 2])
    assert groups[0] != groups[1]
    drawn = [one.tokens[0] for group in groups for one in group]
    shares = np.bincount(drawn, minlength=6) / len(drawn)
    np.testing.assert_allclose(shares[2:5], np.array([0.5, 0.3, 0.15]) / 0.95, atol=0.02)
    assert shares[5] == 0  # the first three hold 0.95
    cold = nucleus_sampling(Flat(1), Decoding(method="nucleus", max_tokens=1, min_tokens=1, temperature=0.01))
    assert {one.tokens[0] for one in cold[0]} == {2}


def test_seeds_decide_the_samples() -> None:
    def texts(seeds: list[int], seed: int = 0) -> list[list[str]]:
        decoding = Decoding(method="nucleus", max_tokens=10, temperature=2.0, top_p=1.0, seed=seed)
        return [[one.text for one in group] for group in search(Toy(2), decoding, decode=str, seeds=seeds)]

    assert texts([3, 4]) == texts([3, 4])
    assert texts([3, 4])[0] == texts([3, 5])[0]
    assert texts([3, 4])[1] != texts([3, 5])[1]
    assert texts([3, 4]) != texts([3, 4], seed=1)
    assert texts([-1, 2**70]) == texts([-1, 2**70])
    with pytest.raises(ValueError, match="seeds"):
        texts([1])


def test_contrastive_search_follows_its_equation() -> None:
    k, alpha, limit = 3, 0.6, 6
    toy = Toy(4, seed=2)
    decoding = Decoding(method="contrastive", contrastive_k=k, contrastive_alpha=alpha, max_tokens=limit, min_tokens=0)
    for image, (found,) in enumerate(contrastive_search(toy, decoding)):
        state, past, tokens = toy.start[image], [toy.start[image]], []
        while len(tokens) < limit:
            logits = (state @ toy.out).clone()
            logits[PAD] = -torch.inf
            best = None
            for chance, token in zip(*logits.softmax(-1).topk(k), strict=True):
                hidden = toy.then(state[None], token[None])[0]
                alike = max(float(F.cosine_similarity(hidden, other, dim=0)) for other in past)
                value = (1 - alpha) * float(chance) - alpha * alike
                if best is None or value > best[0]:
                    best = (value, int(token), hidden)
            if best[1] == END:
                break
            tokens.append(best[1])
            state = best[2]
            past.append(state)
        assert found.tokens == tuple(tokens)
    without = contrastive_search(Toy(4, seed=2), Decoding(contrastive_alpha=0.0, max_tokens=limit, min_tokens=0))
    assert without[0][0].tokens == greedy_search(Toy(4, seed=2), Decoding(max_tokens=limit, min_tokens=0))[0][0].tokens


def test_several_ends_end_a_caption() -> None:
    def toy() -> Toy:
        result = Toy(4, seed=4)
        result.ends = (END, 2)
        return result

    decoding = Decoding(max_tokens=8, min_tokens=0, candidates=3, beams=3)
    for method in (greedy_search, beam_search, nucleus_sampling, contrastive_search):
        assert all(2 not in one.tokens for group in method(toy(), decoding) for one in group)
    assert all(group for group in beam_search(toy(), decoding))


def test_penalty_makes_repeating_less_likely() -> None:
    rules = Rules(Decoding(repetition_penalty=2.0, min_tokens=0), Toy(1))
    plain, worth = rules(torch.zeros(1, 6), torch.tensor([[3, 3]]))
    assert worth[0, 3] == pytest.approx(2 * float(plain[0, 3]))
    assert worth[0, 2] == plain[0, 2]


def test_different_texts_first_ones_first_and_empty_last() -> None:
    found = [(" a", -1.0), ("a ", -2.0), ("", -2.5), ("b", -3.0), ("c", -4.0)]
    assert different(found, 2) == [("a", -1.0), ("b", -3.0)]
    assert different([("", -1.0)], 3) == [("", -1.0)]


@pytest.mark.parametrize("method", METHODS)
def test_no_image_no_caption(method: str) -> None:
    assert search(Toy(0), Decoding(method=method), decode=str, seeds=[]) == []
