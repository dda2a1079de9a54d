"""Keep everything in Redis, and send all commands to it."""
