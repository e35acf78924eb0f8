"""Errors that a user can mend: one message that says what, where, what was expected and what to type next."""

import difflib
from collections.abc import Iterable


class ProjectError(Exception):
    """A mistake in input, configuration or environment. Entry points print it without a traceback, exit status 1."""


def nearest(word: str, options: Iterable[str]) -> str:
    """A closing sentence for an error message: " Did you mean 'x'?", or "" when nothing is close."""
    names = [str(option) for option in options]
    found = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""
