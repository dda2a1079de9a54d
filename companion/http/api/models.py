"""What the API answers, for its OpenAPI document. The answers themselves are made by companion.reader.

A member more than is described here is passed on: who reads them must not mind what they do not know.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from companion.media import e_model
from companion.quality import Label
from companion.text import SHOWN
from companion.tokens.call import MAX_CALL_ID, MAX_DEVICE, MAX_MINUTES
from companion.usrloc.contact import Status

Time = Annotated[str, Field(description="ISO 8601, UTC, to the millisecond.", examples=["2026-11-24T09:30:00.125Z"])]
Milliseconds = Annotated[int, Field(ge=0, description="Milliseconds.", examples=[48])]
DeviceId = Annotated[
    str, Field(description="`aor/instance`, else `aor/uri-user`.", examples=["alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a"])
]
Node = Annotated[str, Field(description="One OpenSIPS.", examples=["edge-1"])]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float | None, Field(ge=0, le=1, description="0 to 1; null of nothing.", examples=[0.0125])]
Cursor = Annotated[str | None, Field(description="Ask again with `cursor` set to it; null: there are no more.")]
# not tuples: `prefixItems` is what programs that read OpenAPI documents understand least
Sample = Annotated[
    list[int | None],
    Field(
        min_length=2,
        max_length=2,
        description="Epoch ms of a ping, and its latency in ms or null when it was lost.",
        examples=[[1795512600123, 48]],
    ),
]
Bucket = Annotated[
    list[int | float | None],
    Field(
        min_length=6,
        max_length=6,
        description="Its start (epoch ms); minimum, average and maximum in ms, null when none was answered; how many "
        "pings were answered and lost.",
        examples=[[1795512600000, 41, 48.5, 61, 12, 0]],
    ),
]


class Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class Look(Answer):
    """A device at a glance."""

    device: DeviceId
    aor: str = Field(examples=["alice"])
    node: Node
    status: Status = Field(description="The best of its contacts': online, losing, unknown, stale, offline.")
    user_agent: str = Field(examples=["Yealink SIP-T54W 96.86.0.70"])
    push: bool = Field(description="Whether it can be woken by push (RFC 8599).")
    last_latency_ms: Milliseconds | None = Field(description="Of its last answered ping.")
    quality: Label | None = Field(description="That latency in a word; null when it was never pinged.")
    last_latency_at: Time | None
    last_register_at: Time | None
    consecutive_lost: Count = Field(description="Pings lost in a row, up to now.")


class Row(Look):
    """One device in a list."""

    contacts: Count = Field(description="How many contacts it has that did not end.")


class Devices(Answer):
    """A page of a list."""

    devices: list[Row]
    total: Count = Field(description="How many fit, on all pages.")
    next: Cursor
    as_of: Time | None = Field(description="When the fleet was last gone over: by then order and `total` are right.")


class Registration(Answer):
    """Of the contact that speaks for the device."""

    registered: bool
    expires_at: Time | None
    user_agent: str
    received: str = Field(description="Where its REGISTER came from, when not from where it says.")
    push: bool
    last_register_at: Time | None


class Statistics(Answer):
    """Of a window: average, maximum and minimum of the answered pings."""

    window_seconds: int = Field(examples=[86400])
    average_ms: float | None = Field(examples=[52.4])
    max_ms: Milliseconds | None
    min_ms: Milliseconds | None
    total: Count = Field(description="Answered and lost.")
    answered: Count
    lost: Count
    loss_ratio: Share


class Contact(Answer):
    """One binding in OpenSIPS' usrloc."""

    contact: str = Field(description="Its id, as timeline entries name it.")
    uri: str = Field(description="Without what could push to it.", examples=["sip:alice@198.51.100.7:5060"])
    cluster: str
    node: Node
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


class Entry(Answer):
    """What happened to a device, or was done about it. Which members there are beside these depends on `event`."""

    at: Time
    event: str = Field(examples=["switched-over"])


class Device(Look):
    """All about one device."""

    registration: Registration
    latency: Statistics
    contacts: list[Contact] = Field(description="Those that live first, then those that ended.")
    samples: list[Sample] = Field(description="Its pings in the window, oldest first.")
    timeline: list[Entry] = Field(description="What happened in the window, oldest first.")


class Latency(Answer):
    """The latency of one device over a window, made coarser where there would be too many points."""

    device: DeviceId
    window_seconds: int
    bucket_ms: int = Field(description="How long each bucket is.", examples=[302000])
    buckets: list[Bucket] = Field(description="Oldest first; those without a ping are left out.")


class Timeline(Answer):
    """What happened to one device, oldest first."""

    device: DeviceId
    window_seconds: int
    timeline: list[Entry]


class ByStatus(Answer):
    """How many are in which status."""

    online: Count
    losing: Count
    unknown: Count
    stale: Count
    offline: Count
    total: Count


class Percentiles(Answer):
    """Over the last answered ping of each contact; null of nothing."""

    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    p99_ms: Milliseconds | None


class Feed(Answer):
    """How well the events of one OpenSIPS come in."""

    node: Node
    cluster: str = Field(description="Nodes of one cluster share usrloc.")
    alive: bool = Field(description="Whether its bridge was heard of within ten seconds.")
    run: int = Field(description="Another one, and larger, at each start of its bridge.")
    heartbeat_at: Time | None = Field(description="When its bridge was last heard of, by our clock.")
    said_at: Time | None = Field(description="The same by the bridge's clock.")
    last_event_at: Time | None
    received: Count = Field(description="JSON objects its bridge received since it started.")
    invalid: Count = Field(description="Refused of them.")
    kernel_drops: Count = Field(description="Datagrams the kernel dropped there.")
    gaps: Count = Field(description="Places where events are missing on the bus.")
    missed: Count = Field(description="Events that never reached the store.")
    silences: Count = Field(description="Times its heartbeat stopped.")
    steady_since: int = Field(description="Epoch ms; since then no event is known to be missing.")
    removals: Count = Field(description="Contacts that OpenSIPS itself removed behind lost pings.")
    transports: Count = Field(description="Over how many transports its events came since its bridge was started.")
    interval_ms: Count = Field(description="How often the node pings a contact, as observed; 0 = not yet.")
    doubled: Count = Field(description="Pings that arrived twice.")


class Summary(Answer):
    """The fleet in one look."""

    at: Time
    devices: ByStatus
    contacts: ByStatus
    contacts_by_node: dict[str, ByStatus]
    latency: Percentiles
    loss_ratio: Share
    nodes: list[Feed]


class Point(Answer):
    """The fleet at one time."""

    at: Time
    online: Count
    losing: Count
    unknown: Count
    stale: Count
    offline: Count
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    p99_ms: Milliseconds | None
    loss_ratio: Share


class History(Answer):
    """How the fleet was, oldest first."""

    window_seconds: int
    points: list[Point]


class NodeFeed(Feed):
    """The same, and what there is at that OpenSIPS."""

    contacts: Count | None = Field(description="Contacts that have not ended; null: not counted yet.")
    breaker: Time | None = Field(description="Since when a mass event keeps remediation from acting there.")


class Nodes(Answer):
    """All OpenSIPS that were ever heard of."""

    nodes: list[NodeFeed]


class Remediated(Answer):
    """One decision, with the evidence for it and what came of it."""

    at: Time
    device: DeviceId
    aor: str
    uri: str
    contact: str
    node: Node
    reason: str = Field(description="lost-pings, disconnected or ghost.", examples=["lost-pings"])
    since: Time | None = Field(description="Since when the contact fails.")
    lost: Count
    action: str = Field(description="push, remove, keep or wait.", examples=["remove"])
    why: str
    mode: str = Field(description="In `observe` nothing was done.", examples=["enforce"])
    fence: int = Field(description="Whose turn it was: larger with each sweeper.")
    result: str = Field(examples=["removed"])
    answer: str = Field(description="What MI said.")
    duration_ms: Count = Field(description="How long MI took.")
    attempt: Count = Field(description="Which push it was.")
    after_ms: Count = Field(description="From the first push to the device's answer.")


class Remediations(Answer):
    """A page of decisions, newest first."""

    remediations: list[Remediated]
    next: Cursor


class Remediation(Answer):
    """How remediation is."""

    mode: Literal["observe", "enforce"]
    paused_seconds: Count = Field(description="How much longer nothing is done; 0: not paused.")
    last_sweep_at: Time | None
    candidates: Count = Field(description="Contacts that may be acted on, at the last sweep.")
    acted: Count
    troubles: str = Field(description="What keeps it from acting; empty: nothing.")
    open_breakers: dict[str, Time | None] = Field(description="Nodes with a mass event, and since when.")
    observed_only: dict[str, str] = Field(description="Nodes of which `enforce` only observes, and why.")
    removed_by_opensips: dict[str, int] = Field(description="Contacts that OpenSIPS itself removed, by node.")


class Pause(BaseModel):
    """How long to do nothing."""

    model_config = ConfigDict(extra="forbid")

    seconds: int = Field(ge=1, le=30 * 86_400, description="A month at most.", examples=[1800])


# Calls

Band = Annotated[
    e_model.Band | None, Field(description="Category of ITU-T G.109: of R from 90, 80, 70, 60, 50 on, else `bad`.")
]
Mos = Annotated[float | None, Field(ge=1, le=4.5, description="1 to 4.5; null: too little is known.", examples=[4.37])]
Measured = Annotated[float | None, Field(ge=0, description="Null: not known.")]
Seconds = Annotated[float, Field(ge=0)]
MediaSample = Annotated[
    list[int | float | list[str] | None],
    Field(
        min_length=10,
        max_length=10,
        description="Its end (epoch ms); how many ms it is of; round trip and jitter in ms; loss in percent; bits a "
        "second in and out; MOS; which share of what was played was made up (0 to 1); flags: `muted`, `held`, `hidden` "
        "(the page was in the background), `gap` (its timers did not run), `restart` (ICE was restarted), `offline`. "
        "Null: not known.",
        examples=[[1795512600123, 1000, 42.5, 4.1, 0.0, 24100, 24300, 4.37, 0.0012, ["hidden"]]],
    ),
]


class Path(Answer):
    """Which way media goes: the selected pair of candidates. What is not known is absent. Addresses are shortened."""

    local: str = Field("", examples=["srflx"], description="host, srflx, prflx or relay.")
    remote: str = Field("", examples=["host"])
    protocol: str = Field("", examples=["udp"])
    relay: str = Field("", description="By what one speaks to the relay: udp, tcp or tls.")
    network: str = Field("", examples=["wifi"])
    local_address: str = Field("", examples=["198.51.100.0"])
    remote_address: str = ""


class Call(Answer):
    """A call as one device saw it, at a glance. Figures are of the whole call so far."""

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
    path: Path | None = Field(description="The last one.")
    relay: bool | None = Field(description="Whether that path goes through a relay.")
    codec: str | None = Field(description="Of what comes in.", examples=["opus/48000/2"])
    bad_seconds: Count = Field(description="Seconds with an R below 70.")
    switch_overs: Count
    dropped: Count = Field(description="Items the page had no room for.")
    missing: Count = Field(description="Items that never came.")


class Calls(Answer):
    """The calls of one device, newest first."""

    device: DeviceId
    window_seconds: int
    calls: list[Call]
    cut: bool = Field(description="There are older ones in the window.")


class FleetCalls(Answer):
    """A page of the calls of all devices, those last told of first."""

    window_seconds: int
    calls: list[Call]
    next: Cursor


class Breakdown(Answer):
    """Points of R that are lost to what, in the mean."""

    delay: float
    loss: float
    codec: float


class Happening(Answer):
    """What happened in a call at one time. Which fields there are depends on `what`."""

    at: Time
    what: str = Field(examples=["switch-over"])
    fields: dict[str, str | float | bool | None]


class MinutePings(Answer):
    """The device's pings from a ping interval before a minute to one after it."""

    answered: Count
    lost: Count
    max_ms: Milliseconds | None


class Minute(Answer):
    """A minute of a call, counted from its start. Figures are means over it."""

    at: Time
    seconds: Seconds = Field(description="How much of it there are samples of.")
    scored_seconds: Seconds
    mos: Mos
    band: Band
    bad: bool = Field(description="Its mean R is below 70, or it was silent though neither muted nor held, or made up.")
    breakdown: Breakdown | None
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
    pings: MinutePings


class BadMinute(Answer):
    """What a bad minute is blamed on, and why."""

    at: Time
    what: Literal["signalling", "media", "device", "network", "unknown"]
    evidence: list[str]


class Verdict(Answer):
    """Whose fault it was, if it was bad."""

    what: Literal["good", "signalling", "media", "device", "network", "unknown"] = Field(
        description="`signalling`: the way of the pings, the device's line; `media`: the way of the media; `device`; "
        "`network`: it was changed; `unknown`: too little is known."
    )
    evidence: list[str] = Field(
        description="In plain sentences, the most telling first.",
        examples=[["bad minutes: 2 of 3", "5.1 % of packets lost, round trip 310 ms through a relay, jitter 12 ms"]],
    )
    bad_minutes: list[BadMinute]


class CallPage(Call):
    """All about a call as one device saw it."""

    formula: str = Field(description="Scores of another formula do not compare.", examples=[e_model.FORMULA])
    breakdown: Breakdown | None
    samples: list[MediaSample] = Field(description="Oldest first, 3600 at most: of a longer call each is of several.")
    happenings: list[Happening]
    minutes: list[Minute]
    verdict: Verdict
    pings: list[Sample] = Field(description="The device's, from two ping intervals before the call to two after.")
    timeline: list[Entry] = Field(description="What happened to the device in that time.")
    legs: list[DeviceId] = Field(description="All devices that told of this call.")


class MosPercentiles(Answer):
    """Of the mean MOS of each call; null of none. `p10`: one call in ten is no better."""

    p10: Mos
    p50: Mos
    p90: Mos


class ByBand(Answer):
    """How many calls are in which band."""

    best: Count
    high: Count
    medium: Count
    low: Count
    poor: Count
    bad: Count
    unknown: Count = Field(description="Too little is known of them.")


class Network(Answer):
    """The calls of the devices in one network."""

    network: str = Field(description="As far as it is no one's own address.", examples=["198.51.100.0/24"])
    calls: Count
    devices: Count
    mos: Mos
    loss_percent: Measured
    rtt_ms: Measured
    relay_share: Share


class Media(Answer):
    """How the calls of the last hour sound. Means are over calls."""

    at: Time
    window_seconds: int
    total: Count = Field(description="How many were told of.")
    calls: Count = Field(description="How many of them were looked at, the last told of.")
    cut: bool = Field(description="There are more than were looked at.")
    live: Count
    scored: Count
    mos: MosPercentiles
    bands: ByBand
    loss_percent: Measured
    rtt_ms: Measured
    relay_share: Share = Field(description="Of the calls whose path is known, those through a relay.")
    switch_overs: Count
    networks: list[Network] = Field(description="The worst ones first, ten at most, each with three calls or more.")


class Advice(Answer):
    """What a page is to limit its sending to."""

    max_bitrate: Count = Field(description="Bits a second.", examples=[32000])
    why: Literal["loss", "rtt", "recovered"]


class Taken(Answer):
    """What became of a report."""

    stored: Count = Field(description="Items that were new.")
    next: Count = Field(description="The number of the first item that was not got yet: those before may be forgotten.")
    advice: Advice | None


class WantedCallToken(BaseModel):
    """Which call of which device a token is to be for."""

    model_config = ConfigDict(extra="forbid")

    device: str = Field(
        min_length=1,
        max_length=MAX_DEVICE,
        pattern=SHOWN,
        description="What a person calls it. An id of a device that was not seen yet will do as well.",
        examples=["alice"],
    )
    call_id: str = Field(
        min_length=1,
        max_length=MAX_CALL_ID,
        pattern=SHOWN,
        description="The Call-ID.",
        examples=["5f2c1b0e9a@phone.example.com"],
    )
    minutes: int | None = Field(None, ge=1, le=MAX_MINUTES, description="How long it is good; null: as configured.")


class CallToken(Answer):
    """A token for telling of one call."""

    token: str = Field(description="A JSON Web Token.")
    expires_at: Time


class Alive(BaseModel):
    status: Literal["alive"]


class Ready(BaseModel):
    status: Literal["ready", "not ready"]
    reasons: list[str] = Field(default=[], description="Why not; told only to who may read.")
