"""What captions are made of, beside the references: lengths, words, repeated and copied sentences, speech levels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.captions.degenerate import is_korean
from src.captions.register import KINDS, registers_of
from src.report import wording
from src.report.caption.evidence import CaptionSet

MOST_TEXTS = 5000  # of a column, evenly spaced: beyond, the numbers hardly move and the analysis takes minutes
MOST_REPEATED = 6
MOST_WORDS = 14
REGISTER_NAMES = {
    "plain": "한다체, plain",
    "polite": "해요체, polite",
    "formal": "합쇼체, formal",
    "noun": "ends in a noun",
    "nominal": "nominal form (-음, -기)",
    "other": "other",
}


@dataclass(frozen=True)
class Texts:
    """Sentences of one kind, one an image, with their tokens."""

    title: str
    texts: list[str]
    tokens: list[list[str]]

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(each) for each in self.tokens], dtype=np.int64)

    @property
    def vocabulary(self) -> Counter[str]:
        """In how many sentences each token stands."""
        return Counter(token for each in self.tokens for token in set(each))

    @property
    def repeated(self) -> list[tuple[str, int]]:
        """The sentences that stand for more than one image, most frequent first."""
        return [(text, n) for text, n in Counter(self.texts).most_common() if n > 1]


@dataclass(frozen=True)
class Words:
    """The captions of a set and what they are held against: a reference an image, or a training caption an image.

    copied: share of the captions that are a caption of another training image, word for word; the same of the
    references. registers: (kind, share of captions, share of references) of what sentences end in; [] for captions
    that are not Korean.
    """

    scored: CaptionSet
    captions: Texts
    others: Texts
    copied: float
    others_copied: float
    registers: list[tuple[str, float, float]]

    @property
    def distinct(self) -> float:
        """Different sentences, a share of the captions."""
        return len(set(self.captions.texts)) / len(self.captions.texts)


def words_of(scored: CaptionSet, training: Sequence[tuple[str, Sequence[str]]], tokenizer: Any) -> Words | None:
    """The words of a set; None where it holds no captions, or nothing to hold them against.

    training: (id, captions) of the training images; tokenizer: `src.captions.tokenizers`'.
    """
    rows = [i for i in (scored.known if len(scored.known) else range(len(scored.ids))) if scored.texts[i]]
    owners: dict[str, set[str]] = {}
    for name, texts in training:
        for text in texts:
            owners.setdefault(text, set()).add(name)
    mine = _thinned([(scored.ids[i], scored.texts[i]) for i in rows])
    if len(scored.known):
        title, others = "One reference an image", _thinned([(scored.ids[i], scored.references[i][0]) for i in rows])
    else:
        title, others = "Training captions", _thinned([(name, texts[0]) for name, texts in training if texts])
    if not mine or not others:
        return None
    # ids of the two splits may be the same: a test image is none of the training images
    train = scored.key == "oof"
    captions = Texts("Captions", *_analysed([text for _, text in mine], tokenizer))
    against = Texts(title, *_analysed([text for _, text in others], tokenizer))
    return Words(
        scored=scored,
        captions=captions,
        others=against,
        copied=_copied(mine, owners, train=train),
        others_copied=_copied(others, owners, train=train or not len(scored.known)),
        registers=_registers(captions.texts, against.texts),
    )


def table(words: Words, unit: str) -> list[tuple[str, list[str]]]:
    """Rows of (name, [of the captions, of what they are held against]) as text; `unit`: what the tokens are."""
    pair = (words.captions, words.others)
    n = [len(each.texts) for each in pair]
    copied = (words.copied, words.others_copied)
    return [
        ("sentences", [f"{each:,}" for each in n]),
        (f"{unit} in a sentence, mean", [f"{each.lengths.mean():.1f}" for each in pair]),
        (f"different {unit}", [f"{len(each.vocabulary):,}" for each in pair]),
        ("different sentences", [wording.percent(len(set(each.texts)), m) for each, m in zip(pair, n, strict=True)]),
        (
            "word for word a caption of another training image",
            [wording.percent(round(share * m), m) for share, m in zip(copied, n, strict=True)],
        ),
    ]


def repeated(words: Words) -> list[dict[str, Any]]:
    """The sentences given to most images: {text, n, share as text, percent}."""
    n = len(words.captions.texts)
    return [
        {"text": text, "n": count, "share": wording.percent(count, n), "percent": round(100 * count / n, 1)}
        for text, count in words.captions.repeated[:MOST_REPEATED]
    ]


def unequal(words: Words) -> dict[str, list[dict[str, Any]]]:
    """`rare` and `often`: words whose share of sentences differs most from the references', {word, captions, others}.

    A word counts where a chance of the size of the two sets does not explain it (two-sample z above 3).
    """
    mine, theirs = words.captions.vocabulary, words.others.vocabulary
    n, m = len(words.captions.texts), len(words.others.texts)
    found = []
    for word in {**mine, **theirs}:
        a, b = mine[word] / n, theirs[word] / m
        pooled = (mine[word] + theirs[word]) / (n + m)
        spread = np.sqrt(max(pooled * (1 - pooled) * (1 / n + 1 / m), 1e-12))
        if abs(a - b) / spread > 3 and all(letter.isalnum() and not _is_jamo(letter) for letter in word):
            found.append((a - b, word, a, b))
    found.sort(key=lambda item: (-abs(item[0]), item[1]))

    def view(sign: int) -> list[dict[str, Any]]:
        chosen = [item for item in found if item[0] * sign > 0][:MOST_WORDS]
        return [{"word": word, "captions": f"{100 * a:.0f}%", "others": f"{100 * b:.0f}%"} for _, word, a, b in chosen]

    return {"rare": view(-1), "often": view(1)}


def _is_jamo(letter: str) -> bool:
    """Parts of syllables, as endings such as ᆫ다 begin with: no word that a reader would look for."""
    return "\u1100" <= letter <= "\u11ff" or "\u3131" <= letter <= "\u318e"


def registers(words: Words) -> list[dict[str, str]]:
    """Rows of {name, captions, others}: shares of what the sentences end in."""
    return [
        {"name": REGISTER_NAMES[kind], "captions": f"{100 * mine:.0f}%", "others": f"{100 * theirs:.0f}%"}
        for kind, mine, theirs in words.registers
    ]


def _registers(captions: Sequence[str], others: Sequence[str]) -> list[tuple[str, float, float]]:
    if 2 * sum(map(is_korean, others)) <= len(others):
        return []
    mine, theirs = Counter(registers_of(captions)), Counter(registers_of(others))
    return [
        (kind, mine[kind] / len(captions), theirs[kind] / len(others))
        for kind in KINDS
        if mine[kind] or theirs[kind]
    ]


def _copied(texts: Sequence[tuple[str, str]], owners: dict[str, set[str]], *, train: bool) -> float:
    """Share of (id, text) whose text is a caption of a training image; of another one where the ids are theirs."""
    found = sum(bool(owners.get(text, set()) - ({name} if train else set())) for name, text in texts)
    return found / len(texts)


def _thinned(items: list[Any]) -> list[Any]:
    if len(items) <= MOST_TEXTS:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, MOST_TEXTS).round().astype(int)]


def _analysed(texts: list[str], tokenizer: Any) -> tuple[list[str], list[list[str]]]:
    return texts, tokenizer.tokens_of(texts)
