"""Captions as they come in files → composed Unicode text on one line, without what a reader cannot see.

Words, punctuation and quotation marks are left alone: what a competition's references have of these, a metric counts.
"""

import re
import unicodedata

# cells that a table or a program writes where there is no text
NOTHING = frozenset(("", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat", "[]", "{}", "undefined"))

_BLANK = "\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029"  # line breaks and what else ends or indents a line
_SPACE = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u3164\uffa0"  # the last two are Hangul fillers: drawn as blanks
_UNSEEN = "\u00ad\u115f\u1160\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
_CONTROL = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
# U+200D joins the parts of one emoji; anywhere else it is as unseen as the others
_LOOSE_JOINER = "(?<![\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d"

_STEPS = (
    ("line break or tab", re.compile(f"[{_BLANK}]"), " "),
    ("control character", re.compile(f"[{_CONTROL}]"), ""),
    ("invisible character", re.compile(f"[{_UNSEEN}]|{_LOOSE_JOINER}"), ""),
    ("odd space", re.compile(f"[{_SPACE}]"), " "),
    ("run of spaces", re.compile("(?<! )  +(?! )"), " "),
)
_ANYTHING = re.compile(f"[{_BLANK}{_SPACE}{_UNSEEN}{_CONTROL}\u200d\ufffd]|  |^ | $")


def clean_caption(text: str) -> tuple[str, list[str]]:
    """A caption in Unicode form NFC, each blank a single U+0020, none at its ends; and what was wrong with it.

    The problems: "not NFC", "line break or tab", "control character", "invisible character", "odd space", "run of
    spaces", "space at an end", in this order; and "U+FFFD", text that an earlier conversion lost, which stays: what it
    was is not known. A text that says only that there is none (`is_nothing`) becomes "" with the problem "empty".
    """
    problems = []
    if not unicodedata.is_normalized("NFC", text):
        problems.append("not NFC")
        text = unicodedata.normalize("NFC", text)
    if _ANYTHING.search(text) is not None:
        for name, pattern, instead in _STEPS:
            text, count = pattern.subn(instead, text)
            if count:
                problems.append(name)
        if text != text.strip(" "):
            problems.append("space at an end")
            text = text.strip(" ")
        if not unicodedata.is_normalized("NFC", text):  # letters that something unseen kept apart
            text = unicodedata.normalize("NFC", text)
        if "\ufffd" in text:
            problems.append("U+FFFD")
    if is_nothing(text):
        return "", [*problems, "empty"]
    return text, problems


def is_nothing(text: str) -> bool:
    """Whether a cell is blank or a mark for a missing value, such as "nan" or "null"."""
    return text.strip().lower() in NOTHING
