"""Hold ASGI middleware for all routes."""
