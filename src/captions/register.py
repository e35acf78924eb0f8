"""Speech levels of Korean captions: which a caption ends in, and statements moved from one to another.

The final ending is found by morphological analysis (kiwipiepy) and joined anew to its stem, so that irregular stems,
contractions and the copula come out as they are written.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from src.captions.analyser import analyse, joined
from src.errors import ProjectError, nearest

REGISTERS = ("plain", "polite", "formal")  # 한다체, 해요체, 합쇼체
# What a caption may end in beside the registers: a noun (사람), a nominal form (달림, 달리기), anything else.
KINDS = (*REGISTERS, "noun", "nominal", "other")

_PLAIN = {"다", "ᆫ다", "는다"}
_POLITE = {"어요", "아요", "여요", "에요", "예요", "네요", "군요", "는군요", "지요", "죠"}
_HONORIFIC = {"세요", "으세요"}  # of 해요체: -시- and -어요 in one
_FORMAL = {"ᆸ니다", "습니다"}
_REGISTER = {
    form: register
    for register, forms in zip(REGISTERS, (_PLAIN, _POLITE | _HONORIFIC, _FORMAL), strict=True)
    for form in forms
}
_STATES = ("VA", "XSA", "VCP", "VCN")  # no -ᆫ다/-는다: adjectives, the copula, 아니다
_STEMS = ("VV", "VX", "XSV", *_STATES)
# Auxiliaries that behave as adjectives whatever verb they follow; 않다 and 못하다 follow the verb that they deny.
_STATE_AUXILIARIES = {"싶", "듯하", "듯싶", "만하", "뻔하", "법하", "성싶", "직하"}
_DENIALS = {"않", "아니하", "못하"}
_EXISTENCE = {"있", "없"}  # never -는다 in a caption, whatever the analyser takes them for
_HONORIFIC_STEMS = {"계시", "주무시", "드시", "잡수시"}


class Ending(NamedTuple):
    """A statement's predicate in a text.

    morphemes: (form, tag) from the stem, or the word before a copula, to the last one before the final ending.
    start, stop: characters of the text that they are written in.
    is_state: the present tense has no -ᆫ다/-는다.
    """

    register: str
    morphemes: list[tuple[str, str]]
    start: int
    stop: int
    is_state: bool


def register_of(text: str) -> str:
    """One of KINDS; see registers_of."""
    return registers_of([text])[0]


def registers_of(texts: Sequence[str]) -> list[str]:
    """The register that each text's last sentence ends in: one of KINDS."""
    return [_kind(tokens) for tokens in analyse(texts)]


def convert(text: str, register: str) -> str:
    """A text in another register; see convert_all."""
    return convert_all([text], register)[0]


def convert_all(texts: Sequence[str], register: str) -> list[str]:
    """Texts whose statements end in `register` ("plain", "polite", "formal").

    Present, past and conjectural tense, progressive, negation and copula are kept. Nothing but the predicates at the
    ends of sentences changes; noun phrases, questions, requests, quotations, unfinished sentences and statements that
    are in the register already stay as they are.

    Raises:
        ProjectError: an unknown register.
    """
    if register not in REGISTERS:
        raise ProjectError(
            f"register={register!r} is not known.{nearest(str(register), REGISTERS)} Known: {', '.join(REGISTERS)}."
        )
    results = []
    for text, tokens in zip(texts, analyse(texts), strict=True):
        for ending in reversed(_endings(tokens)):
            if ending.register != register:
                text = text[: ending.start] + _rewritten(ending, register) + text[ending.stop :]
        results.append(text)
    return results


def _kind(tokens: Sequence[Any]) -> str:
    words = [token for token in tokens if not token.tag.startswith("S") or token.tag in ("SL", "SN", "SH")]
    if not words:
        return "other"
    last = words[-1]
    if last.tag == "EF" or (last.tag == "EC" and last.form in _PLAIN):
        if last.form in ("음", "ᆷ"):
            return "nominal"
        polite = "polite" if last.form.endswith("요") else "other"
        formal = last.form.endswith(("ᆸ니까", "습니까", "ᆸ시오", "시오"))
        return _REGISTER.get(last.form, "formal" if formal else polite)
    if last.tag == "ETN":
        return "nominal"
    if last.tag == "JX" and last.form == "요":
        return "polite"
    return "noun" if last.tag.startswith("N") or last.tag in ("XSN", "XR", "SL", "SN", "SH") else "other"


def _endings(tokens: Sequence[Any]) -> list[Ending]:
    """The statements' endings of a text, those in quotation marks and brackets left out."""
    found, depth = [], 0
    for at, token in enumerate(tokens):
        depth += (token.tag == "SSO") - (token.tag == "SSC")
        if depth or not _is_final(tokens, at) or token.form not in _REGISTER:
            continue
        first = at - 1
        while first >= 0 and tokens[first].tag == "EP":
            first -= 1
        if first < 0 or _base(tokens[first].tag) not in _STEMS:
            continue
        start, stop = tokens[first].start, token.start + token.len
        morphemes = [(part.form, part.tag) for part in tokens[first:at]]
        is_state = _is_state(tokens, first)
        if morphemes[0][1] == "VCP" and first:
            noun = tokens[first - 1]
            start = noun.start
            if noun.form + "시" in _HONORIFIC_STEMS and token.form in _HONORIFIC:
                # 계세요 is read as a noun and the copula.
                morphemes, is_state = [(noun.form + "시", "VV")], False
            else:
                # The copula is written by the sound before it (나무예요, 책이에요), so that word is joined with it.
                morphemes.insert(0, (noun.form, noun.tag))
        elif token.form in _HONORIFIC:
            morphemes.append(("시", "EP"))
        found.append(Ending(_REGISTER[token.form], morphemes, start, stop, is_state))
    return found


def _is_final(tokens: Sequence[Any], at: int) -> bool:
    """Whether a sentence ends with tokens[at]: nothing or a full stop follows; a question mark makes it a question.

    At the end of a text the analyser may take -다 for a connective.
    """
    if tokens[at].tag not in ("EF", "EC"):
        return False
    after = at + 1
    while after < len(tokens) and tokens[after].tag in ("SF", "SE"):
        if "?" in tokens[after].form:
            return False
        after += 1
    return after == len(tokens) or (after > at + 1 and tokens[after].tag != "SSC")


def _is_state(tokens: Sequence[Any], at: int) -> bool:
    """Whether the predicate whose stem is tokens[at] says a state (예쁘다, 있다) rather than an action (달린다)."""
    form, tag = tokens[at].form, _base(tokens[at].tag)
    before = tokens[at - 1] if at else None
    if tag in _STATES or form in _EXISTENCE:
        return True
    if form == "하" and before is not None and before.form == "못":
        return at > 1 and tokens[at - 2].form == "지" and _stem_before_is_state(tokens, at)
    if tag != "VX":
        return False
    if form in _DENIALS or (form == "하" and before.tag in ("JX", "ETN")):  # 크지 않다, 귀엽기도 하다
        return _stem_before_is_state(tokens, at)
    if form == "보" and before.tag == "EC" and before.form.endswith(("나", "가", "까")):  # 오나 보다
        return True
    return form in _STATE_AUXILIARIES


def _stem_before_is_state(tokens: Sequence[Any], at: int) -> bool:
    for earlier in range(at - 1, -1, -1):
        if _base(tokens[earlier].tag) in _STEMS:
            return _is_state(tokens, earlier)
    return False


def _rewritten(ending: Ending, register: str) -> str:
    morphemes = list(ending.morphemes)
    honorific = morphemes[-1][1] == "EP" and morphemes[-1][0] in ("시", "으시")
    tensed = morphemes[-1][1] == "EP" and not honorific
    stem, tag = morphemes[-1]
    if register == "formal":
        form = "습니다"
    elif register == "plain":
        form = "다" if tensed or ending.is_state else "는다"
    elif stem in _HONORIFIC_STEMS:
        return stem[:-1] + "세요"
    elif honorific:
        form, morphemes = "세요", morphemes[:-1]
    elif _base(tag) == "VCP" and len(morphemes) > 1:
        return joined(morphemes[:-1]) + ("이에요" if _ends_in_consonant(morphemes[-2][0]) else "예요")
    else:
        form = "에요" if _base(tag) == "VCN" else "어요"
    first, tag = morphemes[0]
    if first.endswith("하") and _base(tag) in _STEMS:
        # The joiner knows the irregular 하다 itself, not all of its compounds (못하다).
        return first[:-1] + joined([("하", "XSV"), *morphemes[1:], (form, "EF")])
    return joined([*morphemes, (form, "EF")])


def _ends_in_consonant(word: str) -> bool:
    """Whether a word is spoken with a final consonant; letters and digits by their Korean names."""
    last = unicodedata.normalize("NFD", word)[-1:]
    return "\u11a8" <= last <= "\u11ff" or last.lower() in "lmnr013678"


def _base(tag: str) -> str:
    """A tag without Kiwi's mark of a regular (-R) or irregular (-I) stem."""
    return tag.partition("-")[0]
