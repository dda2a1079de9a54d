"""Check [bridge] and [consumer], the two ends of the bus."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from companion.bus.endpoint import find_fault, is_rabbitmq, show_endpoint
from companion.config.address import parse_address
from companion.config.section import ConfigSection, is_loopback, is_loopback_host
from companion.credentials import mask
from companion.errors import ConfigError


class BridgeSection(ConfigSection):
    node: str = Field("opensips", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    datagram: str = "udp:127.0.0.1:5066"
    stream: str = ""
    hep: str = ""
    hep_key: str = Field("", repr=False)
    hep_per_second: int = Field(2000, ge=1, le=1_000_000)
    publish: str = Field("tcp://127.0.0.1:5555", repr=False)
    receive_buffer_bytes: int = Field(8 << 20, ge=65536, le=1 << 30)
    high_water_mark: int = Field(50_000, ge=1)
    curve_secret_key: str = Field("", repr=False)
    curve_clients: tuple[str, ...] = ()
    allow_plaintext: bool = False

    @property
    def has_input(self) -> bool:
        """Return whether a bridge would receive anything: without an input none runs here."""
        return bool(self.datagram or self.stream)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_hep(self.hep, self.hep_key)
        if self.hep and not self.has_input:
            raise ValueError("hep needs a bridge: set datagram or stream too")
        _check_endpoint(self.publish, "publish")
        if not self.allow_plaintext and _is_plain(self.publish, self.curve_secret_key):
            raise ValueError(
                f"publish = {show_endpoint(self.publish)!r} leaves this machine in clear text: "
                f"{_encryption(self.publish)}, or allow_plaintext = true"
            )
        if self.curve_secret_key and not self.curve_clients:
            raise ValueError(
                "curve_secret_key needs curve_clients, the public keys of the consumers that may subscribe"
            )
        return self


class ConsumerSection(ConfigSection):
    subscribe: tuple[str, ...] = Field(("tcp://127.0.0.1:5555",), repr=False)
    batch_size: int = Field(2048, ge=1, le=100_000)
    batch_ms: int = Field(100, ge=1, le=10_000)
    max_pending: int = Field(200_000, ge=1)
    max_devices: int = Field(1_000_000, ge=1)
    contacts_per_aor: int = Field(100, ge=1, le=10_000)
    devices_per_aor: int = Field(100, ge=1, le=10_000)
    new_aors_per_minute: int = Field(10_000, ge=1, le=100_000_000)
    max_stored_devices: int = Field(2_000_000, ge=1, le=100_000_000)
    curve_server_key: str = ""
    curve_secret_key: str = Field("", repr=False)
    allow_plaintext: bool = False

    @field_validator("subscribe", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Take the endpoints of subscribe_file, one in a line."""
        return value.split() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        for endpoint in self.subscribe:
            _check_endpoint(endpoint, "subscribe")
        if bool(self.curve_server_key) != bool(self.curve_secret_key):
            raise ValueError("curve_server_key and curve_secret_key need each other: set both or neither")
        plain = [endpoint for endpoint in self.subscribe if _is_plain(endpoint, self.curve_server_key)]
        if plain and not self.allow_plaintext:
            raise ValueError(
                f"subscribe = {show_endpoint(plain[0])!r} is read in clear text: "
                f"{_encryption(plain[0], 'curve_server_key and ')}, or allow_plaintext = true"
            )
        return self


def _check_hep(hep: str, key: str) -> None:
    if not hep:
        return
    try:
        address = parse_address(hep)
    except ConfigError as error:
        raise ValueError(f"hep: {error}") from None
    if not key and not is_loopback_host(address.host):
        raise ValueError(
            f"hep = {hep!r} is not on loopback, and anybody who reaches it may forge messages: "
            "let OpenSIPS send to a bridge beside it, or set hep_key"
        )


def _check_endpoint(endpoint: str, name: str) -> None:
    if fault := find_fault(endpoint):
        raise ValueError(f"{name} = {show_endpoint(mask(endpoint))!r} {fault}")


def _is_plain(endpoint: str, curve_key: str) -> bool:
    """Return whether events leave the machine in clear text."""
    is_encrypted = endpoint.startswith("amqps://") or (curve_key and not is_rabbitmq(endpoint))
    return not is_encrypted and not is_loopback(endpoint)


def _encryption(endpoint: str, more: str = "") -> str:
    """Return what encrypts the way to an endpoint; `more` is the other key that ZeroMQ needs."""
    return "use amqps://" if is_rabbitmq(endpoint) else f"set {more}curve_secret_key_file"
