"""Answer errors with RFC 9457 problems: `{type, title, status, detail, remedy, …}`."""

from typing import Any, Final

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from companion import log
from companion.credentials import mask
from companion.errors import (
    CanNotPingError,
    CanNotRecordError,
    InvalidReportError,
    NoSuchCallError,
    NoSuchDeviceError,
    NotReplicatedError,
    ReportBudgetError,
    SeveralCallsError,
    SeveralDevicesError,
)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 5
_TYPE: Final = "urn:opensips-companion:problem:"

logger = log.get(__name__)


class Mistake(BaseModel):
    """Represent one mistake in a request."""

    where: str = Field(description="Which part of it.", examples=["query.limit"])
    message: str = Field(examples=["Input should be less than or equal to 500"])


class Problem(BaseModel):
    """Represent an error and its remedy (RFC 9457)."""

    type: str = Field(
        description="Which problem, for programs; it stays the same.", examples=[f"{_TYPE}no-such-device"]
    )
    title: str = Field(description="Which problem, for people.", examples=["No such device"])
    status: int = Field(description="The HTTP status, again.", examples=[404])
    detail: str = Field(description="What is wrong this time.", examples=["no device is called 'alcie'"])
    remedy: str = Field(description="What to do about it.", examples=["GET /api/v1/devices?search=…"])


class SeveralDevices(Problem):
    devices: list[str] = Field(description="The devices that the name can mean.")


class SeveralCalls(Problem):
    devices: list[str] = Field(description="The devices that reported the call.")


class WrongRequest(Problem):
    mistakes: list[Mistake] = Field(default=[], description="All that is wrong with the request.")


class ProblemError(Exception):
    """Answer the request of a route with a problem; `more` are members of its own."""

    def __init__(self, status: int, name: str, title: str, detail: str, remedy: str, **more: Any) -> None:
        super().__init__(detail)
        self.name = name
        self.status = status
        self.headers: dict[str, str] = {}
        self.body = {
            "type": _TYPE + name,
            "title": title,
            "status": status,
            "detail": mask(detail),
            "remedy": remedy,
            **more,
        }

    def with_headers(self, **headers: str) -> "ProblemError":
        """Add headers, such as `retry_after`."""
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers, MEDIA_TYPE)


def no_such_device(error: NoSuchDeviceError) -> ProblemError:
    remedy = "GET /api/v1/devices?search=… finds devices by a part of their id, AOR or user agent"
    return ProblemError(404, "no-such-device", "No such device", error.detail, remedy)


def several_devices(error: SeveralDevicesError) -> ProblemError:
    remedy, devices = "repeat the request with one of `devices`, exactly as written", list(error.devices)
    return ProblemError(409, "several-devices", "Several devices", error.detail, remedy, devices=devices)


def no_such_call(error: NoSuchCallError) -> ProblemError:
    remedy = "GET /api/v1/calls and GET /api/v1/devices/{id}/calls list calls; they are kept as long as pings"
    return ProblemError(404, "no-such-call", "No such call", error.detail, remedy)


def several_calls(error: SeveralCallsError) -> ProblemError:
    remedy, devices = "repeat the request with one of `devices` as `device`", list(error.devices)
    return ProblemError(409, "several-calls", "Several calls", error.detail, remedy, devices=devices)


def can_not_ping(error: CanNotPingError) -> ProblemError:
    return ProblemError(409, "can-not-ping", "Can not be pinged", error.detail, error.remedy)


def can_not_record(error: CanNotRecordError) -> ProblemError:
    return ProblemError(409, "can-not-record", "Can not be recorded", error.detail, error.remedy)


def too_many_pings(detail: str, seconds: int) -> ProblemError:
    problem = ProblemError(429, "too-many-pings", "Too many pings", detail, f"wait {seconds} s")
    return problem.with_headers(retry_after=str(seconds))


def login_needed(*, wrong: bool) -> ProblemError:
    """Return the problem of a request without a token; `wrong` when its token is unknown."""
    detail = "this token is not known here" if wrong else "this needs a token"
    remedy = "send `Authorization: Bearer TOKEN`; `companion token new NAME` makes one for [api] tokens"
    challenge = 'Bearer realm="companion"' + (', error="invalid_token"' if wrong else "")
    problem = ProblemError(401, "login-needed", "Login needed", detail, remedy)
    return problem.with_headers(www_authenticate=challenge)


def not_allowed() -> ProblemError:
    detail, remedy = "this token may only read", "use a token of scope operate"
    problem = ProblemError(403, "not-allowed", "Not allowed", detail, remedy)
    return problem.with_headers(www_authenticate='Bearer error="insufficient_scope", scope="operate"')


def foreign_page() -> ProblemError:
    detail = "a page of another site, or of one without a name, sent the request"
    return ProblemError(403, "foreign-page", "From another site", detail, "programs send a token, not a cookie")


def wrong_host(name: str) -> ProblemError:
    detail = f"this server is not called {name!r}" if name else "the request names no host"
    remedy = "add the name to [api] hosts, or use a name that is there; a proxy must pass on Host"
    return ProblemError(421, "wrong-host", "Wrong host", detail, remedy)


def too_large(limit: int) -> ProblemError:
    return ProblemError(413, "too-large", "Too large", f"a body may have at most {limit} bytes here", "send less")


def media_off() -> ProblemError:
    detail, remedy = "this companion takes no reports of calls", "set [media] secret_file"
    return ProblemError(404, "media-off", "Media is off", detail, remedy)


def call_token_needed(*, wrong: bool) -> ProblemError:
    """Return the problem of a report without a token; `wrong` when its token is invalid."""
    detail = "this token is not valid for reports of calls" if wrong else "this needs a token for the call"
    remedy = (
        "POST /api/v1/media-tokens makes one; send it as `Authorization: Bearer TOKEN`, or as `token` in the report"
    )
    challenge = 'Bearer realm="last-mile"' + (', error="invalid_token"' if wrong else "")
    name, title = ("token-wrong", "Wrong token") if wrong else ("token-needed", "Token needed")
    problem = ProblemError(401, name, title, detail, remedy)
    return problem.with_headers(www_authenticate=challenge)


def token_expired() -> ProblemError:
    detail, remedy = "the token has expired", "get another one: POST /api/v1/media-tokens"
    problem = ProblemError(401, "token-expired", "Token expired", detail, remedy)
    return problem.with_headers(www_authenticate='Bearer realm="last-mile", error="invalid_token"')


def foreign_call() -> ProblemError:
    detail, remedy = "the token is of another device or call", "get one for this device and call"
    return ProblemError(403, "foreign-call", "Wrong call", detail, remedy)


def foreign_origin() -> ProblemError:
    detail = "a page of another site sent the request"
    return ProblemError(403, "foreign-page", "From another site", detail, "add its origin to [media] origins")


def wrong_report(error: InvalidReportError) -> ProblemError:
    remedy = "send what docs/media.md describes"
    return ProblemError(422, "wrong-report", "Invalid report", error.detail, remedy)


def too_many_reports(seconds: int) -> ProblemError:
    detail = "this call is reported more often than [media] reports_per_minute allows"
    problem = ProblemError(429, "too-many-reports", "Too many reports", detail, f"wait {seconds} s")
    return problem.with_headers(retry_after=str(seconds))


_BUDGETS: Final = {
    "calls": ("too-many-calls", "Too many calls", "the device has more new calls than [media] calls_per_hour allows"),
    "bytes": ("too-much-media", "Too much media", "the device reports more than [media] megabytes_per_hour allows"),
    "all_bytes": (
        "fleet-too-much-media",
        "Too much media of all devices",
        "all devices together report more than [media] max_megabytes_per_hour allows",
    ),
    "all_calls": (
        "fleet-too-many-calls",
        "Too many calls of all devices",
        "as many calls are stored as [media] max_stored_calls allows",
    ),
}


def over_budget(error: ReportBudgetError) -> ProblemError:
    """Return the problem of a report that would make us keep too much."""
    problem = ProblemError(429, *_BUDGETS[error.budget], f"wait {error.seconds} s")
    return problem.with_headers(retry_after=str(error.seconds))


def too_slow(seconds: float) -> ProblemError:
    detail = f"the report did not come in within {seconds:g} s"
    problem = ProblemError(503, "too-slow", "Too slow", detail, "send it again")
    return problem.with_headers(retry_after=str(RETRY_SECONDS))


def too_busy() -> ProblemError:
    detail, remedy = "too many reports wait to be stored", f"send it again in {RETRY_SECONDS} s"
    return ProblemError(503, "too-busy", "Too busy", detail, remedy).with_headers(retry_after=str(RETRY_SECONDS))


def too_many_logins(seconds: int) -> ProblemError:
    detail, remedy = "too many failed logins", f"wait {seconds} s"
    return ProblemError(429, "too-many-logins", detail.capitalize(), detail, remedy).with_headers(
        retry_after=str(seconds)
    )


def too_many_streams(limit: int) -> ProblemError:
    remedy = "close some, or poll GET /api/v1/devices/{id}"
    problem = ProblemError(503, "too-many-streams", "Too many streams", f"{limit} streams are open", remedy)
    return problem.with_headers(retry_after=str(RETRY_SECONDS))


def redis_away(error: Exception) -> ProblemError:
    detail = f"Redis does not answer as it should: {type(error).__name__}"
    problem = ProblemError(503, "redis-away", "Redis is away", detail, "try again; `companion doctor` tells more")
    return problem.with_headers(retry_after=str(RETRY_SECONDS))


def fleet_not_read(error: Exception) -> ProblemError:
    problem = ProblemError(503, "fleet-not-read", "The fleet is being read", str(error), "try again in a moment")
    return problem.with_headers(retry_after=str(RETRY_SECONDS))


def not_replicated(error: NotReplicatedError) -> ProblemError:
    problem = ProblemError(503, "not-replicated", "A failover may undo this", error.detail, error.remedy)
    return problem.with_headers(retry_after=str(RETRY_SECONDS))


def wrong_usage(detail: str) -> ProblemError:
    remedy = "see /api/v1/openapi.json"
    return ProblemError(422, "wrong-request", "Invalid request", detail, remedy)


def broken() -> ProblemError:
    detail, remedy = "an internal error happened", "the companion's log has the reason"
    return ProblemError(500, "broken", "Internal error", detail, remedy)


def documented(*more: int, **otherwise: str) -> dict[int | str, dict[str, Any]]:
    """Describe the problems that a route may answer with, for the OpenAPI document.

    Args:
        more: Statuses beside those that every route has.
        otherwise: What a status means for this route where that is not the usual: `_404="There is no such call."`.

    """
    meanings = {
        401: "The token is missing or unknown: see `WWW-Authenticate`.",
        403: "The token may only read.",
        404: "There is no such device.",
        409: "Several devices have this name.",
        413: "The body is too large.",
        421: "The host name is not in [api] hosts.",
        422: "The request is invalid.",
        429: "Too often: see `Retry-After`.",
        500: "Internal error.",
        503: "Redis is away, or too many streams are open: see `Retry-After`.",
    }
    own_meanings = {int(status.removeprefix("_")): text for status, text in otherwise.items()}
    meanings |= own_meanings
    models: dict[int, type[Problem]] = {409: SeveralDevices, 422: WrongRequest}
    return {
        status: {"model": models.get(status, Problem), "description": meanings[status]}
        for status in sorted({401, 421, 422, 500, 503, *more, *own_meanings})
    }
