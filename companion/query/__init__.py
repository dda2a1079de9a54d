"""Everything that people and machines read."""
