"""Serve /healthz, /readyz and /metrics."""
