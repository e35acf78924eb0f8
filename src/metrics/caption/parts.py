"""Each named caption metric as sums over images, as scores of single captions, and as scores of pairs."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from src.captions.tokenizers import Tokenizer
from src.metrics.caption import bleu, chrf, cider, meteor, rouge
from src.metrics.caption.comparison import Comparison
from src.metrics.caption.frequencies import Frequencies


class Evidence:
    """What metrics look at, made when first asked for: the texts' tokens, stems, characters, and who meets whom.

    Either candidates and each image's references, or (`references` None) groups whose texts meet each other.
    """

    def __init__(
        self,
        texts: Sequence[str] | Sequence[Sequence[str]],
        references: Sequence[Sequence[str]] | None,
        tokenizer: Callable[[], Tokenizer],
        frequencies: Frequencies | None = None,
    ) -> None:
        self._texts, self._references = texts, references
        self._get_tokenizer = tokenizer
        self._frequencies = frequencies

    def compare(self, of_texts: Callable[[list[str]], Sequence[Sequence[str]]]) -> Comparison:
        """The comparison of what `of_texts` makes of all texts."""
        made = of_texts(self.flat)
        groups = self._texts if self._references is None else self._references
        at = 0 if self._references is None else len(self._texts)
        cut = []
        for group in groups:
            cut.append(made[at : at + len(group)])
            at += len(group)
        return (
            Comparison.within(cut) if self._references is None else Comparison.of_images(made[: len(self._texts)], cut)
        )

    @cached_property
    def flat(self) -> list[str]:
        """All texts in the order of a Comparison's, in NFC."""
        groups = [self._texts, *self._references] if self._references is not None else self._texts
        return [unicodedata.normalize("NFC", text) for text in chain.from_iterable(groups)]

    @cached_property
    def tokens(self) -> Comparison:
        return self.compare(self._get_tokenizer().tokens_of)

    @cached_property
    def stems(self) -> list[list[str]] | None:
        """Parallel to the texts of `tokens`; None where the tokenizer knows none."""
        tokenizer = self._get_tokenizer()
        return None if tokenizer.stem == "none" else tokenizer.stems_of(self.flat)

    @cached_property
    def characters(self) -> Comparison:
        return self.compare(chrf.characters)

    @cached_property
    def sentences(self) -> Comparison:
        """Each text, its spaces normalised, as one token."""
        return self.compare(lambda texts: [(" ".join(text.split()),) for text in texts])

    @property
    def idf(self) -> cider.Idf:
        return cider.own_idf if self._frequencies is None else self._frequencies.idf


@dataclass(frozen=True, kw_only=True)
class Part:
    """One metric.

    sums: (L, K) of each candidate against its references; their sum over images makes the corpus value.
    of_sums: (..., K) -> (...) corpus values.
    sentence: (L,) scores of single candidates. pairs: (P,) scores with one reference.
    note: for the signature.
    """

    sums: Callable[[Evidence], np.ndarray]
    of_sums: Callable[[np.ndarray], np.ndarray]
    sentence: Callable[[Evidence], np.ndarray]
    pairs: Callable[[Evidence], np.ndarray]
    note: str


def _averaged(sentence: Callable[[Evidence], np.ndarray], pairs: Callable[[Evidence], np.ndarray], note: str) -> Part:
    """A metric whose corpus value is the mean of its images'."""
    return Part(
        sums=lambda evidence: np.stack([(scores := sentence(evidence)), np.ones_like(scores)], axis=1),
        of_sums=lambda sums: sums[..., 0] / sums[..., 1],
        sentence=sentence,
        pairs=pairs,
        note=note,
    )


def _bleu(order: int) -> Part:
    return Part(
        sums=lambda evidence: bleu.bleu_statistics(evidence.tokens),
        of_sums=lambda sums: bleu.bleu_of_sums(sums)[..., order - 1],
        sentence=lambda evidence: bleu.sentence_bleu(evidence.tokens)[:, order - 1],
        pairs=lambda evidence: bleu.pair_bleu(evidence.tokens)[:, order - 1],
        note="bleu:corpus,closest",
    )


def _rouge_n(order: int) -> Part:
    return _averaged(
        lambda evidence: rouge.rouge_n(evidence.tokens, order),
        lambda evidence: rouge.pair_rouge_n(evidence.tokens, order),
        "rouge-n:f1,max",
    )


def _same(evidence: Evidence) -> np.ndarray:
    return evidence.sentences.matches(1)


PARTS: dict[str, Part] = {
    **{f"bleu{order}": _bleu(order) for order in range(1, bleu.ORDERS + 1)},
    "rouge1": _rouge_n(1),
    "rouge2": _rouge_n(2),
    "rouge_l": _averaged(
        lambda evidence: rouge.rouge_l(evidence.tokens),
        lambda evidence: rouge.pair_rouge_l(evidence.tokens),
        f"rouge-l:beta{rouge.BETA:g}",
    ),
    "meteor": _averaged(
        lambda evidence: meteor.meteor(evidence.tokens, evidence.stems),
        lambda evidence: meteor.pair_meteor(evidence.tokens, evidence.stems),
        f"meteor:exact{{stem}},alpha{meteor.ALPHA:g},beta{meteor.BETA:g},gamma{meteor.GAMMA:g},max",
    ),
    "cider": _averaged(
        lambda evidence: cider.cider(evidence.tokens, evidence.idf),
        lambda evidence: cider.pair_cider(evidence.tokens, evidence.idf),
        "cider:x10,idf-of-references",
    ),
    "cider_d": _averaged(
        lambda evidence: cider.cider_d(evidence.tokens, evidence.idf),
        lambda evidence: cider.pair_cider_d(evidence.tokens, evidence.idf),
        f"cider-d:x10,sigma{cider.SIGMA:g},idf-of-references",
    ),
    "chrf": Part(
        sums=lambda evidence: chrf.chrf_statistics(evidence.characters),
        of_sums=chrf.chrf_of_sums,
        sentence=lambda evidence: evidence.characters.best(chrf.pair_chrf(evidence.characters)),
        pairs=lambda evidence: chrf.pair_chrf(evidence.characters),
        note=f"chrf:nc{chrf.ORDERS},beta{chrf.BETA},space:no,case:mixed,punctuation:kept,x100",
    ),
    "exact_match": _averaged(
        lambda evidence: evidence.sentences.best(_same(evidence)), _same, "exact-match:nfc,spaces,punctuation:kept"
    ),
}
