"""Retraining: collect outcomes, run the pipeline on them, keep a history; and the webhook that starts it."""
