"""Make and check access tokens and call tokens."""
