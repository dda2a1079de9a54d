"""Access tokens and call tokens."""
