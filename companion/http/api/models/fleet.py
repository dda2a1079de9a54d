"""Describe the fleet and its nodes in the OpenAPI document."""

from typing import Literal

from pydantic import Field

from companion.http.api.models.base import ApiModel
from companion.http.api.models.values import Count, Milliseconds, NodeName, Share, Time


class ByStatusModel(ApiModel):
    """Count by status."""

    online: Count
    losing: Count
    unknown: Count
    stale: Count
    offline: Count
    total: Count


class PercentilesModel(ApiModel):
    """Hold percentiles over the last answered ping of each contact; null of nothing."""

    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    p99_ms: Milliseconds | None


class FeedModel(ApiModel):
    """Represent how well the events of one OpenSIPS come in."""

    node: NodeName
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
    ended_run: int = Field(description="The last run that told its end; 0 = none did.")
    removals: Count = Field(description="Contacts that OpenSIPS itself removed behind lost pings.")
    stream_breaks: Count = Field(description="How often the connection of event_stream ended.")
    interval_ms: Count = Field(description="How often the node pings a contact, as observed; 0 = not yet.")
    doubled: Count = Field(description="Pings that arrived twice.")
    refused: Count = Field(description="Events that could not be taken: their phones may be missing here.")
    refused_aor: str = Field(description="AOR of the last refused event; empty: it named none, or none was refused.")
    refused_why: str = Field(description="Why it was refused, as `companion_invalid_total` names it.")
    known_since: Time | None = Field(description="When the node was first heard of, or again after an hour.")
    left_out: Count = Field(description="Contacts that are not taken in now, because there are too many.")
    left_out_aor: str = Field(description="AOR of the last contact that was left out; empty: none is.")
    left_out_of_aor: Count = Field(description="How many of them are of this AOR.")
    left_out_why: Literal["", "contacts_of_aor", "devices_of_aor", "new_aors", "devices", "redis_full"] = Field(
        description="Which bound the last one exceeded."
    )
    refused_at: Time | None
    lost_at: Time | None = Field(description="When a loss of events was last noticed.")


class SummaryModel(ApiModel):
    """Sum up the fleet."""

    at: Time
    devices: ByStatusModel
    contacts: ByStatusModel
    contacts_by_node: dict[str, ByStatusModel]
    latency: PercentilesModel
    loss_ratio: Share
    nodes: list[FeedModel]


class PointModel(ApiModel):
    """Represent the fleet at one time."""

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


class HistoryModel(ApiModel):
    """Hold how the fleet was, oldest first."""

    window_seconds: int
    points: list[PointModel]


class NodeFeedModel(FeedModel):
    """Represent the feed of one OpenSIPS, and what there is at it."""

    contacts: Count | None = Field(description="Contacts that have not ended; null: not counted yet.")
    breaker: Time | None = Field(description="Since when a mass event keeps remediation from acting there.")
    consumer: str | None = Field(description="The consumer that stores its events now, as `host/process`; null: none.")
    heard_by: list[str] = Field(
        description="Consumers that hear it while nobody records it: the one that holds its cluster does not hear it."
    )


class NodesModel(ApiModel):
    """List all OpenSIPS that were ever heard of."""

    nodes: list[NodeFeedModel]
