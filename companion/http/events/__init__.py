"""Stream server-sent events."""
