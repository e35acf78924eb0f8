"""Metrics of captions against references, without Java and without network."""
