"""What browsers tell of the media of their calls: taken in, scored, and judged."""
