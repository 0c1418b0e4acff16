"""Watching production: drift of the measurements, of their missingness and of the model's score."""
