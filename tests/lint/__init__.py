"""Check rules of this project that ruff does not know."""
