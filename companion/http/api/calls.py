"""Serve calls over HTTP: lists, single calls, their quality, and the tokens that browsers need to report them."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from companion.http import problems
from companion.http.api.call_id import CallId
from companion.http.api.json_response import JsonResponse
from companion.http.api.models.call_quality import MediaModel
from companion.http.api.models.call_tokens import CallTokenModel, CallTokenRequestModel
from companion.http.api.models.calls import CallPageModel, FleetCallsModel
from companion.http.api.reader import ReaderDependency
from companion.http.api.window import WindowQuery
from companion.http.reports.endpoint import IntakeDependency
from companion.query.reader import MAX_CALLS
from companion.text import Json
from companion.times import iso
from companion.tokens.call import MAX_DEVICE

router = APIRouter(tags=["calls"])


class CallsQuery(WindowQuery):
    """Choose a page of the calls of a window."""

    cursor: str = Field("", description="`next` of the page before.", pattern=r"^([0-9]{1,16}-[0-9a-f]{16})?$")
    limit: int = Field(50, ge=1, le=MAX_CALLS, description="Calls on a page.")


class CallQuery(BaseModel):
    """Choose the side of the call."""

    model_config = ConfigDict(extra="forbid")

    device: str = Field(
        "",
        description="The device that told of it, where several did: its id, its AOR or its SIP instance.",
        max_length=MAX_DEVICE,
    )


@router.get("/calls", response_model=FleetCallsModel, responses=problems.documented())
def list_calls(reader: ReaderDependency, query: Annotated[CallsQuery, Query()]) -> JsonResponse:
    """List the calls of all devices with a report in a window, those last reported first, a page at a time."""
    return JsonResponse(reader.fleet_calls(query.ms, query.cursor, query.limit))


@router.get(
    "/calls/{call_id}",
    response_model=CallPageModel,
    responses=problems.documented(404, _404="There is no such call.")
    | {409: {"model": problems.SeveralCalls, "description": "Several devices told of this call: say which."}},
)
def one_call(reader: ReaderDependency, call_id: CallId, query: Annotated[CallQuery, Query()]) -> JsonResponse:
    """Return all about one call as one device saw it: how it sounded each second, and the cause when it was bad."""
    return JsonResponse(reader.call(call_id, query.device))


@router.get("/media", response_model=MediaModel, responses=problems.documented())
def media(reader: ReaderDependency) -> JsonResponse:
    """Return how the calls of the last hour sound, all together, as of half a minute ago."""
    return JsonResponse(reader.media())


@router.post("/media-tokens", response_model=CallTokenModel, responses=problems.documented(403, 404, 409))
def make_token(intake: IntakeDependency, call: CallTokenRequestModel) -> Json:
    """Make a token with which a page may report one call of one device. Needs scope `operate`."""
    token, until = intake.make_token(call.device, call.call_id, call.minutes)
    return {"token": token, "expires_at": iso(1000 * until)}
