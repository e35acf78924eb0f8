"""The report of a detection run."""
