"""Serve devices over HTTP: the list, one of them, its latency, its timeline, its calls, and a ping on request."""

import csv
import io
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated, Final
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from companion import log
from companion.errors import CanNotPingError
from companion.http import problems
from companion.http.access.guard import name_of
from companion.http.api.answers import AnswersDependency
from companion.http.api.json_response import JsonResponse
from companion.http.api.models.calls import CallsModel
from companion.http.api.models.devices import DeviceModel, DevicesModel, LatencyModel, TimelineModel
from companion.http.api.models.pings import PingModel
from companion.http.api.reader import ReaderDependency
from companion.http.api.window import Window, WindowQuery
from companion.http.device_pings import DevicePings, PingRefusedError
from companion.quality import Label
from companion.query.listing import MAX_LIMIT, Sort
from companion.query.listing import Query as FleetQuery
from companion.query.reader import MAX_POINTS, MIN_POINTS
from companion.times import iso
from companion.usrloc.contact import Status

router = APIRouter(tags=["devices"])
logger = log.get(__name__)

_PING: Final = "/ping"


DeviceName = Annotated[
    str,
    Path(
        alias="id",
        min_length=1,
        max_length=4096,
        description="What a person calls it: its id, its SIP instance or its AOR when that is one device alone. "
        "Percent-encode it as one segment: `/` as %2F, `%` as %25.",
        examples=["alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a", "alice"],
    ),
    AfterValidator(unquote),
]


class DevicesQuery(BaseModel):
    """Choose devices and their order. All conditions must fit."""

    model_config = ConfigDict(extra="forbid")

    status: tuple[Status, ...] = Field((), description="Any of these; may be repeated.", max_length=16)
    quality: tuple[Label, ...] = Field((), description="Last latency is any of these; may be repeated.", max_length=16)
    node: str = Field("", description="The OpenSIPS that pinged it last.", max_length=64)
    aor: str = Field("", description="Its AOR begins so.", max_length=256)
    user_agent: str = Field("", description="Its User-Agent contains this, in whatever case.", max_length=256)
    push: bool | None = Field(None, description="Whether it can be woken by push.")
    search: str = Field("", description="Its id, AOR or User-Agent contains this.", max_length=256)
    sort: Sort = Field("status", description="`status`: the worst first.")
    descending: bool = Field(default=False, description="The other way round; what has no value stays last.")
    cursor: str = Field("", description="`next` of the page before.", max_length=4096)
    limit: int = Field(50, ge=1, le=MAX_LIMIT, description="Devices on a page.")


class PointsQuery(WindowQuery):
    """Choose how far to look back, and how fine."""

    points: int = Field(288, ge=MIN_POINTS, le=MAX_POINTS, description="Buckets at most.")


async def _read_pings(request: Request) -> DevicePings:
    pings: DevicePings = request.app.state.pings
    return pings


PingsDependency = Annotated[DevicePings, Depends(_read_pings)]


@router.get("/devices", response_model=DevicesModel, responses=problems.documented())
async def list_devices(
    reader: ReaderDependency, answers: AnswersDependency, query: Annotated[DevicesQuery, Query()]
) -> Response:
    """List the devices that fit, sorted, a page at a time."""
    fleet_query = FleetQuery(**query.model_dump())
    return await answers.respond(fleet_query, partial(reader.devices, fleet_query))


@router.get("/devices/{id:path}/latency", response_model=LatencyModel, responses=problems.documented(404, 409))
def latency(reader: ReaderDependency, device: DeviceName, query: Annotated[PointsQuery, Query()]) -> JsonResponse:
    """Return the latency of one device over a window, for a graph."""
    return JsonResponse(reader.latency(device, query.ms, query.points))


@router.get("/devices/{id:path}/timeline", response_model=TimelineModel, responses=problems.documented(404, 409))
def timeline(reader: ReaderDependency, device: DeviceName, window: Window) -> JsonResponse:
    """Return what happened to one device in a window."""
    return JsonResponse(reader.timeline(device, window.ms))


@router.get("/devices/{id:path}/calls", response_model=CallsModel, responses=problems.documented(404, 409))
def calls(reader: ReaderDependency, device: DeviceName, window: Window) -> JsonResponse:
    """List the calls of one device that began in a window, newest first."""
    return JsonResponse(reader.calls(device, window.ms))


@router.get(
    "/devices/{id:path}/latency.csv",
    response_class=StreamingResponse,
    responses=problems.documented(404, 409)
    | {
        200: {
            "description": "One line a ping, oldest first. There is nothing in it but times and numbers.",
            "content": {
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "time,latency_ms\r\n2026-11-24T09:30:00.125Z,48\r\n2026-11-24T09:32:00.131Z,\r\n",
                }
            },
        }
    },
)
def latency_csv(reader: ReaderDependency, device: DeviceName, window: Window) -> StreamingResponse:
    """Return every ping of one device in a window as CSV; the latency of a lost one is empty."""
    page = reader.device(device, window.ms)
    name = quote(f"{page['device']} {window.window}.csv", safe="")
    return StreamingResponse(
        _csv(page["samples"]),
        media_type="text/csv",
        headers={"Content-Disposition": f"attachment; filename=\"latency.csv\"; filename*=UTF-8''{name}"},
    )


@router.post(
    "/devices/{id:path}" + _PING,
    response_model=PingModel,
    responses=problems.documented(403, 404, 429)
    | {
        409: {
            "model": problems.SeveralDevices | problems.Problem,
            "description": "Several devices have this name, or it can not be pinged now.",
        }
    },
)
async def ping_device(request: Request, device: DeviceName, pings: PingsDependency) -> JsonResponse:
    """Ping one device now, through the OpenSIPS that can reach it. Needs scope `operate`.

    It takes up to five seconds where nothing answers. What it measures becomes one entry of the timeline, together with
    pings that follow within ten seconds; it is no part of the latency.
    """
    try:
        device_id, reply = await pings.ping(device)
    except CanNotPingError as error:
        raise problems.can_not_ping(error) from None
    except PingRefusedError as error:
        raise problems.too_many_pings(error.detail, error.seconds) from None
    logger.debug("a device was pinged", by=name_of(request), result=reply.result, node=reply.node)
    return JsonResponse({"device": device_id, **reply._asdict(), "duration_ms": round(reply.duration_ms, 1)})


@router.get("/devices/{id:path}", response_model=DeviceModel, responses=problems.documented(404, 409))
def one_device(reader: ReaderDependency, request: Request, device: DeviceName, window: Window) -> JsonResponse:
    """Return all about one device: registration, latency over a window, contacts, pings, timeline."""
    if request.path_params["id"].endswith(_PING):  # this route has every path that no other takes
        raise HTTPException(405, headers={"Allow": "POST"})
    return JsonResponse(reader.device(device, window.ms))


def _csv(samples: Iterable[tuple[int, int | None]]) -> Iterator[str]:
    """Yield the lines in pieces of some kilobytes."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(("time", "latency_ms"))
    for ts, latency_ms in samples:
        writer.writerow((iso(ts), "" if latency_ms is None else latency_ms))
        if buffer.tell() > 1 << 16:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()
