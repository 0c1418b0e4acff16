"""Retraining: collect outcomes, run the pipeline, keep a history; and the webhook that starts it."""
