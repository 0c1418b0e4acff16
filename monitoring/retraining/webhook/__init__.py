"""The receiver of Grafana's webhook: an alert starts a retraining, once."""
