"""Start, watch and stop the services."""
