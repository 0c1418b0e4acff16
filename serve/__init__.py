"""The service: REST API, page and prediction log around the champion model."""
