"""Words for left and right in captions: what a mirrored picture must swap."""

import re

# "오른" alone is also "risen": it counts only in one word with a part of the body, or before 쪽 and 편.
_PARTS = "손|팔|발|다리|눈|뺨|볼|귀|어깨|무릎|날개|앞|뒤"
_PATTERN = re.compile(
    rf"(?:왼|오른)(?= ?[쪽편]|(?:{_PARTS}))"
    r"|(?<![좌우])[좌우](?=측|회전)"  # 좌우측 is both sides
    r"|(?<![A-Za-z])(?:left|right)(?![A-Za-z])",
    re.IGNORECASE,
)
_OTHER = {"왼": "오른", "오른": "왼", "좌": "우", "우": "좌", "left": "right", "right": "left"}


def swap_sides(text: str) -> str:
    """A caption with left and right exchanged: 왼쪽 ↔ 오른쪽, 왼편, 왼손 …, 좌측 ↔ 우측, 좌회전, left ↔ right.

    Latin letters keep their case. Particles stay: both words of each pair end in the same consonant. Twice gives the
    text back.
    """
    return _PATTERN.sub(_exchanged, text)


def side_word(text: str) -> str | None:
    """The first word of a side in a caption, as it is written there; None where it names no side."""
    found = _PATTERN.search(text)
    if found is None:
        return None
    end = found.end()
    while end < len(text) and text[end].isalpha():
        end += 1
    return text[found.start() : end]


def _exchanged(found: re.Match) -> str:
    word = found[0]
    other = _OTHER[word.lower()]
    if word.isupper():
        return other.upper() if word.isascii() else other
    return other.capitalize() if word[0].isupper() else other
