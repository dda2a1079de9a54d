"""Describe the answer to a ping in the OpenAPI document."""

from typing import Annotated

from pydantic import Field

from companion.http.api.models.base import ApiModel
from companion.http.api.models.values import DeviceId, NodeName
from companion.opensips.probe import ProbeResult


class PingModel(ApiModel):
    """Hold what came of one ping."""

    device: DeviceId
    result: ProbeResult = Field(
        description="`answered`: the device replied, with whatever status. `unanswered`: OpenSIPS sent the OPTIONS and "
        "gave up. `failed`: it could not be asked, which proves nothing of the device."
    )
    detail: str = Field(description="The status line, or what failed.", examples=["200 OK"])
    duration_ms: Annotated[float, Field(ge=0, examples=[34.2])]
    node: NodeName
