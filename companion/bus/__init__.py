"""Carry events over ZeroMQ: the envelope, publisher, subscriber, sequence numbers and CURVE keys."""
