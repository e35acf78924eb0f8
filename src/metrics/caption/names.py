"""Names of the caption metrics, and how a competition writes one: `cider_d@char`, `0.5*cider_d+0.5*bleu4`."""

import math
from collections.abc import Mapping

from src.errors import ProjectError, nearest

DEFAULT_TOKENIZER = "morpheme"
NAMES: dict[str, str] = {
    "bleu1": "BLEU-1 of the corpus, 0 to 1",
    "bleu2": "BLEU-2 of the corpus, 0 to 1",
    "bleu3": "BLEU-3 of the corpus, 0 to 1",
    "bleu4": "BLEU-4 of the corpus, 0 to 1",
    "rouge1": "F1 of tokens, best reference, 0 to 1",
    "rouge2": "F1 of pairs of tokens, best reference, 0 to 1",
    "rouge_l": "ROUGE-L, longest common subsequence, 0 to 1",
    "meteor": "METEOR of exact and stem matches, 0 to 1",
    "cider": "CIDEr without clipping and length penalty, 0 to 10",
    "cider_d": "CIDEr-D (pycocoevalcap's Cider), 0 to 10",
    "chrf": "chrF2 of characters, 0 to 100",
    "exact_match": "share of captions equal to a reference",
}
WITHOUT_TOKENS = ("chrf", "exact_match")
ALIASES: dict[str, str] = {
    "bleu": "bleu4",
    **{f"bleu_{n}": f"bleu{n}" for n in range(1, 5)},
    "rouge": "rouge_l",
    "rougel": "rouge_l",
    "rouge_1": "rouge1",
    "rouge_2": "rouge2",
    "ciderd": "cider_d",
    "chrf2": "chrf",
}


def is_expression(text: str) -> bool:
    """Whether a metric's text is of this grammar rather than one bare name."""
    return any(sign in text for sign in "*+") or base_name(text.partition("@")[0]) in NAMES


def base_name(text: str) -> str:
    """A metric's own name for a name or alias; case, spaces and hyphens do not matter. Unknown names come back."""
    key = text.strip().lower().replace("-", "_").replace(" ", "_")
    return ALIASES.get(key, key)


def read_expression(text: str) -> tuple[dict[str, float], str]:
    """Weights of the metrics named, and the tokenizer.

    Grammar: terms joined by +, a term `name` or `weight*name`, then at most one `@tokenizer` for all of them.

    Raises:
        ProjectError: an unknown name, a weight that is no positive number, a name twice, or two tokenizers.
    """
    body, *tokenizers = str(text).split("@")
    if len(tokenizers) > 1:
        _fail(text, "one @tokenizer holds for all parts")
    parts: dict[str, float] = {}
    for term in body.split("+"):
        weight, star, name = term.rpartition("*")
        base = base_name(name)
        if base not in NAMES:
            known = f"Known: {', '.join(NAMES)}."
            _fail(text, f"'{name.strip()}' is no caption metric.{nearest(base, [*NAMES, *ALIASES])} {known}")
        if base in parts:
            _fail(text, f"{base} stands there twice. Add up its weights")
        parts[base] = _weight(text, weight) if star else 1.0
    tokenizer = tokenizers[0].strip().lower() if tokenizers else DEFAULT_TOKENIZER
    return parts, tokenizer if set(parts) - set(WITHOUT_TOKENS) else DEFAULT_TOKENIZER


def write_expression(parts: Mapping[str, float], tokenizer: str) -> str:
    """The canonical text, which reads back to the same."""
    terms = [name if weight == 1 else f"{_short(weight)}*{name}" for name, weight in parts.items()]
    return "+".join(terms) + ("" if tokenizer == DEFAULT_TOKENIZER else f"@{tokenizer}")


def _weight(text: str, written: str) -> float:
    try:
        weight = float(written)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        _fail(text, f"'{written.strip()}' is no weight. Weights are positive numbers")
    return weight


def _short(weight: float) -> str:
    # A sign of the exponent would read as the sum's: 1e+20 is written 1e20.
    return repr(weight).removesuffix(".0").replace("e+", "e")


def _fail(text: str, problem: str) -> None:
    raise ProjectError(f"metric '{text}': {problem.rstrip('.')}. Expected e.g. cider_d@char or 0.5*cider_d+0.5*bleu4.")
