"""What OpenSIPS says, and how to ask it."""
