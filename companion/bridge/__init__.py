"""Receive OpenSIPS' events, check their shape, stamp and number them, and publish them on the bus."""
