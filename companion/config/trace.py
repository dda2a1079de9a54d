"""Check [trace]: recordings of SIP messages of single devices."""

from pydantic import Field, field_validator

from companion.config.section import ConfigSection
from companion.times import HOUR_MS


class TraceSection(ConfigSection):
    """Describe recordings: how many at once, how much of each is kept for how long, and whether secrets are masked.

    `homer_url` is a template with `{call_id}`; "" = no links to Homer.
    """

    max_recordings: int = Field(10, ge=1, le=1000)
    max_messages: int = Field(5000, ge=100, le=100_000)
    max_bytes: int = Field(4 << 20, ge=65_536, le=1 << 30)
    keep_hours: float = Field(24, gt=0, le=8784)
    mask: bool = True
    homer_url: str = ""

    @field_validator("homer_url")
    @classmethod
    def _check_homer_url(cls, url: str) -> str:
        if url and (not url.startswith(("http://", "https://")) or "{call_id}" not in url):
            raise ValueError(f"{url!r} is not an http:// or https:// URL with {{call_id}} in it")
        return url

    @property
    def keep_ms(self) -> int:
        return round(self.keep_hours * HOUR_MS)
