"""Run everything at once for a long time, with a fault every few seconds: `make soak`."""
