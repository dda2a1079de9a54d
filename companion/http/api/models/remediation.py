"""Describe remediation in the OpenAPI document."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from companion.http.api.models.base import ApiModel
from companion.http.api.models.values import Count, Cursor, DeviceId, NodeName, Time


class DecisionModel(ApiModel):
    """Represent one decision, with the evidence for it and what came of it; or a recording that somebody asked for.

    A recording has no contact, node, mode or evidence.
    """

    at: Time
    device: DeviceId
    aor: str
    uri: str
    contact: str
    node: NodeName
    reason: str = Field(
        description="lost-pings, disconnected, ghost or doubted; of a recording requested or over.",
        examples=["lost-pings"],
    )
    since: Time | None = Field(description="Since when the contact fails.")
    lost: Count
    action: str = Field(description="push, remove, keep or wait; or record.", examples=["remove"])
    why: str
    mode: str = Field(description="In `observe` nothing was done.", examples=["enforce"])
    fence: int = Field(description="Whose turn it was: larger with each sweeper.")
    result: str = Field(examples=["removed"])
    answer: str = Field(description="What MI said.")
    duration_ms: Count = Field(description="How long MI took.")
    attempt: Count = Field(description="Which push it was.")
    after_ms: Count = Field(description="From the first push to the device's answer.")
    evidence: str = Field("", description="What a removal rests on, as a JSON object.")
    by: str = Field(description="Who asked for a recording.", examples=["support"])
    minutes: Count = Field(description="How long the recording was to last.")


class RemediationsModel(ApiModel):
    """Hold a page of decisions, newest first."""

    remediations: list[DecisionModel]
    next: Cursor


class RemediationModel(ApiModel):
    """Represent the state of remediation."""

    mode: Literal["observe", "enforce"]
    paused_seconds: Count = Field(description="How much longer nothing is done; 0: not paused.")
    last_sweep_at: Time | None
    candidates: Count = Field(description="Contacts that may be acted on, at the last sweep.")
    acted: Count
    waiting: str = Field(
        description="Contacts of the last sweep that were neither kept nor removed: how many, and why. Empty: none."
    )
    troubles: str = Field(description="What keeps it from acting; empty: nothing.")
    open_breakers: dict[str, Time | None] = Field(
        description="Nodes, clusters and networks with a mass event, and since when."
    )
    off_since: Time | None = Field(description="Since when it is switched off and only observes.")
    suspects: Count = Field(description="Removals of the last hour whose phone registered again.")
    removed_by_opensips: dict[str, int] = Field(description="Contacts that OpenSIPS itself removed, by node.")


class PauseModel(BaseModel):
    """Request a pause of remediation."""

    model_config = ConfigDict(extra="forbid")

    seconds: int = Field(ge=1, le=30 * 86_400, description="A month at most.", examples=[1800])
