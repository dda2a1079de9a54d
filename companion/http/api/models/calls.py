"""Describe calls in the OpenAPI document."""

from typing import Literal

from pydantic import Field

from companion.http.api.models.base import ApiModel
from companion.http.api.models.devices import EntryModel
from companion.http.api.models.values import (
    Band,
    Count,
    Cursor,
    DeviceId,
    Measured,
    MediaSample,
    Milliseconds,
    Mos,
    Sample,
    Seconds,
    Share,
    Time,
)
from companion.media import e_model


class PathModel(ApiModel):
    """Represent the path of media: the selected pair of candidates.

    What is not known is absent. Addresses are shortened.
    """

    local: str = Field("", examples=["srflx"], description="host, srflx, prflx or relay.")
    remote: str = Field("", examples=["host"])
    protocol: str = Field("", examples=["udp"])
    relay: str = Field("", description="By what one speaks to the relay: udp, tcp or tls.")
    network: str = Field("", examples=["wifi"])
    local_address: str = Field("", examples=["198.51.100.0"])
    remote_address: str = ""


class CallModel(ApiModel):
    """Represent a call as one device saw it, at a glance. Figures are of the whole call so far."""

    call_id: str = Field(examples=["5f2c1b0e9a@phone.example.com"])
    device: DeviceId
    direction: Literal["in", "out", ""]
    peer: str = Field(description="As the page called it.", examples=["sip:bob@example.com"])
    started_at: Time
    ended_at: Time | None
    seconds: Count = Field(description="From its start to its end, or to the last report.")
    end: Literal["", "hangup", "failed", "lost", "closed"]
    why: str = Field(description="Why it ended, as the page said it.", examples=["486 Busy Here"])
    live: bool = Field(description="It has not ended, and a report came within 15 seconds.")
    mos: Mos = Field(description="The mean over the seconds that could be scored.")
    mos_min: Mos = Field(description="Of the worst second.")
    band: Band = Field(description="Of the mean R.")
    loss_percent: Measured = Field(description="Of the packets that should have come in.", examples=[0.42])
    rtt_ms: Measured = Field(description="The mean round trip.")
    jitter_max_ms: Measured
    path: PathModel | None = Field(description="The last one.")
    relay: bool | None = Field(description="Whether that path goes through a relay.")
    codec: str | None = Field(description="Of what comes in.", examples=["opus/48000/2"])
    bad_seconds: Count = Field(description="Seconds with an R below 70.")
    switch_overs: Count
    dropped: Count = Field(description="Items the page had no room for.")
    missing: Count = Field(description="Items that never came.")


class CallsModel(ApiModel):
    """List the calls of one device, newest first."""

    device: DeviceId
    window_seconds: int
    calls: list[CallModel]
    cut: bool = Field(description="There are older ones in the window.")
    refused_reports: Count = Field(description="Reports of the last hour that exceeded a budget of the device.")
    refused_why: Literal["", "calls", "bytes"] = Field(description="Which budget the last one exceeded.")


class FleetCallsModel(ApiModel):
    """Hold a page of the calls of all devices, those last reported first."""

    window_seconds: int
    calls: list[CallModel]
    next: Cursor


class BreakdownModel(ApiModel):
    """Hold the points of R that are lost to what, in the mean."""

    delay: float
    loss: float
    codec: float


class HappeningModel(ApiModel):
    """Represent what happened in a call at one time. Which fields there are depends on `what`."""

    at: Time
    what: str = Field(examples=["switch-over"])
    fields: dict[str, str | float | bool | None]


class MinutePingsModel(ApiModel):
    """Count the device's pings from a ping interval before a minute to one after it."""

    answered: Count
    lost: Count
    max_ms: Milliseconds | None


class MinuteModel(ApiModel):
    """Represent a minute of a call, counted from its start. Figures are means over it."""

    at: Time
    seconds: Seconds = Field(description="How much of it there are samples of.")
    scored_seconds: Seconds
    mos: Mos
    band: Band
    bad: bool = Field(description="Its mean R is below 70, or it was silent though neither muted nor held, or made up.")
    breakdown: BreakdownModel | None
    loss_percent: Measured
    rtt_ms: Measured
    jitter_ms: Measured
    buffer_ms: Measured = Field(description="How long the jitter buffer held sound back.")
    concealed: Share = Field(description="Which share of what was played was made up.")
    relay: bool | None
    silent_seconds: Seconds = Field(description="Nothing came in, though neither muted nor held.")
    flags: dict[str, float] = Field(
        description="How many seconds it was muted, held, hidden …", examples=[{"muted": 12}]
    )
    changes: list[str] = Field(description="Changes of network near it, in words.")
    pings: MinutePingsModel


class BadMinuteModel(ApiModel):
    """Name what a bad minute is blamed on, and why."""

    at: Time
    what: Literal["signalling", "media", "device", "network", "unknown"]
    evidence: list[str]


class VerdictModel(ApiModel):
    """Name the cause of a bad call."""

    what: Literal["good", "signalling", "media", "device", "network", "unknown"] = Field(
        description="`signalling`: the way of the pings, the device's line; `media`: the way of the media; `device`; "
        "`network`: it was changed; `unknown`: too little is known."
    )
    evidence: list[str] = Field(
        description="In plain sentences, the most telling first.",
        examples=[["bad minutes: 2 of 3", "5.1 % of packets lost, round trip 310 ms through a relay, jitter 12 ms"]],
    )
    bad_minutes: list[BadMinuteModel]


class CallPageModel(CallModel):
    """Hold all about a call as one device saw it."""

    formula: str = Field(description="Scores of another formula do not compare.", examples=[e_model.FORMULA])
    breakdown: BreakdownModel | None
    samples: list[MediaSample] = Field(description="Oldest first, 3600 at most: of a longer call each is of several.")
    happenings: list[HappeningModel]
    minutes: list[MinuteModel]
    verdict: VerdictModel
    pings: list[Sample] = Field(description="The device's, from two ping intervals before the call to two after.")
    timeline: list[EntryModel] = Field(description="What happened to the device in that time.")
    legs: list[DeviceId] = Field(description="All devices that told of this call.")
