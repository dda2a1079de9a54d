"""Read the endpoints of the bus. No I/O."""


def is_ipv6(endpoint: str) -> bool:
    """Return whether an endpoint names an IPv6 address: ZeroMQ takes one only with its option IPV6.

    >>> is_ipv6("tcp://[::1]:5555"), is_ipv6("tcp://127.0.0.1:5555"), is_ipv6("ipc:///run/bus[1]")
    (True, False, False)
    """
    return endpoint.startswith("tcp://[")
