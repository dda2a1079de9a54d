"""Describe tokens for reporting calls in the OpenAPI document."""

from pydantic import BaseModel, ConfigDict, Field

from companion.http.api.models.base import ApiModel
from companion.http.api.models.values import Time
from companion.text import SAFE_TEXT
from companion.tokens.call import MAX_CALL_ID, MAX_DEVICE, MAX_MINUTES


class CallTokenRequestModel(BaseModel):
    """Request a token for one call of one device."""

    model_config = ConfigDict(extra="forbid")

    device: str = Field(
        min_length=1,
        max_length=MAX_DEVICE,
        pattern=SAFE_TEXT,
        description="What a person calls it. An id of a device that was not seen yet will do as well.",
        examples=["alice"],
    )
    call_id: str = Field(
        min_length=1,
        max_length=MAX_CALL_ID,
        pattern=SAFE_TEXT,
        description="The Call-ID.",
        examples=["5f2c1b0e9a@phone.example.com"],
    )
    minutes: int | None = Field(None, ge=1, le=MAX_MINUTES, description="How long it is good; null: as configured.")


class CallTokenModel(ApiModel):
    """Hold a token for reporting one call."""

    token: str = Field(description="A JSON Web Token.")
    expires_at: Time
