"""Read the store for people and machines."""
