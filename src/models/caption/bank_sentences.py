"""The sentences that a caption bank chooses from: a file's lines, or templates filled with names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from src.captions.cleaning import clean_caption
from src.errors import ProjectError, nearest

TRAINING, TEMPLATES = "training", "templates"
# particles as templates write them: (after a final consonant, after none)
PARTICLES = {
    "은(는)": ("은", "는"),
    "이(가)": ("이", "가"),
    "을(를)": ("을", "를"),
    "과(와)": ("과", "와"),
    "(으)로": ("으로", "로"),
    "(이)다": ("이다", "다"),
}
_SLOT = re.compile(r"\{\}(?:(" + "|".join(re.escape(mark) for mark in PARTICLES) + r")|\s+(?=이다))?")
# Latin letters and digits whose Korean names end in a consonant; of 엘, 알, 일, 칠, 팔 it is ㄹ
_CONSONANT, _RIEUL = frozenset("lmnr013678"), frozenset("lr178")


def check_bank(bank: str) -> None:
    """Raises ProjectError unless `bank` is training, templates or a file that is there."""
    if bank in (TRAINING, TEMPLATES) or Path(bank).expanduser().is_file():
        return
    hint = nearest(bank, (TRAINING, TEMPLATES))
    raise ProjectError(
        f"model.bank={bank}: there is no such file.{hint} Give {TRAINING} (the training captions), {TEMPLATES}, or the "
        "path of a text file with one sentence a line."
    )


def read_bank(path: str | Path) -> list[str]:
    """The different sentences of a UTF-8 text file, one a line, in order; empty lines are skipped.

    Raises:
        ProjectError: there is no sentence, or the file is no UTF-8 text.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ProjectError(
            f"model.bank={path} is no UTF-8 text (byte {error.start}): save it as UTF-8, one sentence a line."
        ) from error
    sentences = list(dict.fromkeys(text for text, _ in map(clean_caption, lines) if text))
    if not sentences:
        raise ProjectError(f"model.bank={path} holds no sentence: write one a line.")
    return sentences


def fill_bank(
    templates: Sequence[str], names: Sequence[str] | None = None, prompt: str | None = None
) -> tuple[list[str], list[str]]:
    """The sentences of templates, and what an image-text model reads in place of each.

    Args:
        templates: sentences with {} where a name stands, and a particle right behind it, such as {}은(는), {}(이)다.
        names: Korean names of things; None takes all of the lexicon's.
        prompt: an English sentence with {} that is read instead, for models that read no Korean ("a photo of a {}");
            None reads the sentences themselves.

    Raises:
        ProjectError: no template, one without {}, no name, or one without an English term where `prompt` needs it.
    """
    for text in [*templates, *([prompt] if prompt is not None else [])]:
        if "{}" not in text:
            raise ProjectError(f"the template {text!r} has no {{}} where the name goes, such as '이것은 {{}}(이)다.'")
    if not templates:
        raise ProjectError("model.templates is empty: give at least one, such as ['이것은 {}(이)다.'].")
    known = _names(names)
    rows: dict[tuple[str, str], None] = {}
    for template in templates:
        for korean, english in known:
            sentence = fill(template, korean)
            if prompt is not None and not english:
                raise ProjectError(
                    f"model.names: the lexicon has no English term for {korean!r}, which model.prompt needs. Use "
                    "another name, or an image-text model that reads Korean with model.prompt=null."
                )
            rows[sentence, sentence if prompt is None else prompt.replace("{}", english)] = None
    return [sentence for sentence, _ in rows], [read for _, read in rows]


def _names(names: Sequence[str] | None) -> list[tuple[str, str]]:
    """(Korean, English or "") pairs."""
    if names is None:
        from src.lexicon.entries import lexicon

        return [(entry.korean, entry.english[0]) for entry in lexicon().entries]
    from src.lexicon.names import english_of

    cleaned = [text for text, _ in map(clean_caption, names) if text]
    if not cleaned:
        raise ProjectError("model.names is empty: give Korean names such as [사과, 책], or null for the lexicon's.")
    return [(name, next(iter(english_of(name, among=cleaned)), "")) for name in cleaned]


def fill(template: str, name: str) -> str:
    """A template with a name in its {}, and the particles behind it in the form that the name's last sound asks for.

    "이것은 {}(이)다." gives 이것은 사과다. and 이것은 책이다.; "{} 이다" is joined: 사과이다, 책이다.
    """
    return _SLOT.sub(lambda match: name + _particle(name, match[1]), template)


def _particle(name: str, mark: str | None) -> str:
    if mark is None:
        return ""
    from src.lexicon.hangul import RIEUL, final_of

    last = name[-1:].lower()
    final = final_of(last)
    rieul = final == RIEUL or last in _RIEUL
    consonant = bool(final) or last in _CONSONANT
    if mark == "(으)로" and rieul:
        consonant = False
    after_consonant, after_vowel = PARTICLES[mark]
    return after_consonant if consonant else after_vowel
