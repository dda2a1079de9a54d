"""Describe devices in the OpenAPI document."""

from pydantic import Field

from companion.http.api.models.base import ApiModel
from companion.http.api.models.values import (
    Bucket,
    Count,
    Cursor,
    DeviceId,
    Milliseconds,
    NodeName,
    Sample,
    Share,
    Time,
)
from companion.quality import Label
from companion.usrloc.contact import Status


class GlanceModel(ApiModel):
    """Represent a device at a glance."""

    device: DeviceId
    aor: str = Field(examples=["alice"])
    node: NodeName
    status: Status = Field(description="The best of its contacts': online, losing, unknown, stale, offline.")
    user_agent: str = Field(examples=["Yealink SIP-T54W 96.86.0.70"])
    push: bool = Field(description="Whether it can be woken by push (RFC 8599).")
    last_latency_ms: Milliseconds | None = Field(description="Of its last answered ping.")
    quality: Label | None = Field(description="That latency in a word; null when it was never pinged.")
    last_latency_at: Time | None
    last_register_at: Time | None
    consecutive_lost: Count = Field(description="Pings lost in a row, up to now.")


class RowModel(GlanceModel):
    """Represent one device in a list."""

    contacts: Count = Field(description="How many contacts it has that did not end.")


class DevicesModel(ApiModel):
    """Hold a page of a list."""

    devices: list[RowModel]
    total: Count = Field(description="How many fit, on all pages.")
    next: Cursor
    as_of: Time | None = Field(description="When the fleet was last gone over: by then order and `total` are right.")


class RegistrationModel(ApiModel):
    """Represent the registration of the contact that speaks for the device."""

    registered: bool
    expires_at: Time | None
    user_agent: str
    received: str = Field(description="Where its REGISTER came from, when not from where it says.")
    push: bool
    last_register_at: Time | None


class StatisticsModel(ApiModel):
    """Sum up a window: average, maximum and minimum of the answered pings."""

    window_seconds: int = Field(examples=[86400])
    average_ms: float | None = Field(examples=[52.4])
    max_ms: Milliseconds | None
    min_ms: Milliseconds | None
    total: Count = Field(description="Answered and lost.")
    answered: Count
    lost: Count
    loss_ratio: Share


class ContactModel(ApiModel):
    """Represent one binding in OpenSIPS' usrloc."""

    contact: str = Field(description="Its id, as timeline entries name it.")
    uri: str = Field(
        description="Its push parameters, password and headers are masked.", examples=["sip:alice@198.51.100.7:5060"]
    )
    cluster: str
    node: NodeName
    status: Status
    ghost: bool = Field(description="Dead, while a newer one of the same device answers.")
    user_agent: str
    received: str
    path: str
    push: bool
    registered_at: Time | None
    last_register_at: Time | None
    expires_at: Time | None
    last_latency_ms: Milliseconds | None
    last_latency_at: Time | None
    consecutive_lost: Count
    lost_since: Time | None
    disconnected_at: Time | None
    ended_at: Time | None
    ended_by: str = Field(description="Empty while it has not ended.", examples=["deleted"])


class EntryModel(ApiModel):
    """Represent what happened to a device, or was done about it. Further members depend on `event`."""

    at: Time
    event: str = Field(examples=["switched-over"])


class DeviceModel(GlanceModel):
    """Hold all about one device."""

    registration: RegistrationModel
    latency: StatisticsModel
    contacts: list[ContactModel] = Field(description="Those that live first, then those that ended.")
    samples: list[Sample] = Field(description="Its pings in the window, oldest first.")
    timeline: list[EntryModel] = Field(description="What happened in the window, oldest first.")


class LatencyModel(ApiModel):
    """Hold the latency of one device over a window, made coarser where there would be too many points."""

    device: DeviceId
    window_seconds: int
    bucket_ms: int = Field(description="How long each bucket is.", examples=[302000])
    buckets: list[Bucket] = Field(description="Oldest first; those without a ping are left out.")


class TimelineModel(ApiModel):
    """List what happened to one device, oldest first."""

    device: DeviceId
    window_seconds: int
    timeline: list[EntryModel]
