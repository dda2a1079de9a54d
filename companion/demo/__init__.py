"""Build the phones of the demo, and a week of history for them."""
