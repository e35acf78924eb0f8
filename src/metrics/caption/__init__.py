"""Metrics of captions against references, without Java and without network.

BLEU, ROUGE, METEOR, CIDEr and chrF as pure functions of token lists (chrF: of texts); `measure` puts them together.
SPICE is left out: it compares scene graphs, and the parser that makes them is a Java program for English. CLIPScore
is a function of similarities that a network gives (`clip_score`), so it is none of the metrics of texts alone.
"""
