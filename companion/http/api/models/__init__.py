"""Describe what the API answers and accepts."""
