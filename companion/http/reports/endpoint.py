"""Describe the route of reports for the OpenAPI document, and serve it; the intake does the work.

The parameters are read by hand: FastAPI takes as long for its layers as we do for all the rest of a report.
"""

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from companion.http import problems
from companion.http.api.call_id import CallId, decode_call_id
from companion.http.api.models.reports import ReceiptModel
from companion.http.reports.intake import Intake
from companion.media.report import Report
from companion.tokens.call import MAX_DEVICE

PATH: Final = "/calls/{call_id}/samples"

(_REPORT,), _PARTS = msgspec.json.schema_components([Report], ref_template="#/components/schemas/Told{name}")
SCHEMAS: Final = {f"Told{name}": schema for name, schema in _PARTS.items()}
"""The parts of a report for the OpenAPI document, which pydantic knows nothing of."""
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "JSON, whatever the Content-Type says: sendBeacon can only say text/plain.",
        "content": {"application/json": {"schema": _REPORT}},
    },
    "security": [{"call": []}, {}],
}


class ReportQuery(BaseModel):
    """Describe whose call it is."""

    model_config = ConfigDict(extra="forbid")

    device: str = Field("", description="The device's id, if the token is to be checked for it.", max_length=MAX_DEVICE)


async def find_intake(request: Request) -> Intake:  # async: FastAPI runs all else in a thread of its own
    intake: Intake = request.app.state.intake
    return intake


IntakeDependency = Annotated[Intake, Depends(find_intake)]


router = APIRouter(tags=["calls"])


@router.post(
    PATH,
    name="take_samples",
    response_model=ReceiptModel,
    responses=problems.documented(
        *(413, 429),
        _401="No token, or one that is wrong or expired.",
        _403="The token is of another device or call, or the page of an origin that is not allowed.",
        _404="This companion takes no reports: [media] has no secret.",
        _503="Redis is away, too much waits for it, or the report came in too slowly: see `Retry-After`.",
    ),
    openapi_extra=_BODY,
)
async def take_report(
    intake: IntakeDependency, request: Request, call_id: CallId, query: Annotated[ReportQuery, Query()]
) -> Response:
    """Take the report of a browser about its call. It needs a token of its own, see `/media-tokens`.

    A report may come twice, and may overlap with others: what is stored already is left out. The page may forget
    items with a number below `next`.
    """
    answer = await intake.take(request, call_id, query.device)
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def handle(request: Request) -> Response:
    """Serve the route without FastAPI. Raises ProblemError and RequestValidationError."""
    call_id = decode_call_id(request.path_params["call_id"])
    return await take_report(await find_intake(request), request, call_id, _read_query(request))


def _read_query(request: Request) -> ReportQuery:
    try:
        return ReportQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        raise RequestValidationError([{**mistake, "loc": ("query", *mistake["loc"])} for mistake in mistakes]) from None
