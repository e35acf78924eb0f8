"""Translation between Korean and English, both ways: a protocol, NLLB, Papago, a check of their answers, a cache."""

from src.translation.base import RefusedTranslation, Translator, degenerate
from src.translation.cache import CachedTranslator
from src.translation.nllb import NllbTranslator
from src.translation.papago import PapagoTranslator

__all__ = ["CachedTranslator", "NllbTranslator", "PapagoTranslator", "RefusedTranslation", "Translator", "degenerate"]
