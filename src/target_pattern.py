"""Targets that name a category and a state, such as "tile-good": a spec's `data.target_pattern`, split and composed."""

import string
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

FIELDS = ("category", "state")
EXAMPLE = 'As in "{category}-{state}".'


class Parts(NamedTuple):
    """What a target says; `category` is None where the pattern has none."""

    category: str | None
    state: str


@dataclass(frozen=True)
class TargetPattern:
    """Literal text around one field or two; `between` is "" and `second` None where there is one."""

    text: str
    prefix: str
    first: str
    between: str
    second: str | None
    suffix: str

    @property
    def has_category(self) -> bool:
        return "category" in (self.first, self.second)

    def compose(self, parts: Parts) -> str:
        """The target of a category and a state."""
        values = parts._asdict()
        second = "" if self.second is None else values[self.second]
        return f"{self.prefix}{values[self.first]}{self.between}{second}{self.suffix}"

    def ways(self, target: str) -> list[Parts]:
        """Every way to read a target, by the place of the text between, from left to right; [] where it does not fit.

        No part is empty.
        """
        end = len(target) - len(self.suffix)
        if not target.startswith(self.prefix) or not target.endswith(self.suffix) or end <= len(self.prefix):
            return []
        inner = target[len(self.prefix) : end]
        if self.second is None:
            return [Parts(None, inner)]
        found, at = [], inner.find(self.between, 1)
        while at != -1 and at + len(self.between) < len(inner):
            values = {self.first: inner[:at], self.second: inner[at + len(self.between) :]}
            found.append(Parts(**values))
            at = inner.find(self.between, at + 1)
        return found


def parse_pattern(text: str) -> TargetPattern:
    """A pattern from its text. Doubled braces are literal ones.

    Raises:
        ValueError: an unknown or repeated field, no {state}, or nothing between two fields; the message says what to
            type.
    """
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"'{text}': {error}. {EXAMPLE}") from error
    literals, fields = [""], []
    for literal, name, form, conversion in parts:
        literals[-1] += literal
        if name is None:
            continue
        if name not in FIELDS or form or conversion:
            raise ValueError(f"'{text}': braces hold {{category}} or {{state}}, nothing else. {EXAMPLE}")
        fields.append(name)
        literals.append("")
    if len(set(fields)) < len(fields):
        raise ValueError(f"'{text}': a field stands there twice. {EXAMPLE}")
    if "state" not in fields:
        found = "{category} alone" if fields else "no field"
        raise ValueError(f"'{text}' has {found}; the state, which data.normal lists, is needed. {EXAMPLE}")
    if len(fields) == 1:
        return TargetPattern(text, literals[0], fields[0], "", None, literals[1])
    if not literals[1]:
        raise ValueError(f"'{text}': text must stand between the two fields, to tell where one ends. {EXAMPLE}")
    return TargetPattern(text, literals[0], fields[0], literals[1], fields[1], literals[2])


def split_targets(
    pattern: TargetPattern, targets: Iterable[str], *, normal: Collection[str], categories: Iterable[str] = ()
) -> dict[str, Parts | None]:
    """Target → its parts, for each distinct target; None where it does not fit.

    A target with the text between once can be read in one way. One with more, as "metal_nut-good-2" or "wire-end-bent",
    is read by the first rule that leaves one way:

    1. the state is one of `normal`;
    2. the category is known: from `categories`, or from the targets that one way or rule 1 decided;
    3. the text between is its last occurrence.

    The answer depends on the set of targets, not on their order, and on nothing else.
    """
    ways = {target: pattern.ways(target) for target in dict.fromkeys(targets)}
    chosen: dict[str, Parts | None] = {}
    for target, found in ways.items():
        if len(found) > 1:
            found = [parts for parts in found if parts.state in normal]
        if len(found) == 1:
            chosen[target] = found[0]
    known = {*categories, *(parts.category for parts in chosen.values())}
    for target, found in ways.items():
        if target not in chosen:
            named = [parts for parts in found if parts.category in known]
            chosen[target] = named[0] if len(named) == 1 else found[-1] if found else None
    return {target: chosen[target] for target in ways}


def suggested_pattern(targets: Collection[str]) -> str | None:
    """A pattern that all of some targets fit, for a message; None where no usual separator is in all of them."""
    for mark in ("-", "_", "/", " ", ":", ".", "|"):
        pattern = parse_pattern(f"{{category}}{mark}{{state}}")
        if targets and all(pattern.ways(target) for target in targets):
            return pattern.text
    return None
