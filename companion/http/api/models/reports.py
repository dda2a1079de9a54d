"""Describe the answer to a report in the OpenAPI document."""

from typing import Literal

from pydantic import Field

from companion.http.api.models.base import ApiModel
from companion.http.api.models.values import Count


class AdviceModel(ApiModel):
    """Limit what a page sends."""

    max_bitrate: Count = Field(description="Bits a second.", examples=[32000])
    why: Literal["loss", "rtt", "recovered"]


class ReceiptModel(ApiModel):
    """Acknowledge a report."""

    stored: Count = Field(description="Items that were new.")
    next: Count = Field(description="The number of the first item that was not got yet: those before may be forgotten.")
    advice: AdviceModel | None
