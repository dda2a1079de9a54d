"""Check [[opensips]], [pings] and [reconcile]: how to reach OpenSIPS and what it does."""

import re
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from companion.config.section import ConfigSection

_PROBE_URL: Final = re.compile(r"udp:(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):[0-9]{1,5}")


class OpensipsSection(ConfigSection):
    """Describe one OpenSIPS: `node` as in its bridge, `cluster` when several share usrloc, `mi_url` of its mi_http.

    `mi_user` and `mi_password` are for Basic auth, `mi_ca_file` (PEM) for a private CA; `mi_timeout` is seconds for a
    call. `probe_url` is its mi_datagram, for the OPTIONS to a phone before its removal. `subscribe` subscribes to its
    events through MI; `events_to` is the address it sends them to, when that is not the one of [bridge]. `hep_to` is
    the same for the SIP messages of recorded devices.
    """

    node: str = Field("opensips", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    cluster: str = ""
    mi_url: str = "http://127.0.0.1:8888/mi"
    mi_user: str = ""
    mi_password: str = Field("", repr=False)
    mi_ca_file: Path | None = None
    mi_timeout: float = Field(5.0, gt=0, le=60)
    probe_url: str = ""
    subscribe: bool = False
    events_to: str = ""
    hep_to: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.probe_url and not _PROBE_URL.fullmatch(self.probe_url):
            raise ValueError(f"probe_url = {self.probe_url!r} is not udp:HOST:PORT")
        if urlsplit(self.mi_url).scheme not in ("http", "https"):
            raise ValueError(f"mi_url = {self.mi_url!r} is not an http:// or https:// URL")
        return self


class PingsSection(ConfigSection):
    interval: float = Field(120, gt=0, le=86_400)
    lost_after: int = Field(3, ge=1, le=1000)

    @property
    def interval_ms(self) -> int:
        return round(self.interval * 1000)


class ReconcileSection(ConfigSection):
    enabled: bool = True
    every_hours: float = Field(6, gt=0, le=168)

    @property
    def every_ms(self) -> int:
        return round(self.every_hours * 3_600_000)
