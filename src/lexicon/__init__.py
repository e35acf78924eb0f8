"""Korean words and questions for a detector: an own lexicon, question parsing, and the way to unknown words."""

from src.lexicon.names import english_of, korean_of
from src.lexicon.query import Choice, Query, Target, parse_query
from src.lexicon.resolve import Resolution, Resolved, resolve
from src.lexicon.similarity import ClipEmbedder, Embedder, nearest_classes

__all__ = [
    "Choice",
    "ClipEmbedder",
    "Embedder",
    "Query",
    "Resolution",
    "Resolved",
    "Target",
    "english_of",
    "korean_of",
    "nearest_classes",
    "parse_query",
    "resolve",
]
