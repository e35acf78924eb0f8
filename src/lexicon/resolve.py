"""From a question to what a detector is asked: lexicon, then a translator, then similarity to its own vocabulary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from src.lexicon.entries import Entry, english_key, korean_key, lexicon
from src.lexicon.names import HANGUL, english_entry, english_of
from src.lexicon.query import Choice, Query, Target, parse_query
from src.lexicon.senses import broader_terms
from src.lexicon.similarity import Embedder, nearest_classes

if TYPE_CHECKING:
    from src.translation.base import Translator

# the nearest class is a guess; how many others are named with it
TOP = 5
ARTICLES = re.compile(r"^(?:(?:this|that|it) is |there is |it's )?(?:a|an|the|some)?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What one object of a question is to a detector.

    terms: prompts, best first, where the detector is open; where a vocabulary was given, the names of it that are meant
    (several where a general word was said: 동물), () where it has none. step: lexicon, english, compound, translator,
    similarity or none, the step that gave the terms. similar: (class, cosine similarity) of the similarity step.
    broader: the vocabulary knows only the wider thing (a golden retriever as a dog). choices: open meanings.
    """

    target: Target
    terms: tuple[str, ...]
    step: str
    broader: bool = False
    similar: tuple[tuple[str, float], ...] = ()
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolution:
    """A question with each of its objects resolved; `terms` is all of them, in order, each once."""

    query: Query
    objects: tuple[Resolved, ...]

    @property
    def terms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term for resolved in self.objects for term in resolved.terms))

    @property
    def unresolved(self) -> tuple[str, ...]:
        """Words that no step could turn into a term."""
        return tuple(resolved.target.word for resolved in self.objects if not resolved.terms)


def resolve(
    query: str | Query,
    *,
    vocabulary: Sequence[str] | None = None,
    translator: Translator | None = None,
    embedder: Embedder | None = None,
) -> Resolution:
    """What a detector is asked for a question.

    Args:
        query: the question, or what parse_query made of it.
        vocabulary: the class names of a closed detector, Korean or English; None for an open one.
        translator: asked for words that the lexicon does not know.
        embedder: compares what is still open with the vocabulary; unused without one.

    Raises:
        ProjectError: what the translator raises; a refused word is no error but unresolved.
    """
    parsed = parse_query(query) if isinstance(query, str) else query
    index = _index(vocabulary) if vocabulary is not None else None
    objects = tuple(_resolve(target, vocabulary, index, translator, embedder) for target in parsed.targets)
    return Resolution(parsed, objects)


def _resolve(
    target: Target,
    vocabulary: Sequence[str] | None,
    index: dict[str, list[str]] | None,
    translator: Translator | None,
    embedder: Embedder | None,
) -> Resolved:
    english, step = target.english, target.source if target.english else "none"
    base = target.base
    unsure = target.source in ("unknown", "compound")
    invisible = bool(target.choices) and not target.english
    if unsure and translator is not None and not invisible:
        translated = translate_noun(translator, target.word)
        if translated:
            # a translation of the whole compound is better than its second half, which stays as a fallback
            english, step = (translated, *english), "translator"
            base = (translated, *base)
    if index is None or vocabulary is None:
        return Resolved(target, english, step, choices=target.choices)
    meant = [] if invisible else _meanings_there(target, index)
    if len(meant) == 1:
        # the detector's classes settle what the question left open
        return Resolved(target, *meant[0])
    names, broader = ((), False) if invisible else _in_vocabulary(target, base, index)
    if names:
        return Resolved(target, names, step if step != "none" else "lexicon", broader, choices=target.choices)
    readable = english[0] if english else target.word
    if embedder is not None and readable and not invisible and (embedder.reads_korean or not HANGUL.search(readable)):
        text = target.word if embedder.reads_korean and HANGUL.search(target.word) else readable
        similar = tuple(_similar(text, vocabulary, embedder))
        return Resolved(
            target, (similar[0][0],) if similar else (), "similarity", similar=similar, choices=target.choices
        )
    return Resolved(target, (), "none", choices=target.choices)


def _meanings_there(target: Target, index: dict[str, list[str]]) -> list[tuple[tuple[str, ...], str, bool]]:
    """(class names, step, wider) of each open meaning of a word that the vocabulary has."""
    found = []
    for choice in target.choices:
        if choice.english:
            one = replace(target, lemma=choice.meaning, english=choice.english, base=choice.english)
            names, broader = _in_vocabulary(one, one.base, index)
            if names:
                found.append((names, target.source, broader))
    return found


def translate_noun(translator: Translator, word: str) -> str | None:
    """A noun's English through a translator, as a prompt: lower case, no article, no full stop; None where refused.

    A sequence model is unsure of a bare word, so a sentence around it is tried when the bare word is refused.
    """
    for text in (word, f"이것은 {word}입니다."):
        answer = translator.try_translate([text], "ko", "en")[0]
        term = ARTICLES.sub("", answer.strip().rstrip(".!?"), count=1).strip().lower() if answer else ""
        if term and len(term.split()) <= 5:
            return english_key(term)
    return None


def _index(vocabulary: Sequence[str]) -> dict[str, list[str]]:
    """Every key by which a class of the vocabulary may be meant → class names."""
    index: dict[str, list[str]] = {}
    for name in vocabulary:
        keys = [korean_key(name) if HANGUL.search(name) else english_key(name)]
        keys += english_of(name)[:1] if HANGUL.search(name) else []
        entry = english_entry(name) if not HANGUL.search(name) else None
        if entry is not None:
            keys += [korean_key(entry.korean), entry.english[0]]
        for key in dict.fromkeys(keys):
            index.setdefault(key, []).append(name)
    return index


def _in_vocabulary(target: Target, base: tuple[str, ...], index: dict[str, list[str]]) -> tuple[tuple[str, ...], bool]:
    """(class names that a target means, whether they are wider than it). Exact names first, then kinds of it, then what
    it is a kind of."""
    entry = _row(target, base)
    full = [english_key(term) for term in target.english[:1] if target.attributes]
    for key in (korean_key(target.word), *full, korean_key(target.lemma), *(english_key(term) for term in base)):
        names = [name for name in index.get(key, ()) if _may_mean(name, entry)] if key else []
        if names:
            return tuple(names), False
    if entry is None:
        return (), False
    kinds = [name for names in index.values() for name in names if _is_kind(name, entry)]
    if kinds:
        return tuple(dict.fromkeys(kinds)), False
    word = lexicon().categories[entry.category].word
    for term in broader_terms(entry):
        # the subject's own word (음식) is too wide an answer, unless the row names it
        if term in index and (term != word or term == entry.broader):
            return tuple(index[term]), True
    return (), False


def _row(target: Target, base: tuple[str, ...]) -> Entry | None:
    found = lexicon().korean.get(korean_key(target.lemma), ())
    return next((entry for entry in found if entry.english == base), english_entry(base[0]) if base else None)


def _class_row(name: str) -> Entry | None:
    if not HANGUL.search(name):
        return english_entry(name)
    return next(iter(lexicon().korean.get(korean_key(name), ())), None)


def _may_mean(name: str, entry: Entry | None) -> bool:
    """False for a class that only shares an English word with the row: a detector's "mouse" is no animal."""
    named = _class_row(name)
    return entry is None or named is None or named.category == entry.category or HANGUL.search(name) is not None


def _is_kind(name: str, entry: Entry) -> bool:
    named = _class_row(name)
    return named is not None and named is not entry and entry.english[0] in broader_terms(named)


def _similar(text: str, vocabulary: Sequence[str], embedder: Embedder) -> list[tuple[str, float]]:
    if not vocabulary:
        return []
    texts = list(vocabulary)
    if not embedder.reads_korean:
        # a Korean class name is compared by its English, where it has one
        texts = [(english_of(name) or [name])[0] if HANGUL.search(name) else english_key(name) for name in texts]
    vectors = embedder.embed([text, *texts])
    return nearest_classes(vectors[0], vectors[1:], list(vocabulary), top=TOP)
