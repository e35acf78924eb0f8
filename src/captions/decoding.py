"""How captions are decoded, for every network that writes them, and what a network answers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from src.errors import ProjectError, nearest

METHODS = ("greedy", "beam", "nucleus", "contrastive")


class Candidate(NamedTuple):
    """One caption of an image and its score, a mean log-probability a token unless the network says otherwise."""

    text: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Options of decoding.

    method: greedy | beam | nucleus (Holtzman et al. 2020) | contrastive (Su et al. 2022).
    candidates: captions kept an image, best first, all different; beam and nucleus alone give several.
    beams: width of the beam search; at least `candidates` are searched.
    max_tokens, min_tokens: new tokens of a caption, without the marks of beginning and end.
    length_penalty: beam search ranks by sum of log-probabilities / tokens ** length_penalty (Wu et al. 2016, without
        its constants): above 1 prefers long captions.
    no_repeat_ngram: an n-gram of this many tokens is written once at most; 0 = no limit.
    repetition_penalty: of tokens already written (Keskar et al. 2019); 1 = none.
    temperature, top_p: of nucleus.
    contrastive_k, contrastive_alpha: candidates a step, and the weight of the penalty for resembling what was written.
    seed: of nucleus; an image's samples depend on it and the image's id alone, where the network can do so.
    """

    method: str = "beam"
    candidates: int = 5
    beams: int = 5
    max_tokens: int = 40
    min_tokens: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 0.9
    contrastive_k: int = 4
    contrastive_alpha: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ProjectError(
                f"decoding.method={self.method!r} is not known.{nearest(str(self.method), METHODS)} "
                f"Known: {', '.join(METHODS)}."
            )
        whole = {"candidates": 1, "beams": 1, "max_tokens": 1, "min_tokens": 0, "no_repeat_ngram": 0}
        whole |= {"contrastive_k": 1, "seed": 0}
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ProjectError(f"decoding.{name}={value!r}: give a whole number of at least {least}.")
        ranges = {"temperature": (1e-3, 100.0), "top_p": (1e-6, 1.0), "contrastive_alpha": (0.0, 1.0)}
        ranges |= {"length_penalty": (-10.0, 10.0), "repetition_penalty": (0.1, 10.0)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ProjectError(f"decoding.{name}={value!r}: give a number from {low:g} to {high:g}.")
        if self.min_tokens > self.max_tokens:
            raise ProjectError(
                f"decoding.min_tokens={self.min_tokens} is more than decoding.max_tokens={self.max_tokens}."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Decoding":
        """Options from a configuration; what is not given keeps its default.

        Raises:
            ProjectError: an unknown option, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise ProjectError(
                    f"decoding.{name} is not an option.{nearest(name, known)} Known: {', '.join(known)}."
                )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
