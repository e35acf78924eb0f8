"""Hangul as syllables, final consonants and the keystrokes of the two-set (dubeolsik) keyboard."""

from functools import lru_cache

FIRST, LAST = 0xAC00, 0xD7A3
# the keys pressed for each initial, vowel and final, as Latin letters of the same keys; capitals are shifted keys
INITIALS = ("r", "R", "s", "e", "E", "f", "a", "q", "Q", "t", "T", "d", "w", "W", "c", "z", "x", "v", "g")
VOWELS = (
    "k", "o", "i", "O", "j", "p", "u", "P", "h", "hk", "ho", "hl", "y", "n", "nj", "np", "nl", "b", "m", "ml", "l",
)  # fmt: skip
FINALS = (
    "", "r", "R", "rt", "s", "sw", "sg", "e", "f", "fr", "fa", "fq", "ft", "fx", "fv", "fg", "a", "q", "qt", "t", "T",
    "d", "w", "c", "z", "x", "v", "g",
)  # fmt: skip
RIEUL, NIEUN, BIEUP = FINALS.index("f"), FINALS.index("s"), FINALS.index("q")
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def is_syllable(character: str) -> bool:
    """True for one composed Hangul syllable (가 to 힣)."""
    return len(character) == 1 and FIRST <= ord(character) <= LAST


def final_of(character: str) -> int:
    """The index of a syllable's final consonant, 0 without one or for anything that is no syllable."""
    return (ord(character) - FIRST) % 28 if is_syllable(character) else 0


def with_final(character: str, final: int) -> str:
    """The same syllable with another final consonant (0: none)."""
    code = ord(character) - FIRST
    return chr(FIRST + code - code % 28 + final)


@lru_cache(maxsize=16384)
def keystrokes(text: str) -> str:
    """The keys that type a text on the two-set keyboard: "강아지" is "rkddkwl". Other characters stay as they are."""
    keys = []
    for character in text:
        if not is_syllable(character):
            keys.append(character)
            continue
        code = ord(character) - FIRST
        keys.append(INITIALS[code // 588] + VOWELS[code % 588 // 28] + FINALS[code % 28])
    return "".join(keys)


def from_keystrokes(keys: str) -> str | None:
    """Hangul typed with the keyboard left in its Latin state: "rkddkwl" is "강아지"; None where no syllables result."""
    keys = "".join(key if key in "REQTWOP" else key.lower() for key in keys)
    text, position = [], 0
    while position < len(keys):
        if keys[position] not in INITIALS:
            return None
        initial = INITIALS.index(keys[position])
        vowel = _longest(keys, position + 1, VOWELS)
        if not vowel:
            return None
        position += 1 + len(vowel)
        final = ""
        for length in (2, 1):
            candidate = keys[position : position + length]
            follower = keys[position + length : position + length + 1]
            # a consonant before a vowel begins the next syllable
            if len(candidate) == length and candidate in FINALS and follower not in _VOWEL_KEYS:
                final = candidate
                break
        position += len(final)
        text.append(chr(FIRST + initial * 588 + VOWELS.index(vowel) * 28 + FINALS.index(final)))
    return "".join(text) or None


_VOWEL_KEYS = frozenset(vowel for vowel in VOWELS if len(vowel) == 1)


def _longest(keys: str, start: int, options: tuple[str, ...]) -> str:
    for length in (2, 1):
        candidate = keys[start : start + length]
        if len(candidate) == length and candidate in options:
            return candidate
    return ""


@lru_cache(maxsize=4096)
def key_cost(one: str, other: str) -> float:
    """What it costs to press one key for another, 0 to 1: the same key with shift 0.4, a neighbour 0.5, any other 1."""
    if one == other:
        return 0.0
    if one.lower() == other.lower():
        return 0.4
    places = {key: (row, column + 0.5 * row) for row, keys in enumerate(ROWS) for column, key in enumerate(keys)}
    if one.lower() not in places or other.lower() not in places:
        return 1.0
    (row, column), (other_row, other_column) = places[one.lower()], places[other.lower()]
    near = abs(row - other_row) <= 1 and abs(column - other_column) <= 1.0
    return 0.5 if near else 1.0
