"""What a request asks for: which device, which window, and whom we ask in turn."""

from typing import Annotated, Literal
from urllib.parse import unquote

import msgspec
from fastapi import Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from companion.http.events.hub import Hub
from companion.query.reader import Reader
from companion.text import Json
from companion.times import WINDOWS_MS


def _reader(request: Request) -> Reader:
    reader: Reader = request.app.state.reader
    return reader


def _hub(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    return hub


AReader = Annotated[Reader, Depends(_reader)]
AHub = Annotated[Hub, Depends(_hub)]


class WindowQuery(BaseModel):
    """How far to look back."""

    model_config = ConfigDict(extra="forbid")

    window: Literal["3h", "6h", "12h", "24h", "7d"] = Field("24h", description="How far to look back.")

    @property
    def ms(self) -> int:
        return WINDOWS_MS[self.window]


AWindow = Annotated[WindowQuery, Query()]


def _device(
    device_id: Annotated[
        str,
        Path(
            alias="id",
            min_length=1,
            max_length=4096,
            description="What a person calls it: its id, its SIP instance or its AOR when that is one device alone. "
            "Percent-encode it as one segment: `/` as %2F, `%` as %25.",
            examples=["alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a", "alice"],
        ),
    ],
) -> str:
    return unquote(device_id)


ADevice = Annotated[str, Depends(_device)]


class Told(Response):
    """An answer of the reader's as JSON.

    That it is as its model says is what tests prove: to look at each of a week's pings takes longer than reading them.
    """

    media_type = "application/json"

    def render(self, content: Json) -> bytes:
        return msgspec.json.encode(content)
