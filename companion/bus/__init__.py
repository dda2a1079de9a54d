"""The ZeroMQ bus: the envelope, publisher, subscriber, sequence numbers, CURVE keys."""
