"""Boxes as plain NumPy: types, cleaning, suppression, fusion, tiles, counts. No torch, no files."""
