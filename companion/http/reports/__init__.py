"""Take the reports of browsers, and serve their collector."""
