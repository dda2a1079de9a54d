"""Publish and read events over ZeroMQ: envelope, publisher, subscriber, sequence numbers and CURVE keys."""
