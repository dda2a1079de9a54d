"""What commands print, rendered with rich."""
