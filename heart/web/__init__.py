"""HTML, charts and templates that the page and the reports share."""
