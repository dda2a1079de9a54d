"""Read, score and judge what browsers report of the media of their calls."""
