"""Check [media]: who may report calls, and the advice to browsers."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from companion.config.section import ConfigSection
from companion.tokens.call import MAX_MINUTES, SECRET_CHARACTERS

_ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
"""Ports that browsers leave out of an origin."""


class MediaSection(ConfigSection):
    """Describe reports of browsers: `secret` signs tokens, and without one no report is accepted.

    `origins` are the pages that may send, as browsers write them. `calls_per_hour` and `megabytes_per_hour` bound one
    device, the keys with `max_` all devices together; bytes are those that Redis keeps.
    """

    secret: str = Field("", repr=False)
    token_minutes: int = Field(60, ge=1, le=MAX_MINUTES)
    origins: tuple[str, ...] = ()
    full_addresses: bool = False
    reports_per_minute: int = Field(60, ge=1, le=6000)
    max_calls: int = Field(20_000, ge=1, le=1_000_000)
    calls_per_hour: int = Field(120, ge=1, le=100_000)
    megabytes_per_hour: int = Field(2, ge=1, le=10_000)
    max_megabytes_per_hour: int = Field(5000, ge=1, le=1_000_000)
    max_stored_calls: int = Field(2_000_000, ge=1, le=1_000_000_000)
    advice: bool = False
    advice_min_bps: int = Field(16_000, ge=6000, le=10_000_000)
    advice_max_bps: int = Field(64_000, ge=6000, le=10_000_000)
    advice_loss_percent: float = Field(5, gt=0, le=100)
    advice_rtt_ms: float = Field(400, gt=0, le=60_000)
    advice_after: float = Field(10, ge=1, le=3600)
    advice_recover_after: float = Field(30, ge=1, le=3600)

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, secret: str) -> str:
        if secret and len(secret) < SECRET_CHARACTERS:
            raise ValueError(f"is shorter than {SECRET_CHARACTERS} characters: `openssl rand -hex 32` makes one")
        return secret

    @field_validator("origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin) or origin.endswith(_DEFAULT_PORTS[origin.partition(":")[0]]):
                raise ValueError(f"{origin!r} is not an origin as browsers write it, such as https://phone.example.com")
        return origins

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.advice_min_bps > self.advice_max_bps:
            raise ValueError("advice_min_bps is more than advice_max_bps: lower it")
        return self
