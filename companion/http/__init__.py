"""Serve HTTP: the API, probes, reports of browsers, and access to them."""
