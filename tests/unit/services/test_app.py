"""Which services run, by what was chosen and what is configured."""

import pytest

from companion.config import Config
from companion.errors import ConfigError
from companion.services.app import SERVICES, choose_services

NO_INPUT = Config.model_validate({"bridge": {"datagram": "", "stream": ""}})
NO_BUS = Config.model_validate({"consumer": {"subscribe": []}})


def test_all_by_default() -> None:
    """Without a choice all services run, in the order of the data; with one those that were chosen."""
    assert choose_services(Config()) == [*SERVICES]
    assert choose_services(Config(), ["api", "bridge"]) == ["bridge", "api"]


def test_no_bridge_without_an_input() -> None:
    """Where OpenSIPS publishes by itself, or a bridge runs elsewhere, all the rest runs by default."""
    assert choose_services(NO_INPUT) == ["consumer", "scheduler", "api"]
    assert choose_services(NO_INPUT, ["consumer"]) == ["consumer"]


def test_a_bridge_alone_needs_no_subscription() -> None:
    """On a machine with nothing but a bridge the consumer's table may be empty."""
    assert choose_services(NO_BUS, ["bridge"]) == ["bridge"]


@pytest.mark.parametrize(
    ("config", "chosen", "message"),
    [
        (NO_INPUT, ["bridge"], r"\[bridge\]: datagram and stream are both empty"),
        (NO_INPUT, ["bridge", "consumer"], r"\[bridge\]: datagram and stream are both empty"),
        (NO_BUS, [], r"\[consumer\]: subscribe is empty"),
        (NO_BUS, ["consumer"], r"\[consumer\]: subscribe is empty"),
    ],
)
def test_what_is_missing(config: Config, chosen: list[str], message: str) -> None:
    """A service that was asked for and lacks what it works on is an error that names the keys."""
    with pytest.raises(ConfigError, match=message):
        choose_services(config, chosen)
