"""Texts that are no captions: what captioning and translation models write when they fail, each failure named."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection

LONGEST = 600  # characters; a long description has fewer, a model that does not stop has more

# Marks of tokenizers and chat templates that decoding should have removed, and characters that no text could give.
_UNKNOWN = re.compile(
    r"<\s*/?\s*(?:unk|pad|s|mask|bos|eos|cls|sep|image|extra_id_\d+|0x[0-9a-f]{2}|\|[^<>|]*\|)\s*>"
    r"|\[(?:unk|pad|cls|sep|mask|bos|eos|/?inst)\]|[▁⁇\ufffd]|##\w|\w@@",
    re.IGNORECASE,
)
_HANGUL = re.compile(r"[가-힣]")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ]+(?:['’-][A-Za-zÀ-ÖØ-öø-ÿ]+)*")
# A shape is named by the jamo that it resembles: ㄱ자, ㄷ자형, ㅁ 모양.
_JAMO_SHAPE = re.compile(r"(?<![가-힣\u3131-\u318e])[ㄱ-ㅎㅏ-ㅣ]\s?(?:자|형|모양)")
_JAMO = re.compile(r"[\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\ud7b0-\ud7ff]")
# Three syllables may stand twice (두리번두리번), two may too (반짝반짝), one may three times (하하하).
_SYLLABLES = re.compile(r"([^\W\d_])\1{3,}|([^\W\d_]{2,3})\2{2,}|([^\W\d_]{4,})\3+")
_CUT = re.compile(r"[,，、·:;(\[{“‘<〈《\-~]\s*$|[가-힣]를\s*$")
_FUNCTION_WORDS = frozenset(["a", "an", "and", "at", "by", "for", "in", "is", "of", "on", "or", "the", "to", "with"])
_SENTENCE = re.compile(r"[.!?。]+")


def problems_of(
    text: str, *, korean: bool = True, known: Collection[str] = (), longest: int = LONGEST
) -> list[str]:
    """What makes a text unfit as a caption, as short words; [] for a sound caption.

    empty: no visible character. punctuation: no letter and no digit (", , ,"). digits: no letter.
    unknown: a token that decoding should have removed (<unk>, [UNK], ▁, ##ing), a replacement character.
    jamo: a letter of Hangul outside a syllable, unless it names a shape (ㄱ자).
    repeated: a word three times in a row, two words two and a half times, more words twice; a sentence twice; three
        words that stand three times anywhere; few different words in a long text; syllables repeated without spaces.
    latin: Latin words left over in Korean text; abbreviations (TV, BMX), words of one or two letters, the words of
        `known` and two names with a capital letter, one of them before all Hangul, are allowed.
    foreign: letters of other alphabets.
    cut: the text ends in an opening bracket, a comma, a dash or the object particle 를.
    long: more than `longest` characters.

    korean=False judges captions of other languages: no jamo, latin, foreign.
    known: words in lower case, e.g. the Latin words of the training captions.
    """
    text = unicodedata.normalize("NFC", text).strip()
    letters = [character for character in text if character.isalpha()]
    if not any(not unicodedata.category(character).startswith(("C", "Z")) for character in text):
        return ["empty"]
    found = ["unknown"] if _UNKNOWN.search(text) else []
    if not letters:
        kind = "digits" if any(character.isdigit() for character in text) else "punctuation"
        return found or [kind]
    if _is_repeated(text):
        found.append("repeated")
    if korean:
        if _JAMO.search(_JAMO_SHAPE.sub("", text)):
            found.append("jamo")
        if _has_latin_left(_UNKNOWN.sub(" ", text), known):
            found.append("latin")
        if _foreign(letters) > max(1, len(letters) // 10):
            found.append("foreign")
    if _CUT.search(text):
        found.append("cut")
    if len(text) > longest:
        found.append("long")
    return found


def latin_words(text: str) -> list[str]:
    """The Latin words of a text, in lower case."""
    return [word.lower() for word in _LATIN_WORD.findall(text)]


def is_korean(text: str) -> bool:
    """Whether a text has more syllables of Hangul than Latin letters."""
    latin = sum(len(word) for word in _LATIN_WORD.findall(text))
    return len(_HANGUL.findall(text)) > latin


def _is_repeated(text: str) -> bool:
    if _SYLLABLES.search(text):
        return True
    sentences = [" ".join(_words(part)) for part in _SENTENCE.split(text)]
    sentences = [sentence for sentence in sentences if sentence]
    if len(set(sentences)) < len(sentences):
        return True
    words = _words(text)
    if len(set(words)) == len(words):
        return False
    if _again(words, 1) >= 2 or _again(words, 2) >= 3:
        return True
    if any(_again(words, period) >= period for period in range(4, len(words) // 2 + 1)):
        return True
    content = [word for word in words if word not in _FUNCTION_WORDS]  # "one brown and one brown and white" is sound
    if _again(words, 3) >= 3 and _again(content, 3) >= 3:
        return True
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    if triples and max(triples.values()) >= 3:
        return True
    return len(content) >= 8 and len(set(content)) < 0.5 * len(content)


def _words(text: str) -> list[str]:
    stripped = (re.sub(r"^\W+|\W+$", "", word) for word in text.lower().split())
    return [word for word in stripped if word]


def _again(words: list[str], period: int) -> int:
    """The longest run of words that each equal the word `period` places before."""
    run = longest = 0
    for earlier, later in zip(words, words[period:], strict=False):
        run = run + 1 if earlier == later else 0
        longest = max(longest, run)
    return longest


def _has_latin_left(text: str, known: Collection[str]) -> bool:
    words = [(match.group(), match.start()) for match in _LATIN_WORD.finditer(text)]
    words = [(word, start) for word, start in words if word.lower() not in known]
    hangul = _HANGUL.search(text)
    if not words:
        return False
    if hangul is None:
        return True
    left = [(word, start) for word, start in words if len(word) > 2 and not (word.isupper() and len(word) <= 6)]
    leading = sum(start < hangul.start() for _, start in left)
    return any(word.islower() for word, _ in left) or leading > 1 or len(left) > 2


def _foreign(letters: list[str]) -> int:
    return sum(not any(kind.match(letter) for kind in (_HANGUL, _LATIN_WORD, _JAMO)) for letter in letters)
