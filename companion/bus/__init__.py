"""Publish and read events over ZeroMQ or RabbitMQ: envelope, publishers, subscribers, sequence numbers, CURVE keys."""
