"""Define the base of all tables of config.toml, which reads secrets from files."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, model_validator

from companion.bus.endpoint import RABBITMQ


class ConfigSection(BaseModel):
    """Read one table of config.toml; a secret `name` may also be given as `name_file`, a file that holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        read = dict(values)
        for name in [
            name for name in values if name.endswith("_file") and name.removesuffix("_file") in cls.model_fields
        ]:
            secret = name.removesuffix("_file")
            if secret in values:
                raise ValueError(f"{secret} and {name} are both given: keep one")
            read[secret] = _read_secret(name, read.pop(name))
        return read


def _read_secret(name: str, path: Any) -> str:
    if not isinstance(path, str | Path):
        raise ValueError(f"{name} is not the path of a file")  # noqa: TRY004 - pydantic explains only a ValueError
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: {path} can not be read: {getattr(error, 'strerror', None) or error}") from error


def is_loopback(endpoint: str) -> bool:
    """Return whether traffic to an endpoint of the bus stays on this machine."""
    if not endpoint.startswith(("tcp://", *RABBITMQ)):
        return True
    return is_loopback_host(urlsplit(endpoint).hostname or "*")


def is_loopback_host(host: str) -> bool:
    """Return whether a host is this machine, by its name or its address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
