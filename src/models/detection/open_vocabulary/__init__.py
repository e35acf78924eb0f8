"""Detectors that are told in words what to find."""

from src.models.detection.open_vocabulary.families import FAMILIES, default_preprocess
from src.models.detection.open_vocabulary.network import OpenVocabularyDetector, prompts_for
from src.models.detection.open_vocabulary.prompts import build_prompts

__all__ = ["FAMILIES", "OpenVocabularyDetector", "build_prompts", "default_preprocess", "prompts_for"]
