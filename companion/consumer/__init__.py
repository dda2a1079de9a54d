"""Consume the bus and write what it brings to the store."""
