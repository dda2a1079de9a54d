"""Long random runs: `make soak`."""
