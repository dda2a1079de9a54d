"""Serve traces over HTTP: start and stop recordings, and read the SIP messages of a device or a call."""

from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from companion.errors import CanNotRecordError
from companion.http import problems
from companion.http.access.guard import name_of
from companion.http.api.call_id import CallId
from companion.http.api.devices import DeviceName
from companion.http.api.json_response import JsonResponse
from companion.http.api.models.traces import (
    LadderModel,
    RecordingRequestModel,
    RecordingsModel,
    StartedModel,
    StoppedModel,
    TraceModel,
)
from companion.http.api.reader import ReaderDependency
from companion.query.traces import DeviceTrace, render_recording
from companion.recording.recordings import Recordings
from companion.trace.export import write_pcap, write_text

router = APIRouter(tags=["traces"])
SCOPE: Final = "Needs scope `operate`."
CUT: Final = "X-Trace-Cut"
"""The header of an export that says whether older messages were left out."""
_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    409: {
        "model": problems.SeveralDevices | problems.Problem,
        "description": "Several devices have this name, or it can not be recorded.",
    }
}


async def _find_recordings(request: Request) -> Recordings:
    recordings: Recordings = request.app.state.recordings
    return recordings


RecordingsDependency = Annotated[Recordings, Depends(_find_recordings)]


class TraceQuery(BaseModel):
    """Choose messages."""

    model_config = ConfigDict(extra="forbid")

    method: str = Field("", description="Only transactions of this method.", max_length=32, examples=["INVITE"])
    call_id: str = Field("", description="Only this call.", max_length=1024)


class ExportQuery(BaseModel):
    """Choose what to export."""

    model_config = ConfigDict(extra="forbid")

    call_id: str = Field("", description="Only this call.", max_length=1024)


@router.get("/recordings", response_model=RecordingsModel, responses=problems.documented())
def list_recordings(reader: ReaderDependency) -> JsonResponse:
    """List the recordings that go on, the first to end first."""
    return JsonResponse(reader.recordings())


@router.post(
    "/devices/{id:path}/trace", response_model=StartedModel, responses=problems.documented(403, 404) | _REFUSED
)
async def start_recording(
    request: Request, device: DeviceName, recordings: RecordingsDependency, length: RecordingRequestModel
) -> JsonResponse:
    """Record the SIP messages of one device for some minutes. Needs scope `operate`.

    OpenSIPS mirrors the messages of this device alone. A recording that goes on gets a new end.
    """
    try:
        started = await recordings.start(device, length.minutes, name_of(request))
    except CanNotRecordError as error:
        raise problems.can_not_record(error) from None
    return JsonResponse({**render_recording(started.recording), "failures": dict(started.failures)})


@router.delete(
    "/devices/{id:path}/trace", response_model=StoppedModel, responses=problems.documented(403, 404) | _REFUSED
)
async def stop_recording(request: Request, device: DeviceName, recordings: RecordingsDependency) -> JsonResponse:
    """End a recording; the trace is kept. Needs scope `operate`."""
    try:
        device_id, failures = await recordings.stop(device, name_of(request))
    except CanNotRecordError as error:
        raise problems.can_not_record(error) from None
    return JsonResponse({"device": device_id, "failures": dict(failures)})


@router.get("/devices/{id:path}/trace", response_model=TraceModel, responses=problems.documented(404, 409))
def trace(reader: ReaderDependency, device: DeviceName, query: Annotated[TraceQuery, Query()]) -> JsonResponse:
    """Return the SIP messages of one device as a ladder, oldest first, without secrets."""
    return JsonResponse(reader.trace(device, query.method, query.call_id))


@router.get(
    "/devices/{id:path}/trace.txt",
    response_class=Response,
    responses=problems.documented(404, 409)
    | {200: {"description": "Each message in full.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def trace_text(reader: ReaderDependency, device: DeviceName, query: Annotated[ExportQuery, Query()]) -> Response:
    """Return the SIP messages of one device as text; `X-Trace-Cut: true` when older ones are left out."""
    trace = reader.trace_packets(device, query.call_id)
    content = write_text(trace.packets).encode("utf-8", "replace")
    return Response(content, media_type="text/plain; charset=utf-8", headers=_attachment(trace, "txt"))


@router.get(
    "/devices/{id:path}/trace.pcap",
    response_class=Response,
    responses=problems.documented(404, 409)
    | {
        200: {
            "description": "Each message as one UDP datagram.",
            "content": {"application/vnd.tcpdump.pcap": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
def trace_pcap(reader: ReaderDependency, device: DeviceName, query: Annotated[ExportQuery, Query()]) -> Response:
    """Return the SIP messages of one device as a pcap file for Wireshark.

    `X-Trace-Cut: true` when older ones are left out.
    """
    trace = reader.trace_packets(device, query.call_id)
    return Response(
        write_pcap(trace.packets), media_type="application/vnd.tcpdump.pcap", headers=_attachment(trace, "pcap")
    )


@router.get("/calls/{call_id}/trace", response_model=LadderModel, responses=problems.documented())
def call_trace(reader: ReaderDependency, call_id: CallId) -> JsonResponse:
    """Return the SIP messages of a call, both legs, as far as one of its devices was recorded."""
    return JsonResponse(reader.call_trace(call_id))


@router.get("/calls/{call_id}/homer", include_in_schema=False)
def homer(request: Request, call_id: CallId) -> Response:
    """Redirect to a call in Homer: pages link to their own host alone."""
    template: str = request.app.state.homer_url
    if not template:
        raise HTTPException(404)
    return RedirectResponse(template.replace("{call_id}", quote(call_id, safe="")), 307)


def _attachment(trace: DeviceTrace, end: str) -> dict[str, str]:
    name = quote(f"{trace.device} trace.{end}", safe="")
    return {
        "Content-Disposition": f"attachment; filename=\"trace.{end}\"; filename*=UTF-8''{name}",
        CUT: "true" if trace.is_cut else "false",
    }
