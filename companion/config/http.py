"""Check [api] and [metrics], the tables with a socket that serves HTTP."""

from ipaddress import ip_network
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from companion.config.section import ConfigSection, is_loopback
from companion.tokens.access import Token

SESSION_KEY_CHARACTERS = 32


class ListenSection(ConfigSection):
    """Describe a table with a socket to open at `listen`, HOST:PORT."""

    listen: str

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    def check_listen(self) -> None:
        """Check that `listen` is HOST:PORT.

        Raises ValueError when it is not.
        """
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"listen = {self.listen!r} is not HOST:PORT")

    @property
    def on_loopback(self) -> bool:
        return is_loopback(f"tcp://{self.listen}")


class MetricsSection(ListenSection):
    """Describe where a process serves its own metrics, without a token; `listen` "" = nowhere."""

    listen: str = ""
    allow_anybody: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.listen:
            return self
        self.check_listen()
        if not self.on_loopback and not self.allow_anybody:
            raise ValueError(
                f"listen = {self.listen!r} is not on loopback, and anybody who reaches it may read: "
                "let [api] serve /metrics with a token, or set allow_anybody = true"
            )
        return self


class ApiSection(ListenSection):
    """Describe the API: `tokens` are lines NAME:SCOPE:SHA256HEX, `hosts` the names it is reached by (`*`, `?`)."""

    listen: str = "127.0.0.1:8780"
    dashboard: bool = True
    notice: str = Field("", max_length=80)
    tokens: tuple[str, ...] = Field((), repr=False)
    open_reads: bool = True
    hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    workers: int = Field(1, ge=1, le=64)
    max_connections: int = Field(2000, ge=16, le=100_000)
    session_key: str = Field("", repr=False)
    secure_cookie: Literal["auto", "always", "never"] = "auto"

    @field_validator("tokens", mode="before")
    @classmethod
    def _split_lines(cls, tokens: Any) -> Any:
        """Split the text of tokens_file: a token in each line, except empty lines and those with a #."""
        if not isinstance(tokens, str):
            return tokens
        lines = (line.strip() for line in tokens.splitlines())
        return [line for line in lines if line and not line.startswith("#")]

    @field_validator("tokens")
    @classmethod
    def _check_tokens(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        names = set()
        for number, line in enumerate(lines, 1):
            try:
                name = Token.parse(line).name
            except ValueError as error:
                raise ValueError(f"number {number} {error}") from None
            if name in names:
                raise ValueError(f"{name} is there twice")
            names.add(name)
        return lines

    @field_validator("proxies")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"{error}: name the proxies by address, such as 10.0.0.2 or 10.0.0.0/24") from None
        return proxies

    @field_validator("session_key")
    @classmethod
    def _check_session_key(cls, key: str) -> str:
        if key and len(key) < SESSION_KEY_CHARACTERS:
            raise ValueError(f"is shorter than {SESSION_KEY_CHARACTERS} characters: `openssl rand -hex 32` makes one")
        return key

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check_listen()
        if not self.tokens and not self.on_loopback:
            raise ValueError(
                f"listen = {self.listen!r} is not on loopback, and there are no tokens to keep strangers out: "
                "`companion token new NAME` makes one for `tokens`"
            )
        return self
