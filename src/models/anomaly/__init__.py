"""Anomaly detection networks."""
