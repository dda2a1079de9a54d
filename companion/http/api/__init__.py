"""The routes of /api/v1 and their models."""
