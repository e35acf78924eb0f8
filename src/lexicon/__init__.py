"""Korean words and questions for a detector: an own lexicon, question parsing, and the way to unknown words."""

from src.lexicon.names import english_of, korean_of
from src.lexicon.query import Choice, Query, Target, parse_query

__all__ = ["Choice", "Query", "Target", "english_of", "korean_of", "parse_query"]
