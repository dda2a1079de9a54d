"""Simulated phones for a first look, with a week of history."""
