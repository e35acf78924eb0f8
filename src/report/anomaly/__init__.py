"""The report of an anomaly run."""
