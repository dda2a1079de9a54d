"""Describe how the calls of all devices sound in the OpenAPI document."""

from pydantic import Field

from companion.http.api.models.base import ApiModel
from companion.http.api.models.values import Count, Measured, Mos, Share, Time


class MosPercentilesModel(ApiModel):
    """Hold percentiles of the mean MOS of each call; null of none. `p10`: one call in ten is no better."""

    p10: Mos
    p50: Mos
    p90: Mos


class ByBandModel(ApiModel):
    """Count the calls by band."""

    best: Count
    high: Count
    medium: Count
    low: Count
    poor: Count
    bad: Count
    unknown: Count = Field(description="Too little is known of them.")


class NetworkModel(ApiModel):
    """Sum up the calls of the devices in one network."""

    network: str = Field(description="As far as it is no one's own address.", examples=["198.51.100.0/24"])
    calls: Count
    devices: Count
    mos: Mos
    loss_percent: Measured
    rtt_ms: Measured
    relay_share: Share


class MediaModel(ApiModel):
    """Sum up how the calls of the last hour sound. Means are over calls."""

    at: Time
    window_seconds: int
    total: Count = Field(description="How many were told of.")
    calls: Count = Field(description="How many of them were looked at, the last told of.")
    cut: bool = Field(description="There are more than were looked at.")
    live: Count
    scored: Count
    mos: MosPercentilesModel
    bands: ByBandModel
    loss_percent: Measured
    rtt_ms: Measured
    relay_share: Share = Field(description="Of the calls whose path is known, those through a relay.")
    switch_overs: Count
    networks: list[NetworkModel] = Field(
        description="The worst ones first, ten at most, each with three calls or more."
    )
