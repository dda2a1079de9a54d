"""Read config.toml and the environment into checked, frozen models.

Every value has a default. `COMPANION_SECTION__KEY` in the environment overrides the file. A key that is unknown, of the
wrong type or impossible together with another raises ConfigError: one line for each problem, with the key and where it
came from.
"""

from companion.config.bus import BridgeSection, ConsumerSection
from companion.config.config import Config, LogSection, QualitySection, RedisSection
from companion.config.http import ApiSection, ListenSection, MetricsSection
from companion.config.loading import load
from companion.config.media import MediaSection
from companion.config.opensips import OpensipsSection, PingsSection, ReconcileSection
from companion.config.remediation import RemediationSection, Rule
from companion.config.section import ConfigSection
from companion.config.trace import TraceSection

__all__ = [
    "ApiSection",
    "BridgeSection",
    "Config",
    "ConfigSection",
    "ConsumerSection",
    "ListenSection",
    "LogSection",
    "MediaSection",
    "MetricsSection",
    "OpensipsSection",
    "PingsSection",
    "QualitySection",
    "ReconcileSection",
    "RedisSection",
    "RemediationSection",
    "Rule",
    "TraceSection",
    "load",
]
