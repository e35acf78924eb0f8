"""One page that shows what a run did: `build_report` writes report.html and the figures beside it."""

from src.report.page import build_report

__all__ = ["build_report"]
