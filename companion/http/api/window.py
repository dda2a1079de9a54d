"""Read how far to look back from the query of a request."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from companion.times import WINDOWS_MS


class WindowQuery(BaseModel):
    """Choose how far to look back."""

    model_config = ConfigDict(extra="forbid")

    window: Literal["3h", "6h", "12h", "24h", "7d"] = Field("24h", description="How far to look back.")

    @property
    def ms(self) -> int:
        return WINDOWS_MS[self.window]


Window = Annotated[WindowQuery, Query()]
