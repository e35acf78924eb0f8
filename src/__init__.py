"""Training repository for image competitions: captioning, detection and counting, anomaly detection."""
