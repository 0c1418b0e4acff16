"""HTML that the page and the drift report share."""
