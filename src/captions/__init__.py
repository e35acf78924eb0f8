"""Captions as text: cleaned, tokenised, judged, edited, and chosen among candidates. No network lives here."""
