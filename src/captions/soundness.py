"""What counts as a degenerate caption in one competition: language, names and lengths of the training captions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from src.captions.degenerate import LONGEST, is_korean, latin_words, problems_of

KNOWN_WORDS = 2000  # Latin words kept; the most frequent of the training captions


@dataclass(frozen=True)
class Soundness:
    """The arguments with which problems_of judges a competition's captions.

    known: Latin words (lower case) that the training captions use.
    longest: characters; above three times the longest training caption, and never below LONGEST.
    """

    korean: bool = True
    known: tuple[str, ...] = ()
    longest: int = LONGEST

    @classmethod
    def of(cls, captions: Sequence[str]) -> "Soundness":
        """From training captions; without any, Korean is expected."""
        korean = not captions or 2 * sum(map(is_korean, captions)) > len(captions)
        longest = max([LONGEST, *(3 * len(text) for text in captions)])
        if not korean:
            return cls(korean=False, longest=longest)
        words = Counter(word for text in captions for word in latin_words(text))
        return cls(known=tuple(sorted(word for word, _ in words.most_common(KNOWN_WORDS))), longest=longest)

    def problems(self, text: str) -> list[str]:
        """What makes a text unfit as a caption; [] for a sound one."""
        return problems_of(text, korean=self.korean, known=self.known, longest=self.longest)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "known": list(self.known)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Soundness":
        return cls(**{**values, "known": tuple(values["known"])})
