"""Hold the whole configuration, and check what concerns several tables."""

from typing import Literal, Self

from pydantic import Field, model_validator

from companion import quality
from companion.config.bus import BridgeSection, ConsumerSection
from companion.config.http import ApiSection, MetricsSection
from companion.config.media import MediaSection
from companion.config.opensips import OpensipsSection, PingsSection, ReconcileSection
from companion.config.remediation import RemediationSection
from companion.config.section import ConfigSection
from companion.config.trace import TraceSection


class RedisSection(ConfigSection):
    url: str = Field("redis://127.0.0.1:6379/0", repr=False)
    prefix: str = "companion:"
    series: Literal["auto", "timeseries", "streams"] = "auto"
    retention_days: int = Field(7, ge=1, le=366)
    shards: int = Field(0, ge=0, le=4096)


class QualitySection(ConfigSection):
    excellent: int = Field(100, gt=0)
    good: int = Field(150, gt=0)
    fair: int = Field(200, gt=0)
    poor: int = Field(400, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.excellent < self.good < self.fair < self.poor:
            raise ValueError("the bounds must rise: excellent < good < fair < poor")
        return self

    @property
    def bounds(self) -> quality.Bounds:
        return quality.Bounds(self.excellent, self.good, self.fair, self.poor)


class LogSection(ConfigSection):
    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(ConfigSection):
    redis: RedisSection = RedisSection()
    bridge: BridgeSection = BridgeSection()
    consumer: ConsumerSection = ConsumerSection()
    pings: PingsSection = PingsSection()
    opensips: tuple[OpensipsSection, ...] = ()
    reconcile: ReconcileSection = ReconcileSection()
    remediation: RemediationSection = RemediationSection()
    api: ApiSection = ApiSection()
    metrics: MetricsSection = MetricsSection()
    media: MediaSection = MediaSection()
    trace: TraceSection = TraceSection()
    quality: QualitySection = QualitySection()
    log: LogSection = LogSection()

    @model_validator(mode="after")
    def _check(self) -> Self:
        nodes = [table.node for table in self.opensips]
        twice = {node for node in nodes if nodes.count(node) > 1}
        if twice:
            raise ValueError(f"opensips: node {min(twice)!r} is there twice")
        for table in self.opensips:
            if table.subscribe and not table.events_to and not self.bridge.has_input:
                raise ValueError(
                    f"opensips: node {table.node!r} has subscribe = true, but there is no address for its events: "
                    "set events_to, or [bridge] datagram or stream"
                )
        return self

    def cluster(self, node: str) -> str:
        """Return the cluster of a node, which is the node's own name by default."""
        return next((table.cluster for table in self.opensips if table.node == node and table.cluster), node)
