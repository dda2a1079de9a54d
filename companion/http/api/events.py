"""Stream one device, or the fleet, as it changes."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel, ConfigDict, Field

from companion.http import problems
from companion.http.access.guard import scope_of
from companion.http.events.hub import Hub
from companion.http.middleware.head import is_head

router = APIRouter(tags=["live"])

_CONTENT: Final[dict[str, Any]] = {
    str(EventSourceResponse.media_type): {
        "schema": {"type": "string"},
        "example": "retry: 3000\n\nevent: sample\ndata: [1795512600123, 48]\nid: 1795512600123\n\n: alive\n\n",
    }
}


async def _find_hub(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    return hub


HubDependency = Annotated[Hub, Depends(_find_hub)]


class EventsQuery(BaseModel):
    """Choose the stream."""

    model_config = ConfigDict(extra="forbid")

    device: str = Field("", description="The device, as in `/devices/{id}`. Without it the fleet.", max_length=4096)


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses=problems.documented(404, 409)
    | {200: {"description": "Events, for as long as the client listens.", "content": _CONTENT}},
)
async def events(
    hub: HubDependency,
    request: Request,
    query: Annotated[EventsQuery, Query()],
    last_event_id: Annotated[
        str, Header(description="Of one device: tell first what happened since then (epoch ms), of the last hour.")
    ] = "",
) -> Response:
    """Watch live, as server-sent events.

    Of one device: `status` (its row, first of all and whenever it changes), `sample` (`[epoch ms, ms or null]`) and
    `timeline`. Of the fleet: `summary`, `nodes` and `remediation`, first of all and whenever they change. In both
    `trouble`, a problem, when events can not be read for a while.
    """
    if is_head(request.scope):
        return Response(media_type=EventSourceResponse.media_type)
    if not query.device:
        return await hub.open_fleet(lambda: scope_of(request) != "none")
    since = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) <= 13 else 0
    return await hub.open_device(query.device, since, lambda: scope_of(request) != "none")
