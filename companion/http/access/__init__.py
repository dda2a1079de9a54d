"""Decide who may do what."""
