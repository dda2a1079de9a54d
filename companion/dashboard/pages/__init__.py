"""Read the data of each page, show them, and handle what its viewer chooses."""
