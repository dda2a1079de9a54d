"""Read the endpoints of the bus. No I/O."""

from typing import Final
from urllib.parse import urlsplit

from companion.credentials import MASK, mask

RABBITMQ: Final = ("amqp://", "amqps://")
ZEROMQ: Final = ("tcp://", "ipc://", "inproc://")


def is_ipv6(endpoint: str) -> bool:
    """Return whether an endpoint names an IPv6 address: ZeroMQ takes one only with its option IPV6.

    >>> is_ipv6("tcp://[::1]:5555"), is_ipv6("tcp://127.0.0.1:5555"), is_ipv6("ipc:///run/bus[1]")
    (True, False, False)
    """
    return endpoint.startswith("tcp://[")


def is_rabbitmq(endpoint: str) -> bool:
    """Return whether an endpoint of the bus is a RabbitMQ.

    >>> is_rabbitmq("amqps://rabbit/voip"), is_rabbitmq("tcp://127.0.0.1:5555")
    (True, False)
    """
    return endpoint.startswith(RABBITMQ)


def show_endpoint(endpoint: str) -> str:
    """Return an endpoint without the password and the options of a RabbitMQ, fit for a log.

    >>> show_endpoint("amqp://bridge:secret@rabbit/voip?cafile=/etc/ca.pem"), show_endpoint("tcp://127.0.0.1:5555")
    ('amqp://bridge:***@rabbit/voip', 'tcp://127.0.0.1:5555')
    """
    if not is_rabbitmq(endpoint):
        return endpoint
    scheme, _, rest = endpoint.partition("://")
    login, at, place = rest.rpartition("@")  # a password may hold anything, though it should not
    user, colon, _ = login.partition(":")
    return mask(f"{scheme}://{user}{colon and colon + MASK}{at}{place.partition('?')[0]}")


def find_fault(endpoint: str) -> str:
    """Return why an endpoint can not be one of the bus, "" when it can."""
    if endpoint.startswith(ZEROMQ):
        return ""
    if not is_rabbitmq(endpoint):
        return (
            "is not an endpoint of ZeroMQ such as tcp://127.0.0.1:5555, nor of RabbitMQ such as amqps://USER@HOST/VHOST"
        )
    try:
        parts = urlsplit(endpoint)
        is_complete = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        return f"is no URL: {error}"
    if "@" in endpoint and "@" not in parts.netloc:
        return "has a password that is not percent-encoded: # is %23, / is %2F, ? is %3F"
    return "" if is_complete else "names no host"
