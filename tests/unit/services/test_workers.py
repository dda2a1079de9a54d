"""What a process that serves the API with others is ordered."""

import msgspec

from companion.config import Config
from companion.services.worker import Order, encode_order
from companion.services.workers import share_session_key

TABLES = {
    "api": {"listen": "127.0.0.1:1", "workers": 3, "hosts": ["a.example"], "tokens": [f"ann:read:{'0' * 64}"]},
    "opensips": [{"node": "edge", "mi_url": "http://127.0.0.1:1/mi", "mi_password": "p"}],
    "remediation": {"rules": [{"domain": "a", "action": "keep"}]},
    "media": {"secret": "s" * 32},
}


def test_an_order_holds_the_whole_configuration() -> None:
    """A worker works with the very configuration of the process that starts it, secrets too."""
    config = Config.model_validate(TABLES)
    order = Order(config.model_dump(mode="json"), "api-1", [3, 4], 5, {"main": 6})
    line = encode_order(order)
    read = msgspec.json.decode(line, type=Order)
    assert line.count(b"\n") == 1
    assert Config.model_validate(read.config) == config
    assert read.descriptors == (3, 4, 5, 6)


def test_workers_share_a_session_key() -> None:
    """Each worker knows the logins of the others, also where no key is configured; a configured one stays."""
    made = share_session_key(Config.model_validate(TABLES)).api.session_key
    assert len(made) >= 32
    assert made != share_session_key(Config.model_validate(TABLES)).api.session_key
    configured = Config.model_validate({"api": {"session_key": "k" * 32}})
    assert share_session_key(configured) == configured
