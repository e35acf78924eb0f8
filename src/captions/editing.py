"""Light edits of finished captions: one register, one way to end, spacing, leftovers in brackets."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from src.captions.analyser import respaced
from src.captions.register import REGISTERS, convert_all, registers_of
from src.errors import ProjectError, nearest

ASKED = 2000  # captions that tell what most do
PUNCTUATION = ("period", "none")
_LATIN_GLOSS = re.compile(r"\s*[(\[（][A-Za-z][A-Za-z .,'’&-]*[)\]）]")
_SPACE_BEFORE_MARK = re.compile(r"\s+([.,!?;:…。，])")
_DOUBLED = re.compile(r"([,;:、，])(?:\s*[,;:、，])+|([!?])(?:\s*[!?])+|(?<!\.)\.\s*\.(?!\s*\.)")
_FINAL = re.compile(r"[\s.。,，;:、]+$")
_KEEPS_ITS_END = re.compile(r"[!?…\"'”’)\]]$|\.\.\.$")


@dataclass(frozen=True, kw_only=True)
class Edits:
    """Which edits are made, in this order.

    latin: remove Latin glosses in brackets after Korean words, as translators leave them: 보더 콜리(Border Collie).
    spacing: spaces where Korean orthography has them, by the morphological analyser.
    register: "plain" | "polite" | "formal": statements end so (src.captions.register); None leaves them.
    punctuation: "period" (a full stop at the end) | "none" (none at the end); either also drops spaces before marks and
        doubled marks. Ends such as ! ? … and closing quotation marks stay. None leaves all.
    """

    register: str | None = None
    punctuation: str | None = None
    spacing: bool = False
    latin: bool = False

    def __post_init__(self) -> None:
        for name, known in (("register", REGISTERS), ("punctuation", PUNCTUATION)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ProjectError(
                    f"edits.{name}={value!r} is not known.{nearest(str(value), known)} "
                    f"Known: {', '.join(known)}, or null for none."
                )
        for name in ("spacing", "latin"):
            if not isinstance(getattr(self, name), bool):
                raise ProjectError(f"edits.{name}={getattr(self, name)!r}: give true or false.")

    def apply(self, texts: Sequence[str]) -> list[str]:
        """Edited texts; a text of which an edit would leave no letter keeps its form before that edit."""
        edited = list(texts)
        if self.latin:
            edited = _guarded(edited, [_LATIN_GLOSS.sub("", text).strip() for text in edited])
        if self.spacing:
            edited = _guarded(edited, respaced(edited))
        if self.register is not None:
            edited = _guarded(edited, convert_all(edited, self.register))
        if self.punctuation is not None:
            edited = _guarded(edited, [_punctuated(text, period=self.punctuation == "period") for text in edited])
        return edited

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Edits":
        """Edits from a configuration; what is not given is not edited.

        Raises:
            ProjectError: an unknown edit, or an unknown value of one.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise ProjectError(f"edits.{name} is not an edit.{nearest(name, known)} Known: {', '.join(known)}.")
        return cls(**values)


def majority(training_captions: Sequence[str], *, share: float = 0.5) -> Edits:
    """Register and final punctuation of most training captions; None where no way has more than `share` of them.

    The share of a register is taken of the captions that are statements, for noun phrases have none. Of many captions
    about ASKED, evenly spaced, are looked at.
    """
    training_captions = training_captions[:: max(1, len(training_captions) // ASKED)]
    statements = [kind for kind in registers_of(training_captions) if kind in REGISTERS]
    ends = ["period" if text.rstrip().endswith((".", "。")) else "none" for text in training_captions if text.strip()]
    return Edits(register=_most(statements, share), punctuation=_most(ends, share))


def _most(kinds: Sequence[str], share: float) -> str | None:
    if not kinds:
        return None
    kind, count = Counter(kinds).most_common(1)[0]
    return kind if count > share * len(kinds) else None


def _punctuated(text: str, *, period: bool) -> str:
    text = _SPACE_BEFORE_MARK.sub(r"\1", text.strip())
    text = _DOUBLED.sub(lambda match: match.group(1) or match.group(2) or ".", text)
    if _KEEPS_ITS_END.search(text):
        return text
    return _FINAL.sub("", text) + ("." if period else "")


def _guarded(before: Sequence[str], after: Sequence[str]) -> list[str]:
    pairs = zip(before, after, strict=True)
    return [new if any(character.isalnum() for character in new) else old for old, new in pairs]
