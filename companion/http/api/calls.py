"""Calls over HTTP: what browsers tell of their media, the tokens they need for it, and what came of it all."""

from typing import Annotated, Any, Final
from urllib.parse import unquote

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from companion.http import problems
from companion.http.api import models
from companion.http.api.parameters import AReader, Told, WindowQuery
from companion.http.reports import endpoint
from companion.http.reports.intake import Intake
from companion.media.report import Report
from companion.query.reader import MAX_CALLS
from companion.text import SHOWN, Json
from companion.times import iso
from companion.tokens.call import MAX_CALL_ID, MAX_DEVICE, is_name

router = APIRouter(tags=["calls"])

(_REPORT,), _PARTS = msgspec.json.schema_components([Report], ref_template="#/components/schemas/Told{name}")
SCHEMAS: Final = {f"Told{name}": schema for name, schema in _PARTS.items()}
"""What a report is made of, for the OpenAPI document: pydantic does not know of it."""
_SAID: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "JSON, whatever the Content-Type says: sendBeacon can only say text/plain.",
        "content": {"application/json": {"schema": _REPORT}},
    },
    "security": [{"call": []}, {}],
}


class CallsQuery(WindowQuery):
    """Which page of the calls of a window."""

    cursor: str = Field("", description="`next` of the page before.", pattern=r"^([0-9]{1,16}-[0-9a-f]{16})?$")
    limit: int = Field(50, ge=1, le=MAX_CALLS, description="Calls on a page.")


class CallQuery(BaseModel):
    """Whose side of the call."""

    model_config = ConfigDict(extra="forbid")

    device: str = Field(
        "",
        description="The device that told of it, where several did: its id, its AOR or its SIP instance.",
        max_length=MAX_DEVICE,
    )


class TakeQuery(BaseModel):
    """Whose call it is."""

    model_config = ConfigDict(extra="forbid")

    device: str = Field("", description="The device's id, if the token is to be checked for it.", max_length=MAX_DEVICE)


async def _intake(request: Request) -> Intake:  # async: FastAPI runs all else in a thread of its own
    intake: Intake = request.app.state.intake
    return intake


async def _call_id(
    call_id: Annotated[
        str,
        Path(
            # of what it is once it is decoded, and so nothing that FastAPI could look after
            json_schema_extra={"minLength": 1, "maxLength": MAX_CALL_ID, "pattern": SHOWN},
            description="The Call-ID. Percent-encode it as one segment: `/` as %2F, `%` as %25.",
            examples=["5f2c1b0e9a@phone.example.com"],
        ),
    ],
) -> str:
    said = unquote(call_id)
    if not is_name(said, MAX_CALL_ID):
        raise problems.wrong_usage(f"path.call_id: is longer than {MAX_CALL_ID} characters, or can not be shown")
    return said


AnIntake = Annotated[Intake, Depends(_intake)]
ACallId = Annotated[str, Depends(_call_id)]


@router.get("/calls", response_model=models.FleetCalls, responses=problems.documented())
def list_calls(reader: AReader, query: Annotated[CallsQuery, Query()]) -> Told:
    """List the calls of all devices that were told of in a window, those last told of first, a page at a time."""
    return Told(reader.fleet_calls(query.ms, query.cursor, query.limit))


@router.get(
    "/calls/{call_id}",
    response_model=models.CallPage,
    responses=problems.documented(404, _404="There is no such call.")
    | {409: {"model": problems.SeveralCalls, "description": "Several devices told of this call: say which."}},
)
def one_call(reader: AReader, call_id: ACallId, query: Annotated[CallQuery, Query()]) -> Told:
    """All about one call as one device saw it: how it sounded second by second, and whose fault it was when bad."""
    return Told(reader.call(call_id, query.device))


@router.get("/media", response_model=models.Media, responses=problems.documented())
def media(reader: AReader) -> Told:
    """How the calls of the last hour sound, all together, as of half a minute ago."""
    return Told(reader.media())


@router.post(
    "/calls/{call_id}/samples",
    response_model=models.Taken,
    responses=problems.documented(
        *(413, 429),
        _401="No token, or one that is wrong or expired.",
        _403="The token is of another device or call, or the page of an origin that is not allowed.",
        _404="This companion takes no reports: [media] has no secret.",
        _503="Redis is away, too much waits for it, or the report came in too slowly: see `Retry-After`.",
    ),
    openapi_extra=_SAID,
)
async def take_samples(
    intake: AnIntake, request: Request, call_id: ACallId, query: Annotated[TakeQuery, Query()]
) -> Response:
    """Take what a browser tells of its call. It needs a token of its own, see `/media-tokens`.

    A report may come twice, and may overlap with others: what is stored already is left out. The page may forget
    items with a number below `next`.
    """
    del call_id, query  # described above, read from the request as it is
    return await endpoint.take(intake, request)


@router.post("/media-tokens", response_model=models.CallToken, responses=problems.documented(403, 404, 409))
def make_token(intake: AnIntake, wanted: models.WantedCallToken) -> Json:
    """Make a token with which a page may tell of one call of one device. Needs scope `operate`."""
    made, until = intake.token(wanted.device, wanted.call_id, wanted.minutes)
    return {"token": made, "expires_at": iso(1000 * until)}
