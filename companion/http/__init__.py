"""The HTTP service without its pages."""
