"""Make the pictures of README.md and docs/ from the demo: `make pictures`."""
