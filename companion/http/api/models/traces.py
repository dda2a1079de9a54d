"""Describe traces and recordings in the OpenAPI document."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from companion.http.api.models.base import ApiModel
from companion.http.api.models.values import Count, DeviceId, NodeName, Time
from companion.recording.recordings import DEFAULT_MINUTES, MAX_MINUTES

Address = Field(description="`ip:port`.", examples=["192.0.2.7:40000"])


class RecordingRequestModel(BaseModel):
    """Choose how long to record."""

    model_config = ConfigDict(extra="forbid")

    minutes: int = Field(DEFAULT_MINUTES, ge=1, le=MAX_MINUTES, description="How long to record.")


class RecordingModel(ApiModel):
    """Represent a recording."""

    device: DeviceId
    by: str = Field(description="Who asked for it: the name of a token.", examples=["support"])
    started_at: Time
    ends_at: Time


class StartedModel(RecordingModel):
    """Represent a recording that was started."""

    failures: dict[str, str] = Field(description="Why a node does not mirror messages yet, by node. It is tried again.")


class StoppedModel(ApiModel):
    """Represent the end of a recording. Its trace is kept."""

    device: DeviceId
    failures: dict[str, str] = Field(description="Why a node still mirrors messages, by node. It is stopped later.")


class ListedRecordingModel(RecordingModel):
    """Represent a recording in the list."""

    messages: Count = Field(description="Messages in the trace of the device.")


class RecordingsModel(ApiModel):
    """Represent the recordings that go on."""

    recordings: list[ListedRecordingModel]


class ParticipantModel(ApiModel):
    """Represent a column of the ladder."""

    role: Literal["phone", "opensips", "other"]
    name: str
    addresses: list[str]


class StepModel(ApiModel):
    """Represent one message."""

    number: Count = Field(description="Its number in the whole trace.")
    at: Time
    at_us: Count = Field(description="Epoch microseconds, by the clock of OpenSIPS.")
    from_: Count = Field(alias="from", description="The participant that sent it: an index of `participants`.")
    to: Count = Field(description="The participant that it went to.")
    label: str = Field(description="Method, or status line.", examples=["INVITE", "486 Busy Here"])
    method: str = Field(description="Method of its transaction.", examples=["INVITE"])
    call_id: str
    cseq: Count
    repeat: bool = Field(description="It was sent before, word for word.")
    failed: bool = Field(description="It is an error, or what the explanation points at.")
    shared: bool = Field(description="It may be of another device of the same AOR.")
    protocol: str = Field(examples=["ws"])
    source: str = Address
    target: str = Address
    node: NodeName
    text: str = Field(description="The whole message, without secrets.")
    homer_url: str | None = Field(description="Its call in Homer; null without `[trace] homer_url`.")


class ExplanationModel(ApiModel):
    """Represent what failed."""

    text: str
    step: Count = Field(description="`number` of the message that failed.")


class LadderModel(ApiModel):
    """Represent SIP messages as a ladder."""

    total: Count = Field(description="Messages that were read, before any choice.")
    cut: bool = Field(description="There are more than 1000, or more than 32 MB of them; these are the newest.")
    methods: list[str]
    call_ids: list[str]
    participants: list[ParticipantModel]
    explanation: ExplanationModel | None
    shared: bool = Field(description="Some messages may be of another device of the same AOR.")
    steps: list[StepModel]


class TraceModel(LadderModel):
    """Represent the trace of a device."""

    device: DeviceId
    recording: RecordingModel | None = Field(description="Null when it is not recorded now.")
