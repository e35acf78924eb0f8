"""In how many images' captions each n-gram stands: what CIDEr weighs by, kept for captions that come alone."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from src.atomic import atomic_path
from src.captions.tokenizers import Tokenizer, get_tokenizer
from src.errors import ProjectError
from src.metrics.caption.cider import ORDERS
from src.metrics.caption.comparison import Comparison
from src.metrics.caption.ngrams import NgramTable, TokenTable, runs
from src.metrics.ranking import UndefinedMetric


@dataclass(frozen=True, eq=False)
class Frequencies:
    """Document frequencies of the n-grams of order 1 to 4.

    tokenizer: name of what made the tokens. images: how many have captions. counts: n-gram (tokens with a space
    between) to images, for those of two images and more: one image weighs as much as none (`own_idf`).
    """

    tokenizer: str
    images: int
    counts: dict[str, int]

    @classmethod
    def of(cls, references: Sequence[Sequence[str]], tokenizer: str | Tokenizer = "morpheme") -> "Frequencies":
        """Of the captions of each image; images without captions do not count.

        Raises:
            UndefinedMetric: no image has a caption.
        """
        tokenizer = get_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
        described = [list(item) for item in references if len(item)]
        if not described:
            raise UndefinedMetric("frequencies of n-grams need captions, and no image has one.")
        table = TokenTable.of(tokenizer.tokens_of(list(chain.from_iterable(described))))
        image = np.repeat(np.arange(len(described)), [len(item) for item in described])
        ngrams, counts = NgramTable(table), {}
        for n in range(1, ORDERS + 1):
            found = ngrams.order(n)
            once = runs(image[found.text] * max(found.size, 1) + found.gram)[0]
            documents = np.bincount(once % max(found.size, 1), minlength=found.size)
            kept = np.flatnonzero(documents > 1)
            names = _names(table, found.first[kept], n)
            counts.update(zip(names, documents[kept].tolist(), strict=True))
        return cls(tokenizer.name, len(described), counts)

    def idf(self, comparison: Comparison, n: int) -> np.ndarray:
        """(size,) log(images / images with the n-gram) of a comparison's n-grams of order n; one of none counts as of
        one image."""
        found = comparison.ngrams.order(n)
        names = _names(comparison.table, found.first, n)
        counts = np.fromiter((self.counts.get(name, 1) for name in names), np.float64, len(names))
        return np.log(float(self.images)) - np.log(counts)

    def check(self, tokenizer: str) -> None:
        """Raise ProjectError unless they are of this tokenizer's tokens."""
        if self.tokenizer != tokenizer:
            raise ProjectError(
                f"the n-gram frequencies are of '{self.tokenizer}' tokens and the metric is of '{tokenizer}' tokens. "
                f"Count them again: Frequencies.of(captions, '{tokenizer}')."
            )

    def to_file(self, path: str | Path) -> None:
        """Write as .json.gz, the same bytes for the same frequencies."""
        content = {"tokenizer": self.tokenizer, "images": self.images, "counts": dict(sorted(self.counts.items()))}
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        with atomic_path(path) as temporary:
            temporary.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))

    @classmethod
    def from_file(cls, path: str | Path) -> "Frequencies":
        """Raises:
        ProjectError: there is no such file, or it does not hold frequencies.
        """
        try:
            content = json.loads(gzip.decompress(Path(path).read_bytes()).decode("utf-8"))
            counts = {str(name): int(count) for name, count in content["counts"].items()}
            return cls(str(content["tokenizer"]), int(content["images"]), counts)
        except FileNotFoundError as error:
            raise ProjectError(
                f"{path} does not exist. Training writes it: name the folder of a caption run."
            ) from error
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProjectError(
                f"{path} does not hold n-gram frequencies ({type(error).__name__}: {error}). Expected gzipped JSON of "
                "tokenizer, images and counts; write it again with Frequencies.of(captions, tokenizer).to_file(path)."
            ) from error


def _names(table: TokenTable, first: np.ndarray, n: int) -> list[str]:
    """The n-grams that begin at the given places, as text."""
    words = [table.words[index] for index in table.ids.tolist()]
    return [" ".join(words[start : start + n]) for start in first.tolist()]
