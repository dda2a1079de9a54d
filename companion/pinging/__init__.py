"""Ping a device now, when somebody wants to know: an OPTIONS through the node that can reach it."""
