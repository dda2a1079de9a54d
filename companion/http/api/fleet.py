"""Serve the fleet over HTTP: its summary and history, its nodes, and remediation."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from companion import log
from companion.errors import NotReplicatedError
from companion.http import problems
from companion.http.access.guard import name_of
from companion.http.api.answers import AnswersDependency
from companion.http.api.json_response import JsonResponse
from companion.http.api.models.fleet import HistoryModel, NodesModel, SummaryModel
from companion.http.api.models.remediation import PauseModel, RemediationModel, RemediationsModel
from companion.http.api.reader import ReaderDependency
from companion.http.api.window import Window

router = APIRouter()
logger = log.get(__name__)


class PageQuery(BaseModel):
    """Choose a page of a list."""

    model_config = ConfigDict(extra="forbid")

    cursor: str = Field("", description="`next` of the page before.", pattern=r"^([1-9][0-9]{0,14}-[0-9]{1,9})?$")
    limit: int = Field(50, ge=1, le=500, description="Entries on a page.")


@router.get("/summary", response_model=SummaryModel, responses=problems.documented(), tags=["fleet"])
async def summary(reader: ReaderDependency, answers: AnswersDependency) -> Response:
    """Return the summary of the fleet, as of a few seconds ago."""
    return await answers.respond("summary", reader.summary)


@router.get("/history", response_model=HistoryModel, responses=problems.documented(), tags=["fleet"])
def history(reader: ReaderDependency, window: Window) -> JsonResponse:
    """Return how the fleet was over a window."""
    return JsonResponse(reader.history(window.ms))


@router.get("/nodes", response_model=NodesModel, responses=problems.documented(), tags=["fleet"])
def nodes(reader: ReaderDependency) -> JsonResponse:
    """List each OpenSIPS, and how well its events come in."""
    return JsonResponse(reader.nodes())


@router.get("/remediations", response_model=RemediationsModel, responses=problems.documented(), tags=["remediation"])
def remediations(reader: ReaderDependency, page: Annotated[PageQuery, Query()]) -> JsonResponse:
    """List what remediation decided and did, and who recorded a device, newest first."""
    return JsonResponse(reader.remediations(page.cursor, page.limit))


@router.get("/remediation", response_model=RemediationModel, responses=problems.documented(), tags=["remediation"])
def remediation(reader: ReaderDependency) -> JsonResponse:
    """Return the state of remediation."""
    return JsonResponse(reader.remediation())


@router.post(
    "/remediation/pause",
    response_model=RemediationModel,
    responses=problems.documented(
        403, _503="Redis is away; or it is paused, but no replica of Redis has it yet: see `type`. Send it again."
    ),
    tags=["remediation"],
)
def pause(reader: ReaderDependency, request: Request, length: PauseModel) -> JsonResponse:
    """Pause remediation for a while, on all companions of this Redis. Needs scope `operate`."""
    try:
        reader.pause(length.seconds)
    except NotReplicatedError:
        logger.warning("remediation paused; no replica has it yet", by=name_of(request), seconds=length.seconds)
        raise
    logger.info("remediation paused", by=name_of(request), seconds=length.seconds)
    return JsonResponse(reader.remediation())


@router.post(
    "/remediation/resume", response_model=RemediationModel, responses=problems.documented(403), tags=["remediation"]
)
def resume(reader: ReaderDependency, request: Request) -> JsonResponse:
    """End a pause. Needs scope `operate`."""
    reader.resume()
    logger.info("remediation resumed", by=name_of(request))
    return JsonResponse(reader.remediation())
