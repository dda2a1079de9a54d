"""Serve /api/v1."""
