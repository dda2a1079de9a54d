"""ASGI middleware for every route."""
