"""Monitoring: drift of the measurements, of their missing values and of the model's score; retraining."""
